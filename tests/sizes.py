"""How much the long tests do: little in `./stint test --all`, all of it with STINT_TEST_FULL=1."""

import os

FULL = os.environ.get("STINT_TEST_FULL") == "1"

"""How large the longest tests are: small in `./stint test --all`, full where STINT_TEST_FULL=1 is set."""

import os

FULL = os.environ.get("STINT_TEST_FULL") == "1"

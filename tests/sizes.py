"""How large a test is: small in `./stint test --all`, and what is promised with STINT_TEST_FULL=1."""

import os

FULL = os.environ.get("STINT_TEST_FULL") == "1"

"""How large the tests are that could be of any size: small in `--all`, in full with STINT_TEST_FULL=1."""

import os

FULL = os.environ.get("STINT_TEST_FULL") == "1"

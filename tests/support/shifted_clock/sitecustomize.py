"""Python imports this at its start if the directory is in PYTHONPATH: the clock of the process is off by STINT_TEST_CLOCK
seconds, as far as `time.time` shows it."""

import os
import time

_time, _seconds = time.time, float(os.environ["STINT_TEST_CLOCK"])
time.time = lambda: _time() + _seconds

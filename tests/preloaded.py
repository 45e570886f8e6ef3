"""What the processes of Stint import before they begin, for tests/nursery.py. None of it does anything by being imported;
`actors.timers` and the like do: they register what a worker can handle, and a relay handles nothing."""

import gc
from importlib import import_module

for name in ("uvloop", "api.app", "api.server", "actors.relay", "actors.worker", "ops.cli", "ops.verify"):
    import_module(name)

gc.collect()
gc.freeze()  # so that no collection of a fork copies what they share

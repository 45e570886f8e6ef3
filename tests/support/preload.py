"""Modules that the fork server (fork_server.py) imports before it forks processes of Stint. Not `actors.timers` and the other
handlers: those register themselves for the process that imports them, and a relay has none."""

import gc
from importlib import import_module

from schemas.base import build_models
from schemas.starting import no_collections

API = ("uvloop", "api.app", "api.http.server")
ACTORS = ("actors.runtime.relay", "actors.runtime.worker")
OPS = (
    "ops.cli",
    "ops.verify",
    "ops.dead.run",
    "ops.running.diagnosis",
    "ops.users",
    "schemas.diagnosis.report.collect",
    "ops.up.up",
)
STAND_INS = ("ops.sandbox.slack.stand_in", "ops.sandbox.xero.stand_in")

with no_collections():  # frozen, so that no collection of a fork copies what they share
    for name in (*API, *ACTORS, *OPS, *STAND_INS):
        import_module(name)
    build_models()
    gc.collect()

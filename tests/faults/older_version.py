"""Runs `actors` as an earlier version: without the actor `recompute_bills`, and no notes in `stop_timer`.

`python -m tests.faults.older_version work --queues timers`; nothing else is changed.
"""

import runpy
import sys
from datetime import datetime
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import actors.time_bills
import actors.timers  # noqa: F401 - they register what is taken away below
from actors.runtime.handlers import HANDLERS
from schemas.messages import MODELS, Message


class StopTimer(Message, queue="timers"):
    """The message before it had notes; it replaces the real one."""

    entry_id: UUID
    user_id: UUID
    task_id: UUID
    start_time: datetime
    end_time: datetime


if __name__ == "__main__":
    del HANDLERS["recompute_bills"], MODELS["recompute_bills"]
    runpy.run_module("actors", run_name="__main__", alter_sys=True)

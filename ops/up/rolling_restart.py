"""Replacing processes while they serve: a new one starts, and the old one ends only when the new one is ready."""

import asyncio
import signal
import subprocess
from collections.abc import Sequence

from ops.errors import CommandError
from ops.up.processes import Program, end, until
from ops.up.supervisor import Supervisor

START_SECONDS = 60.0  # for which a new process may start; it also waits for Postgres, RabbitMQ and migrations


class RollingRestart:
    """Replaces programs one after another; `Supervisor.keep_running` goes on to watch each."""

    def __init__(self, supervisor: Supervisor, programs: Sequence[Program]) -> None:
        self._supervisor = supervisor
        self._programs = programs
        self._one_at_a_time = asyncio.Lock()

    def on_signal(self) -> None:
        """Runs whenever SIGUSR2 arrives."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, lambda: self._supervisor.spawn(self.run([])))

    async def run(self, failures: list[str]) -> None:
        """Replaces each program in turn. When a new process is not ready, the old one goes on, so do those that would be next,
        and the reason is appended to `failures`."""
        async with self._one_at_a_time:
            for program in self._programs:
                if (reason := await self._replace(program)) is not None:
                    failures.append(f"{program.name} was not replaced: its new process {reason}")
                    self._supervisor.say(f"{failures[-1]}\nThe old one goes on, and nothing further is restarted.")
                    return
            self._supervisor.say(f"replaced {', '.join(program.name for program in self._programs)}")

    async def _replace(self, program: Program) -> str | None:
        """Returns None when the new process serves and the old one has ended, else what the new one did."""
        new = program.successor()
        try:
            new.launch()
            await until(lambda: new.has_reported() or not new.is_running(), timeout_seconds=START_SECONDS)
            if not new.is_running():
                return f"{new.describe_end()}.{new.last_lines()}"
            if not new.has_reported():
                return f"is not ready after {START_SECONDS:g} s.{new.last_lines()}"
            old = program.be_replaced_by(new)
        except (CommandError, OSError) as error:
            return f"could not be started ({error})."
        finally:
            if program.process is not new.process:
                new.kill()
        self._supervisor.process_changed()
        if old is not None:
            await self._end(program, old)
        return None

    async def _end(self, program: Program, old: subprocess.Popen[bytes]) -> None:
        try:
            if old.poll() is None:
                old.send_signal(program.stop_signal)
            await until(lambda: old.poll() is not None, timeout_seconds=program.stop_seconds)
            if old.poll() is None:
                self._supervisor.say(f"the old process of {program.name} is still running; killing it")
        finally:
            end(old)

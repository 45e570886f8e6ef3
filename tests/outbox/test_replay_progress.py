"""`./stint dead replay --watch` on a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from tests.outbox.probes import Probes
from tests.outbox.test_replays import dead
from tests.support.installation import CHECKOUT, eventually


def test_a_terminal_shows_the_progress_of_a_replay(probes: Probes) -> None:
    dead(probes, *"abcdef")
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "dead", "replay", "--all", "--reason", "fixed", "--rate", "2", "--watch"],
        cwd=CHECKOUT, env=os.environ | probes.stint.environment | {"TERM": "xterm", "COLUMNS": "200"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as watching:  # fmt: skip
        os.close(theirs)
        shown = b""

        def ended() -> bool:
            nonlocal shown
            with contextlib.suppress(OSError):  # nothing to read yet, or the other end is closed
                shown += os.read(ours, 65536)
            return watching.poll() is not None

        eventually(ended, seconds=40)
        with contextlib.suppress(OSError):  # the other end is closed
            while rest := os.read(ours, 65536):
                shown += rest
    os.close(ours)
    assert watching.returncode == 0
    text = shown.decode()
    bars = re.findall(
        r"6 selected, (\d) sent, (\d) succeeded, 0 failed again, \d still running, 0 skipped, 0 new since.*?(\d+)%", text
    )
    assert len({sent for sent, _, _ in bars}) > 1, text
    assert all(int(succeeded) <= int(sent) for sent, succeeded, _ in bars)
    assert "done; 6 selected, 6 sent, 6 succeeded" in text

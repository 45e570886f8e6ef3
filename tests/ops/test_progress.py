"""Progress of steps that print nothing themselves."""

import asyncio

import pytest

from ops import progress
from ops.progress import reported


def test_a_step_is_reported_at_once_and_again_with_what_is_done_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.05)
    said: list[str] = []

    async def step() -> None:
        said_enough = asyncio.Event()

        def say(text: str) -> None:
            said.append(text)
            if len(said) == 3:
                said_enough.set()

        async with reported(say, "unpacking", lambda: f"{len(said)} of 9 packages"):
            await said_enough.wait()
        await asyncio.sleep(0.12)  # nothing is said any more

    asyncio.run(step())
    assert said == ["unpacking", "still unpacking: 1 of 9 packages, 0 s so far", "still unpacking: 2 of 9 packages, 0 s so far"]

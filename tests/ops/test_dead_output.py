"""The texts of `./stint dead` for a person."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from ops.dead.output import print_groups, print_replay
from schemas.outbox.dead_letters.groups import Group, Groups, UnrecognizedGroup
from schemas.outbox.dead_letters.replays import Replay

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def groups(count: int) -> Groups:
    """One group of dead letters and one of unrecognized messages, each with that many."""
    group = Group(
        fingerprint="7a56", actor="send_mail", error="ValueError", frame="", message="no", count=count, first=AT, last=AT,
        replayed=0, failed_again=0, example="ValueError: no",
    )  # fmt: skip
    unrecognized = UnrecognizedGroup(
        fingerprint="51d2", queue="bills", error="no JSON", count=count, first=AT, last=AT, example=uuid4()
    )
    return Groups(items=[group], dead=count, unrecognized=count, unrecognized_groups=[unrecognized])


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (1, "1 dead letter in 1 group; 1 unrecognized message."),
        (2000, "2,000 dead letters in 1 group; 2,000 unrecognized messages."),
    ],
)
def test_one_dead_letter_is_not_called_letters(count: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_groups(groups(count))
    assert line in capsys.readouterr().out.splitlines()


def test_a_dry_run_counts_what_it_would_replay(capsys: pytest.CaptureFixture[str]) -> None:
    for count in (1, 2):
        print_replay(
            Replay(
                id=None,
                state="dry_run",
                stopped_because=None,
                cancelled_by=None,
                cancelled_because=None,
                who="jo",
                reason="fixed",
                rate_per_second=None,
                canary=None,
                selected=count,
                sent=0,
                succeeded=0,
                failed_again=0,
                running=0,
                skipped=0,
                new_since=0,
                created_at=AT,
                ended_at=AT,
            )
        )
    assert capsys.readouterr().out.splitlines() == [
        "1 dead letter would be replayed; nothing was sent.",
        "2 dead letters would be replayed; nothing was sent.",
    ]

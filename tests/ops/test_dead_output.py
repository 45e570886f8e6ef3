"""The texts of `./stint dead` for a person."""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

import pytest

from ops.command_line import tables
from ops.dead.output import print_groups, print_list, print_replay, print_replays
from schemas.outbox.dead_letters.groups import Group, Groups, UnrecognizedGroup
from schemas.outbox.dead_letters.replays import Replay, ReplayInList, Replays

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


def replay(state: Literal["dry_run", "cancelled"], count: int) -> Replay:
    """A replay that has sent nothing."""
    return Replay(
        id=UUID("dcbc220a-ded2-4546-83da-314d4903b654"),
        state=state,
        stopped_because=None,
        cancelled_by=None,
        cancelled_because=None,
        who="jo on here (terminal)",
        reason="MAIL_FROM is an address",
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


def test_a_dry_run_counts_what_it_would_replay(capsys: pytest.CaptureFixture[str]) -> None:
    for count in (1, 2):
        print_replay(replay("dry_run", count))
    assert capsys.readouterr().out.splitlines() == [
        "1 dead letter would be replayed; nothing was sent.",
        "2 dead letters would be replayed; nothing was sent.",
    ]


SENTENCE = (
    "schemas.errors.NonRetryable: 'Stint at example.com' is no address that mail can be sent to: An email address must have an "
    "@-sign."
)


def test_at_80_columns_groups_have_whole_ids_and_whole_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "width", lambda: 80)
    found = groups(4)
    failed = {"fingerprint": "7a56723ed14d71f5", "frame": "schemas/mail/smtp.py:_address", "example": SENTENCE, "replayed": 3}
    items = [found.items[0].model_copy(update=failed | {"fingerprint": f"7a56723ed14d71f{n}"}) for n in range(9)]
    print_groups(found.model_copy(update={"items": items}))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert [f"7a56723ed14d71f{n}" for n in range(9) if f"\n7a56723ed14d71f{n}  " not in shown] == []
    words = " ".join(shown.split())
    assert words.count(f"send_mail: {SENTENCE} (schemas/mail/smtp.py:_address; first") == 9
    assert words.count("replayed 3, failed again 0)") == 9 and "bills: no JSON (first" in words


def test_at_80_columns_dead_letters_have_whole_sentences_and_ids_that_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "width", lambda: 80)
    item = {"actor": "recompute_bill", "kind": "message", "queue": "bills", "diedAt": AT.isoformat(), "attempts": 15}
    items = [item | {"id": str(UUID(int=n << 96)), "replays": n, "error": SENTENCE} for n in range(60)]
    print_list(items, more=True)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "\n0000003b  recompute_bill  " in shown
    words = " ".join(shown.split())
    assert words.count(f"{SENTENCE} (queue bills, 15 failed attempts") == 60 and "attempts, replayed 59 times)" in words

    print_list([items[1] | {"id": f"00000001-0000-4000-8000-00000000000{n}"} for n in range(2)], more=False)
    assert "\n00000001-0000-4000-8000-000000000001  " in capsys.readouterr().out


def test_at_80_columns_replays_have_their_reason_and_all_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "width", lambda: 80)
    print_replays(Replays(items=[ReplayInList.model_validate(replay("cancelled", 2_000).model_dump(exclude={"new_since"}))]))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 and "\ndcbc220a  cancelled  " in shown
    words = " ".join(shown.split())
    assert "MAIL_FROM is an address (jo on here (terminal)): 2,000 selected, 0 sent, 0 succeeded, 0 failed again, 0" in words

"""What comes next for a bill, decided from what it says and what is known: every case, without Xero or Postgres."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas.clients.xero import Time
from schemas.settings import Settings
from schemas.xero_entries import Known
from schemas.xero_steps import Ask, Bill, Call, Later, Settled, Step, decide
from schemas.xero_tokens import Access

SETTINGS = Settings(database_url="", secret_key="0123456789abcdef", stint_xero_late_seconds=120)  # type: ignore[arg-type]
ACCESS = Access("tenant", "token")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BILL = Bill(UUID(int=1), True, 60, "memo", NOON, "jo@example.com", "project", "task", "user", True, False)
TIME = Time(user_id="user", task_id="task", date_utc=NOON, minutes=60, description=f"memo {BILL.mark}")
THERE = Known(tenant_id="tenant", project_id="project", entry_ids=("entry",), written=TIME, entry_status="ACTIVE", revision=1)
LOST = Known(tenant_id="tenant", project_id="project", written=TIME, attempt_age=3, unsure=True, revision=1)
LOOKED = replace(LOST, unsure=False)
PENDING = replace(BILL, approved=False)


def step(bill: Bill = BILL, known: Known = Known(), access: Access | None = ACCESS) -> Step:  # noqa: B008 - it is frozen
    return decide(bill, known, access, SETTINGS)


def asks(what: Step) -> Ask:
    assert isinstance(what, Call), what
    return what.ask


def test_an_approved_bill_of_which_nothing_is_known_is_created_under_a_new_key() -> None:
    created = step(known=Known(revision=4))
    assert isinstance(created, Call) and (created.ask, created.time, created.revision) == (Ask.create, TIME, 5)


def test_a_lost_answer_is_looked_for_whatever_is_wanted_by_now() -> None:
    for bill, known in ((BILL, LOST), (PENDING, LOST), (BILL, replace(LOST, withdrawing=True))):
        assert asks(step(bill, known)) is Ask.look


def test_what_was_not_found_is_created_again_under_the_same_key_only_if_it_is_the_same() -> None:
    again = step(known=LOOKED)
    assert isinstance(again, Call) and (again.ask, again.revision) == (Ask.create, 1)
    assert step(replace(BILL, task_id="another"), LOOKED) == Later(117, look_again=True)


def test_a_bill_is_let_go_only_when_nothing_can_arrive_any_more() -> None:
    withdrawing = replace(LOOKED, withdrawing=True)
    assert step(known=withdrawing) == Later(117, look_again=True)
    assert step(known=replace(withdrawing, attempt_age=121)) == Settled("none", reopen=True)


@pytest.mark.parametrize("access", [ACCESS, None, Access("another", "token")])
def test_what_is_there_and_right_is_synced_whatever_is_connected(access: Access | None) -> None:
    assert step(known=THERE, access=access) == Settled("synced", entry_id="entry")
    assert step(replace(BILL, task_id=None, user_id=None), THERE, access) == Settled("synced", entry_id="entry")


def test_what_is_there_and_wrong_is_rewritten_where_it_is() -> None:
    wrong = replace(THERE, written=TIME.model_copy(update={"minutes": 30, "task_id": "old"}))
    rewritten = step(known=wrong)
    assert isinstance(rewritten, Call) and rewritten.ask is Ask.update
    assert rewritten.time == TIME.model_copy(update={"task_id": "old"})
    assert asks(step(known=replace(wrong, refused=True))) is Ask.read
    assert step(known=replace(wrong, entry_status="INVOICED")).status == "failed"  # type: ignore[union-attr]


def test_what_may_be_in_another_organisation_waits_for_that_one() -> None:
    for known, status in ((LOST, "not_connected"), (replace(THERE, withdrawing=True), "withdrawing")):
        waiting = step(known=known, access=Access("another", "token"))
        assert isinstance(waiting, Settled) and waiting.status == status and "connected before" in (waiting.error or "")


def test_of_two_entries_one_goes() -> None:
    second = step(known=replace(THERE, entry_ids=("entry", "copy")))
    assert isinstance(second, Call) and (second.ask, second.entry_id) == (Ask.delete, "copy")


def test_a_withdrawal_deletes_and_reads_why_when_it_may_not() -> None:
    withdrawing = replace(THERE, withdrawing=True)
    assert asks(step(known=withdrawing)) is Ask.delete
    assert asks(step(known=replace(withdrawing, refused=True))) is Ask.read
    assert step(known=withdrawing, access=None).status == "withdrawing"  # type: ignore[union-attr]


@pytest.mark.parametrize(("missing", "said"), [
    ({"project_id": None}, "project"), ({"task_id": None}, "task"), ({"user_id": None}, "jo@example.com"),
])  # fmt: skip
def test_what_is_not_mapped_says_what_is_missing(missing: dict[str, None], said: str) -> None:
    settled = step(replace(BILL, **missing))
    assert isinstance(settled, Settled) and settled.status == "not_mapped" and said in (settled.error or "")


def test_an_unknown_person_is_looked_up_once() -> None:
    assert asks(step(replace(BILL, user_id=None, users_read=False))) is Ask.users
    assert isinstance(step(replace(BILL, user_id=None, users_read=False, users_asked=True)), Later)


def test_a_token_that_is_about_to_end_is_renewed_first() -> None:
    assert asks(step(access=Access("tenant", None))) is Ask.renew
    assert step(PENDING, access=Access("tenant", None)) == Settled("none")  # for which no call is needed


def test_more_minutes_than_xero_takes_are_said() -> None:
    assert "59,940" in str(step(replace(BILL, minutes=60_000)))


def test_a_long_memo_never_costs_the_mark() -> None:
    created = step(replace(BILL, memo="x" * 10_000))
    assert isinstance(created, Call) and created.time is not None and created.time.description.endswith(BILL.mark)

"""The texts and tables of `./stint dead`, for terminals of any width and for pipes."""

import json
from datetime import UTC, datetime
from typing import Any

from ops.command_line.tables import table
from ops.command_line.terminal import counted, escape_control
from schemas.outbox.dead_letters.details import DeadLetterDetail, difference
from schemas.outbox.dead_letters.groups import Group, Groups, UnrecognizedGroup
from schemas.outbox.dead_letters.replays import Replay, ReplayInList, Replays
from schemas.outbox.message_subjects import Subject

Json = dict[str, Any]
_LONGEST = 300  # characters of an error or a reason in a table; `./stint dead show` shows all of an error


def print_groups(found: Groups) -> None:
    """One row for each group, the one with the latest dead letter first."""
    if found.items:
        rows = [(*_of_group(group), f"{group.actor}: {_one_line(group.example)} ({_place(group)})") for group in found.items]
        print(table(("group", "messages", "last", "actor, error and place of the latest"), rows))
    if found.unrecognized_groups:
        of_unrecognized = [
            (*_of_group(group), f"{group.queue}: {_one_line(group.error)} (first {_ago(group.first)})")
            for group in found.unrecognized_groups
        ]
        print(table(("group", "messages", "last", "queue of unrecognized messages, and why not accepted"), of_unrecognized))
    of_groups = f"{counted(found.dead, 'dead letter')} in {counted(len(found.items), 'group')}"
    print(f"{of_groups}; {counted(found.unrecognized, 'unrecognized message')}.")
    if found.items:
        print("Next: ./stint dead list --group GROUP, ./stint dead show ID; fix the cause; then")
        print("./stint dead replay --group GROUP --canary 1 --reason '…' --watch")


def _of_group(group: Group | UnrecognizedGroup) -> tuple[str, str, str]:
    return group.fingerprint, f"{group.count:,}", _ago(group.last)


def _place(group: Group) -> str:
    """Such as "schemas/mail/smtp.py:_address; first 2h ago; replayed 4, failed again 1"."""
    replayed = f"replayed {group.replayed:,}, failed again {group.failed_again:,}" if group.replayed else "not replayed"
    return "; ".join([*([group.frame] if group.frame else []), f"first {_ago(group.first)}", replayed])


def print_list(items: list[Json], *, more: bool) -> None:
    """One row for each dead letter, the latest first."""
    if not items:
        print("No dead letters match.")
        return
    ids = [item["id"] for item in items]
    shown = next(length for length in (8, 13, 36) if len({each[:length] for each in ids}) == len(ids))
    rows = [
        (
            item["id"][:shown], item["actor"] or f"({item['kind']})", _ago(datetime.fromisoformat(item["diedAt"])),
            f"{_one_line(item['error'])} ({_tries(item)})",
        )
        for item in items
    ]  # fmt: skip
    print(table(("id", "actor", "died", "error"), rows))
    if more:
        print("… and more: use --limit N, or filter with --actor, --group, --since, --q.")


def _tries(item: Json) -> str:
    replayed = f", replayed {counted(item['replays'], 'time')}" if item["replays"] else ""
    return f"queue {item['queue']}, {counted(item['attempts'], 'failed attempt')}{replayed}"


def print_detail(found: DeadLetterDetail) -> None:
    """One dead letter with its body, attempts and history."""
    print(f"{found.actor or 'unrecognized message'}  {found.id}  {found.state}")
    died = "never died" if found.died_at is None else f"died {_at(found.died_at)}"
    print(f"  queue {found.queue}, enqueued {_at(found.created_at)}, {died}; group {found.fingerprint or 'none'}")
    attempts, replays = counted(found.attempts, "failed attempt"), counted(found.replays, "time")
    print(f"  {attempts} of {found.max_attempts}, replayed {replays}")
    if found.cause is not None:
        print(f"  caused by {found.cause.actor} {found.cause.id} ({found.cause.state})")
    for caused in found.caused:
        print(f"  caused {caused.actor} {caused.id} ({caused.state})")
    for subject in found.subjects:
        print(f"  {_subject(subject)}")
    if found.bill is not None:
        project, task = found.bill.xero_project_id or "none", found.bill.xero_task_id or "none"
        print(f"  in Xero: project {project}, task {task}; consultant {escape_control(found.bill.consultant)}")
    print("\nbody")
    _indented(found.body if isinstance(found.body, str) else json.dumps(found.body, indent=2, ensure_ascii=False))
    if found.headers:
        print("\nheaders")
        _indented(found.headers)
    for attempt in found.failures:
        title = f"attempt {attempt.n}, {_at(attempt.at)}, {attempt.worker}"
        print(f"\n{title}: {attempt.error_class}: {escape_control(attempt.error)}")
        _indented(attempt.traceback.rstrip())
    if found.error and not found.failures:
        print(f"\nerror: {escape_control(found.error)}")
    for event in found.history:
        print(f"\n{_at(event.at)} {event.action} by {escape_control(event.who)}: {escape_control(event.reason)}")
        if event.before is not None:
            print_difference(event.before, event.after, changes=True)


def _subject(subject: Subject) -> str:
    """Such as "time bill General Support, of Jo for Acme, 2026-03-02, 60 min"."""
    of = f", of {subject.person}" if subject.person else ""
    customer = (f" for {subject.customer}" if of else f", {subject.customer}") if subject.customer else ""
    day = f", {subject.day}" if subject.day else ""
    minutes = f", {subject.seconds // 60} min" if subject.seconds is not None else ""
    return escape_control(f"{subject.kind} {subject.name}{of}{customer}{day}{minutes}")


def print_replay(found: Replay) -> None:
    """The state of a replay."""
    if found.state == "dry_run":
        print(f"{counted(found.selected, 'dead letter')} would be replayed; nothing was sent.")
        return
    if found.selected == 0:
        print("No dead letter matches; nothing was sent.")
        return
    print(f"replay {found.id}: {found.state}; {counts_of(found)}")
    if found.state == "cancelled":
        why = f": {escape_control(found.cancelled_because)}" if found.cancelled_because else "; no reason was given"
        print(f"It was cancelled by {escape_control(found.cancelled_by or 'somebody')}{why}.")
    if found.stopped_because:
        left = found.selected - found.sent - found.skipped
        print(f"It was stopped: {found.stopped_because}. Not sent, still dead letters: {left:,}.")
    if found.state == "running":
        print(f"It continues in the background: ./stint dead watch {found.id}")


def print_replays(found: Replays) -> None:
    """One row for each replay, running ones first."""
    if not found.items:
        print("There are no replays.")
        return
    rows = [
        (
            str(replay.id)[:8], replay.state, _ago(replay.created_at),
            f"{_one_line(replay.reason)} ({_one_line(replay.who)}): {_counts(replay)}",
        )
        for replay in found.items
    ]  # fmt: skip
    print(table(("replay", "state", "started", "reason, who and counts"), rows))


def counts_of(found: Replay) -> str:
    """The counts of a replay in one line."""
    return f"{_counts(found)}, {found.new_since:,} new since"


def _counts(found: ReplayInList) -> str:
    return (
        f"{found.selected:,} selected, {found.sent:,} sent, {found.succeeded:,} succeeded, "
        f"{found.failed_again:,} failed again, {found.running:,} still running, {found.skipped:,} skipped"
    )


def print_difference(before: Json, after: Json, *, changes: bool) -> None:
    """A diff of two redacted bodies. `changes` says whether the unredacted bodies differ."""
    changed = difference(before, after)
    print("\n".join(map(escape_control, changed)) or ("The change is in redacted text." if changes else "Nothing changes."))


def _indented(text: str) -> None:
    print("\n".join(f"    {escape_control(line)}" for line in text.splitlines()))


def _one_line(text: str | None) -> str:
    line = escape_control(" ".join((text or "").split()))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _at(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _ago(time: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - time.astimezone(UTC)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"

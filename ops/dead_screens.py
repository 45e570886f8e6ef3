"""What `./stint dead` shows to a person: tables and texts, for a terminal of any width and for none."""

import difflib
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.dead_letters import Groups, WholeLetter
from schemas.replays import Replay

Json = dict[str, Any]


def groups(found: Groups) -> None:
    """One line a group, the latest death first."""
    if found.items:
        heads = ("group", "actor", "error", "place", "letters", "first", "last", "replayed", "failed again")
        rows = [
            (
                group.fingerprint, group.actor, group.error, group.frame, f"{group.count:,}", _ago(group.first),
                _ago(group.last), f"{group.replayed:,}", f"{group.failed_again:,}",
            )
            for group in found.items
        ]  # fmt: skip
        _table(heads, rows)
        for group in found.items[:5]:
            print(f"  {group.fingerprint}  {_one_line(group.example)}")
    print(f"{found.dead:,} dead letters in {len(found.items)} groups; {found.foreign:,} foreign letters.")
    if found.items:
        print("Next: ./stint dead list --group GROUP, ./stint dead show ID; mend the cause; ./stint dead replay --group GROUP "
              "--canary 1 --reason '…' --watch")  # fmt: skip


def letters(items: list[Json], *, more: bool) -> None:
    """One line a letter, the latest death first."""
    if not items:
        print("No such dead letters.")
        return
    id_width = 8 if len(items) < 50 else 36
    rows = [
        (
            item["id"][:id_width], item["actor"] or f"({item['kind']})", item["queue"],
            _ago(datetime.fromisoformat(item["diedAt"])), str(item["attempts"]), str(item["replays"]),
            _one_line(item["error"], _width() - 72 - id_width),
        )
        for item in items
    ]  # fmt: skip
    _table(("id", "actor", "queue", "died", "attempts", "replays", "error"), rows)
    if more:
        print("… and more: --limit N, or narrow it with --actor, --group, --since, --q.")


def letter(found: WholeLetter) -> None:
    """All that is known of one letter."""
    print(f"{found.actor or 'foreign letter'}  {found.id}  {found.state}")
    print(f"  queue {found.queue}, put {_at(found.created_at)}, died {_at(found.died_at)}; group {found.fingerprint or 'none'}")
    print(f"  {found.attempts} failed attempts of {found.allowance}, replayed {found.replays} times")
    if found.cause is not None:
        print(f"  caused by {found.cause.actor} {found.cause.id} ({found.cause.state})")
    for caused in found.caused:
        print(f"  caused {caused.actor} {caused.id} ({caused.state})")
    print("\nbody")
    _indented(found.body if isinstance(found.body, str) else json.dumps(found.body, indent=2, ensure_ascii=False))
    if found.headers:
        print("\nheaders")
        _indented(found.headers)
    for attempt in found.failures:
        print(f"\nattempt {attempt.n}, {_at(attempt.at)}, {attempt.worker}: {attempt.error_class}: {_harmless(attempt.error)}")
        _indented(attempt.traceback.rstrip())
    if not found.failures:
        print(f"\nerror: {_harmless(found.error or '')}")
    for event in found.history:
        print(f"\n{_at(event.at)} {event.action} by {_harmless(event.who)}: {_harmless(event.reason)}")


def replay(found: Replay) -> None:
    """How a replay stands."""
    if found.state == "dry_run":
        print(f"{found.selected:,} dead letters would be replayed; nothing was sent.")
        return
    if found.selected == 0:
        print("No dead letter matches; nothing was sent.")
        return
    print(f"replay {found.id}: {found.state}; {in_short(found)}")
    if found.stopped_because:
        print(f"It was stopped: {found.stopped_because}. {found.selected - found.sent - found.skipped:,} letters stay dead.")
    if found.state == "running":
        print(f"It goes on by itself: ./stint dead watch {found.id}")


def in_short(found: Replay) -> str:
    """The counts of a replay in a line."""
    return (
        f"{found.selected:,} selected, {found.sent:,} sent, {found.succeeded:,} succeeded, "
        f"{found.failed_again:,} failed again, {found.running:,} still running, "
        f"{found.skipped:,} skipped, {found.new_since:,} new since"
    )


def difference(before: Json, after: Json, *, changes: bool) -> None:
    """What an edit changes, as a diff of both bodies as they are shown; `changes` says whether it does, masked or not."""

    def lines(body: Json) -> list[str]:
        return json.dumps(body, indent=2, ensure_ascii=False, sort_keys=True).splitlines()

    changed = list(difflib.unified_diff(lines(before), lines(after), "as it is", "as it will be", lineterm=""))
    print("\n".join(map(_harmless, changed)) or ("What changes is masked." if changes else "Nothing changes."))


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # only here: it would be a tenth of what a command takes that shows no table
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=_width()).print(table)


def _indented(text: str) -> None:
    print("\n".join(f"    {_harmless(line)}" for line in text.splitlines()))


def _harmless(line: str) -> str:
    """The line with control characters written out: a stranger's letter must not write to the terminal what it likes."""
    return "".join(c if c.isprintable() or c in "\t\n" else c.encode("unicode_escape").decode() for c in line)


def _one_line(text: str | None, width: int = 160) -> str:
    line = _harmless(" ".join((text or "").split()))
    return line if len(line) <= max(width, 30) else f"{line[: max(width, 30)]}…"


def _at(time: datetime | None) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if time else "never"


def _ago(time: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - time.astimezone(UTC)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"

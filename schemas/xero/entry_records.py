"""What Stint knows of a time bill's entry in Xero: a row of `xero_entries` for each bill, written before and after each call.

The fields `entry_ids`, `create_attempted_at` and `outcome_unknown` say which of these states it is:

    no ids, no attempt                   Xero has no entry for the bill
    create attempted, outcome unknown    a create request was sent and its answer was lost: find the entry by its mark
    create attempted, outcome known      the entry was looked for and not found; Xero may still create it, or list it later
    ids                                  Xero has the entry

`content` is what Stint has written, or requested. `difference` is what somebody has changed by hand in the entry. A list that
shows a change is only a reason to read the entry (`recheck`), because lists may be behind.

The methods of `EntryRecord` are pure: each returns what is known after a call or before one. `save` writes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from schemas.postgres.connection import Connection
from schemas.xero.differences.content import Difference, changed_fields, difference
from schemas.xero.entries.entry import Entry, EntryContent


@dataclass(frozen=True)
class EntryRecord:
    """A bill's row, read under its lock. The defaults describe a bill that was never sent to Xero."""

    read_at: datetime = datetime(2000, 1, 1, tzinfo=UTC)  # the present, by Postgres's clock
    withdrawing: bool = False
    tenant_id: str | None = None
    project_id: str | None = None
    entry_ids: tuple[str, ...] = ()
    deleted_ids: tuple[str, ...] = ()  # entries that Stint has deleted; Xero's list may still show them for a while
    revision: int = 0  # of the content of the create request; part of its Idempotency-Key
    content: EntryContent | None = None  # what Stint has written to the entry, or what the create request asks for
    first_attempted_at: datetime | None = None  # the first create request under this key
    create_attempted_at: datetime | None = None  # the last create request whose entry is not known
    looked_at: datetime | None = None  # when the last look for the entry began
    outcome_unknown: bool = False
    searched_pages: int = 0  # of Xero's list of entries, in the search for the bill's mark that is under way
    entry_status: str | None = None
    refused: bool = False  # Xero refused to change or delete the entry, so it is fetched next, to learn why
    delete_attempted_at: datetime | None = None  # the last delete request whose outcome is not known
    reopen_error: str | None = None
    invoice_checked_at: datetime | None = None  # when the status of the entry was last read
    slot_at: datetime | None = None
    claimed_by_other: bool = False  # another message is calling Xero for this bill
    create_refused: bool = False  # Xero refused the last create request, of this content
    user_refused_at: datetime | None = None  # maybe because of its user, so Xero's users are read again first
    difference: Difference | None = None  # what somebody has changed by hand in the entry, as last read
    accepted: bool = False  # an admin has accepted the difference
    overwrite: bool = False  # an admin has chosen to write the bill over the difference
    recheck: bool = False  # the entry is to be read, because a list shows it otherwise, or not at all
    entry_read_at: datetime | None = None  # when the entry was last read, not in a list

    @property
    def may_exist(self) -> bool:
        """Whether Xero has an entry for the bill, or may have one."""
        return bool(self.entry_ids) or self.create_attempted_at is not None

    def agrees_with(self, listed: EntryContent | None) -> bool:
        """Whether an entry that a list shows so is as it was last known. None: the list does not have the entry."""
        if self.difference is not None:
            return self.difference.agrees_with(listed)
        return listed is not None and (self.content is None or not changed_fields(self.content, listed))

    def seconds_since(self, time: datetime) -> float:
        return (self.read_at - time) / timedelta(seconds=1)

    def create_attempted(
        self, *, tenant_id: str, project_id: str, content: EntryContent, revision: int, at: datetime
    ) -> "EntryRecord":
        """A create request is about to be sent. Until its outcome is known, Xero may have the entry."""
        is_repeat = self.create_attempted_at is not None and revision == self.revision
        return replace(
            self,
            tenant_id=tenant_id,
            project_id=project_id,
            content=content,
            revision=revision,
            first_attempted_at=self.first_attempted_at if is_repeat else at,
            create_attempted_at=at,
            outcome_unknown=True,
            searched_pages=0,
            create_refused=False,
        )

    def not_created(self, before: "EntryRecord") -> "EntryRecord":
        """The create request certainly had no effect. An earlier request, known from `before`, may have had one."""
        return replace(
            self,
            first_attempted_at=before.first_attempted_at,
            create_attempted_at=before.create_attempted_at,
            outcome_unknown=False,
        )

    def refused_to_create(self, *, user_in_doubt: bool) -> "EntryRecord":
        """Xero refused the create request."""
        return replace(self, create_refused=True, user_refused_at=self.read_at if user_in_doubt else None)

    def look_started(self, at: datetime) -> "EntryRecord":
        """The first page of Xero's list is about to be read, to find the entry."""
        return replace(self, looked_at=at)

    def retry_lookup(self) -> "EntryRecord":
        """The entry has to be looked for again, because the last look may have been too early."""
        return replace(self, outcome_unknown=self.create_attempted_at is not None)

    def created(self, entry: Entry) -> "EntryRecord":
        """Xero has created this entry, with the content that was asked for."""
        return replace(self.found([entry]), recheck=False)

    def found(self, entries: Sequence[Entry]) -> "EntryRecord":
        """Xero's list has these entries for the bill. The first one is kept, and the others will be deleted. If the first one
        is not as Stint has requested it, it is read next."""
        content = self.content or entries[0].content
        return replace(
            self,
            entry_ids=tuple(entry.id for entry in entries),
            content=content,
            entry_status=entries[0].status,
            create_attempted_at=None,
            outcome_unknown=False,
            searched_pages=0,
            refused=False,
            delete_attempted_at=None,
            invoice_checked_at=self.read_at,
            create_refused=False,
            user_refused_at=None,
            recheck=bool(changed_fields(content, entries[0].content)),
        ).without_difference()

    def not_found(self, *, pages: int, last: bool) -> "EntryRecord":
        """The first `pages` pages do not contain the entry. With `last` there are no more: Xero does not have the entry, or
        does not have it yet."""
        return replace(self, outcome_unknown=not last, searched_pages=0 if last else pages)

    def delete_attempted(self, at: datetime) -> "EntryRecord":
        """A delete request is about to be sent. Until its outcome is known, the entry may be gone at any moment."""
        return replace(self, delete_attempted_at=at)

    def not_deleted(self, before: "EntryRecord", *, refused: bool) -> "EntryRecord":
        """The delete request certainly had no effect. `refused`: Xero refused it. An earlier request, known from `before`, may
        have had one."""
        return replace(self, delete_attempted_at=before.delete_attempted_at, refused=self.refused or refused)

    def deleted(self, entry_id: str) -> "EntryRecord":
        """Xero does not have this entry any more."""
        entry_ids = tuple(other for other in self.entry_ids if other != entry_id)
        return replace(
            self,
            entry_ids=entry_ids,
            deleted_ids=(*self.deleted_ids, entry_id),
            refused=False,
            delete_attempted_at=None,
            recheck=False,
        ).without_difference()

    def gone(self) -> "EntryRecord":
        """The entry is not there, and Stint has not deleted it. Its id is kept: if it is there again, it is the bill's."""
        kept = replace(self, refused=False, recheck=False, entry_read_at=self.read_at)
        return kept.differing(Difference())

    def updated(self, content: EntryContent) -> "EntryRecord":
        """The entry in Xero has this content now."""
        return replace(self, content=content, refused=False, recheck=False).without_difference()

    def differing(self, now: Difference | None) -> "EntryRecord":
        """The entry differs by that. What an admin chose about another difference does not count for this one."""
        if now is None:
            return self.without_difference()
        if self.difference is not None and self.difference.agrees_with(now.content):
            return self
        return replace(self, difference=now, accepted=False)

    def without_difference(self) -> "EntryRecord":
        """The entry is as Stint wrote it, or there is none."""
        return replace(self, difference=None, accepted=False, overwrite=False)

    def fetched(self, entry: Entry, *, not_deleted: bool, reopen_error: str) -> "EntryRecord":
        """The entry that is kept is there. If it is ACTIVE, it can be changed and deleted, so a refused reopening is forgotten.
        If it is not, and the bill was being withdrawn, the bill stays approved and shows the error. `not_deleted`: no delete
        request can be executed any more."""
        is_active = entry.status == "ACTIVE"
        error = reopen_error if self.withdrawing else self.reopen_error
        return replace(
            self,
            entry_status=entry.status,
            refused=False,
            withdrawing=self.withdrawing and is_active,
            reopen_error=None if is_active else error,
            delete_attempted_at=None if not_deleted else self.delete_attempted_at,
            invoice_checked_at=self.read_at,
            recheck=False,
            entry_read_at=self.read_at,
        ).differing(None if self.content is None else difference(self.content, entry.content))

    def withdrawn(self) -> "EntryRecord":
        """The withdrawal is complete: Xero has no entry for the bill any more."""
        return replace(self, withdrawing=False, create_attempted_at=None, recheck=False).without_difference()


async def lock(conn: Connection, bill_id: UUID, *, message_id: UUID) -> EntryRecord:
    """Locks the row of a locked bill and returns it; inserts it first if there is none."""
    await conn.execute("INSERT INTO xero_entries (bill_id) VALUES (%s) ON CONFLICT DO NOTHING", (bill_id,))
    columns = await conn.one(
        """
        SELECT clock_timestamp() AS read_at, withdrawing, tenant_id, project_id, entry_ids, deleted_ids, revision, content,
               first_attempted_at, create_attempted_at, looked_at, outcome_unknown, searched_pages, entry_status, refused,
               delete_attempted_at, reopen_error, invoice_checked_at, slot_at, create_refused, user_refused_at, difference,
               accepted, overwrite, recheck, entry_read_at,
               EXISTS (SELECT FROM messages m WHERE m.id = claimed_by AND m.id <> %s AND m.state = 'calling')
                   AS claimed_by_other
        FROM xero_entries WHERE bill_id = %s FOR NO KEY UPDATE
        """,
        (message_id, bill_id),
        row=dict,
    )
    content = columns["content"] and EntryContent.model_validate(columns["content"])
    changed = columns["difference"] and Difference.model_validate(columns["difference"])
    ids = {name: tuple(columns[name]) for name in ("entry_ids", "deleted_ids")}
    return EntryRecord(**columns | ids | {"content": content, "difference": changed})


async def save(conn: Connection, bill_id: UUID, record: EntryRecord) -> None:
    """Writes what is known of the entry, in the transaction in which the row was locked."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET withdrawing = %(withdrawing)s, tenant_id = %(tenant_id)s, project_id = %(project_id)s, entry_ids = %(entry_ids)s,
            deleted_ids = %(deleted_ids)s, revision = %(revision)s, content = %(content)s,
            first_attempted_at = %(first_attempted_at)s, create_attempted_at = %(create_attempted_at)s,
            looked_at = %(looked_at)s, outcome_unknown = %(outcome_unknown)s, searched_pages = %(searched_pages)s,
            entry_status = %(entry_status)s, refused = %(refused)s,
            delete_attempted_at = %(delete_attempted_at)s, reopen_error = %(reopen_error)s,
            invoice_checked_at = %(invoice_checked_at)s, create_refused = %(create_refused)s,
            user_refused_at = %(user_refused_at)s, difference = %(difference)s, accepted = %(accepted)s,
            overwrite = %(overwrite)s, recheck = %(recheck)s, entry_read_at = %(entry_read_at)s
        WHERE bill_id = %(bill_id)s
        """,
        vars(record)
        | {
            "bill_id": bill_id,
            "entry_ids": list(record.entry_ids),
            "deleted_ids": list(record.deleted_ids),
            "content": None if record.content is None else Jsonb(record.content.model_dump(mode="json")),
            "difference": None if record.difference is None else Jsonb(record.difference.model_dump(mode="json")),
        },
    )


async def record_status(conn: Connection, bill_id: UUID, status: str) -> None:
    """Records the status of the entry that is kept, which a check of the whole project has read. An ACTIVE one can be changed
    and deleted, so a refused reopening is forgotten."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET entry_status = %(status)s, refused = false, invoice_checked_at = clock_timestamp(),
            reopen_error = CASE WHEN %(status)s <> 'ACTIVE' THEN reopen_error END
        WHERE bill_id = %(bill)s
        """,
        {"status": status, "bill": bill_id},
    )


async def show_status(conn: Connection, bill_id: UUID, status: str) -> None:
    """Shows the status of the entry on its locked bill: `invoicedAt` stands there while it is LOCKED or INVOICED."""
    await conn.execute(
        """
        UPDATE time_bills SET xero_invoiced_at = CASE WHEN %s <> 'ACTIVE' THEN coalesce(xero_invoiced_at, clock_timestamp()) END
        WHERE id = %s
        """,
        (status, bill_id),
    )


async def claim_for_message(conn: Connection, bill_id: UUID, *, message_id: UUID) -> None:
    """Records that this message calls Xero for the bill now, and that its reserved slot is used."""
    await conn.execute("UPDATE xero_entries SET claimed_by = %s, slot_at = NULL WHERE bill_id = %s", (message_id, bill_id))


async def queue_bill(conn: Connection, bill_id: UUID, *, seconds: float) -> None:
    """Records that the bill has a slot among the rate limits `seconds` from now."""
    await conn.execute(
        "UPDATE xero_entries SET slot_at = clock_timestamp() + make_interval(secs => %s) WHERE bill_id = %s", (seconds, bill_id)
    )

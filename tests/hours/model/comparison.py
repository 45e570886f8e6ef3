"""The facts of bills and entries that are compared: from the model, and from the JSON of the API."""

from collections.abc import Iterable

from tests.hours.model.shapes import Area, Bill, Entry, Key, day_of, moment
from tests.support.given import Json


def key_of(row: Json) -> Key:
    return Key(row["userId"], Area(row["customerId"], row["pillarId"]), day_of(moment(f"{row['date']}T12:00:00Z")))


def bill_facts(bill: Bill) -> Json:
    return {
        "key": bill.key,
        "seconds": bill.seconds,
        "minutes": bill.minutes,
        "memo": bill.memo,
        "status": bill.status,
        "rejectionNote": bill.rejection_note,
        "approvedBy": bill.approved_by,
        "xero": bill.xero,
    }


def bill_facts_of_json(row: Json) -> Json:
    names = ("seconds", "minutes", "memo", "status", "rejectionNote", "approvedBy")
    return {"key": key_of(row), "xero": row["xero"]["status"], **{name: row[name] for name in names}}


def entry_facts(entry: Entry, entries: Iterable[Entry]) -> Json:
    """`entries`: all of the firm, some of which it may overlap."""
    return {
        "taskId": entry.task,
        "userId": entry.user,
        "area": entry.area,
        "start": entry.start,
        "end": entry.end,
        "duration": entry.seconds,
        "notes": entry.notes,
        "timeBillId": entry.bill and entry.bill.id,
        "locked": entry.locked,
        "flags": ["long"] * entry.long + ["overlap"] * any(entry.overlaps(other) for other in entries),
    }


def entry_facts_of_json(row: Json) -> Json:
    names = ("taskId", "userId", "duration", "notes", "timeBillId", "locked", "flags")
    times = {"start": moment(row["startTime"]), "end": moment(row["endTime"])}
    return {"area": Area(row["customerId"], row["pillarId"]), **times, **{name: row[name] for name in names}}

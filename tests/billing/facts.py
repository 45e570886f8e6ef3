"""What a bill and an entry say: in the books, and as the API answers them."""

from tests.billing.shapes import Bill, Entry, Key, Place, day_of, moment
from tests.given import Json


def key_of(row: Json) -> Key:
    return Key(row["userId"], Place(row["customerId"], row["pillarId"]), day_of(moment(f"{row['date']}T12:00:00Z")))


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


def shown_bill(row: Json) -> Json:
    said = ("seconds", "minutes", "memo", "status", "rejectionNote", "approvedBy")
    return {"key": key_of(row), "xero": row["xero"]["status"], **{name: row[name] for name in said}}


def entry_facts(entry: Entry) -> Json:
    return {
        "taskId": entry.task,
        "userId": entry.user,
        "place": entry.place,
        "start": entry.start,
        "end": entry.end,
        "duration": entry.seconds,
        "notes": entry.notes,
        "timeBillId": entry.bill and entry.bill.id,
        "locked": entry.locked,
        "flags": ["long"] if entry.long else [],
    }


def shown_entry(row: Json) -> Json:
    said = ("taskId", "userId", "duration", "notes", "timeBillId", "locked", "flags")
    times = {"start": moment(row["startTime"]), "end": moment(row["endTime"])}
    return {"place": Place(row["customerId"], row["pillarId"]), **times, **{name: row[name] for name in said}}

"""Clients that sync: a Store of all rows that GET /api/sync returns, and a TaskClient of one list."""

from collections.abc import Iterator
from typing import Any

from tests.support.answers import Json
from tests.support.given import Person
from tests.support.installation import OTHERS_SECONDS, Installation, eventually

KINDS = ["customers", "pillars", "tasks", "timeBills", "timeEntries"]


def pages(by: Person, since: str | None = None, limit: int = 1000) -> Iterator[Json]:
    """The pages of one sync."""
    sent: dict[str, Any] = {"limit": limit} | ({"lastSyncTimestamp": since} if since is not None else {})
    while True:
        page = by.get("/api/sync", **sent)
        yield page
        if page["nextCursor"] is None:
            return
        sent["cursor"] = page["nextCursor"]


class Store:
    """The rows that a client stores, by the loop that docs/api.md describes."""

    def __init__(self, by: Person) -> None:
        self.by = by
        self.since: str | None = None
        self.rows: dict[str, dict[str, Json]] = {kind: {} for kind in KINDS}
        self.timer: Json | None = None
        self.pages: list[Json] = []

    def sync(self, limit: int = 1000) -> "Store":
        self.pages = []
        for page in pages(self.by, self.since, limit):
            self.store_page(page)
            self.pages.append(page)
        self.since = self.pages[0]["syncTimestamp"]
        assert {page["syncTimestamp"] for page in self.pages} == {self.since}
        return self

    def store_page(self, page: Json) -> None:
        if page.get("reset"):
            self.rows = {kind: {} for kind in KINDS}
        for kind in KINDS:
            for row in page[kind]:
                if row.get("deleted"):
                    assert set(row) == {"id", "deleted"}
                    self.rows[kind].pop(row["id"], None)
                else:
                    self.rows[kind][row["id"]] = row
        self.timer = page["activeTimer"]

    def received(self, kind: str) -> list[Json]:
        return [row for page in self.pages for row in page[kind]]

    def is_as(self, other: "Store") -> bool:
        return (self.rows, self.timer) == (other.rows, other.timer)


def first_load(by: Person) -> Store:
    return Store(by).sync()


def task_pages(by: Person, since: str, **parameters: Any) -> Iterator[Json]:
    cursor: dict[str, str] = {}
    while True:
        answer = by.http.get("/api/tasks", params={"lastSyncTimestamp": since} | parameters | cursor)
        assert answer.status_code == 200, answer.text
        page: Json = answer.json()
        yield page
        if page["nextCursor"] is None:
            return
        cursor = {"cursor": page["nextCursor"]}


class TaskClient:
    """A client that syncs: the tasks that it knows, and its last sync timestamp."""

    def __init__(self, by: Person, **parameters: Any) -> None:
        self.by, self.parameters = by, parameters
        self.since, self.known = self._everything()

    def sync(self, limit: int = 1000, *, may_reset: bool = False) -> list[Json]:
        """Stores the changes, and returns them."""
        changes: list[Json] = []
        for page in task_pages(self.by, self.since, limit=limit, **self.parameters):
            assert may_reset or "reset" not in page
            if page.get("reset") and not changes:
                self.known = {}
            changes += page["items"]
        self.since = page["syncTimestamp"]
        for item in changes:
            if item.get("deleted"):
                assert set(item) == {"id", "deleted"}
                self.known.pop(item["id"], None)
            else:
                self.known[item["id"]] = item
        return changes

    def sees_everything(self) -> bool:
        return self.known == self._everything()[1]

    def _everything(self) -> tuple[str, dict[str, Json]]:
        """The sync timestamp of the first page, and the rows of all pages."""
        page = self.by.http.get("/api/tasks", params={"limit": 1000} | self.parameters).json()
        since, known = str(page["syncTimestamp"]), {item["id"]: item for item in page["items"]}
        while page["nextCursor"] is not None:
            following = {"limit": 1000, "cursor": page["nextCursor"]}
            page = self.by.http.get("/api/tasks", params=following | self.parameters).json()
            known |= {item["id"]: item for item in page["items"]}
        return since, known


def wait_for_old_transactions(stint: Installation) -> None:
    """Waits until all transactions that run now have ended: from then on no row comes twice."""
    ours = "SELECT pg_current_xact_id()::text::numeric"
    now = stint.value(ours)
    oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::numeric"
    eventually(lambda: stint.value(oldest) > now, seconds=OTHERS_SECONDS)


def ids(items: list[Json]) -> set[str]:
    return {item["id"] for item in items}

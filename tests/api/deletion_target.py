"""A customer or a pillar for the tests of deletion."""

import httpx2

from tests.support.answers import Json, problem
from tests.support.given import Given, Person

KINDS = ["customer", "pillar"]


class Target:
    """A customer, or a pillar that is not its default one, to delete."""

    def __init__(self, kind: str, given: Given, by: Person) -> None:
        self.kind, self.given, self.by = kind, given, by
        self.customer = given.customer(by)
        self.path = f"/api/customers/{self.customer['id']}"
        self.more: Json = {}
        if kind == "pillar":
            pillar = by.post(f"{self.path}/pillars", {"name": "Hosting"})
            self.path += f"/pillars/{pillar['id']}"
            self.more = {"pillarId": pillar["id"]}

    def task(self) -> Json:
        return self.given.task(self.by, self.customer, **self.more)

    def delete(self) -> httpx2.Response:
        return self.by.http.delete(self.path)

    def references(self) -> Json:
        """Tries to delete it, and returns what refers to it, by kind."""
        body = problem(self.delete(), 409)
        assert body["detail"].startswith(f"This {self.kind} can't be deleted: ")
        return {kind: ids for kind, ids in body["references"].items() if ids}

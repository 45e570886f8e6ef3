"""The stand-in Xero: one HTTP server for consent, tokens and the Projects API, with Xero's rules, limits and moods.

    python -m ops.sandbox.xero --port 8180 [--host 127.0.0.1] [--state FILE]

It takes the client STINT-SANDBOX with the secret `not-a-secret-of-anyone`. What answers as Xero does:

    GET    /identity/connect/authorize       a page with a button; `auto=1` presses it
    POST   /connect/token, /connect/revocation
    GET    /connections, DELETE /connections/{id}
           /projects.xro/2.0/…               Projects, Projects/{id}, …/Tasks, …/Time, ProjectsUsers; see Xero's OpenAPI file

Orders, for tests; JSON in and out, never logged, limited or faulty (server.py has those that every stand-in knows):

    GET    /sandbox/entries                  all time entries, in the order in which they came
    PATCH  /sandbox/entries/{id}             {"status": "ACTIVE" | "LOCKED" | "INVOICED", …} as somebody in Xero would
    DELETE /sandbox/entries/{id}             likewise
    POST   /sandbox/tenants                  {"name"}: one more organisation; {"tenantId"}
    POST   /sandbox/projects                 {"name", "tenantId"?}: the project
    PATCH  /sandbox/projects/{id}            {"status": "INPROGRESS" | "CLOSED"}
    POST   /sandbox/projects/{id}/tasks      {"name", "chargeType"?, "rate"?}: the task
    POST   /sandbox/users                    {"name", "email", "tenantId"?}: the user
    POST   /sandbox/codes                    {"redirectUri"}: {"code"}, as if a person had pressed Allow
    POST   /sandbox/expire                   every access token has expired
    POST   /sandbox/disconnect               somebody disconnects the app within Xero: no token works any more
    PUT    /sandbox/settings                 any of {"concurrent", "minute", "day"} (null: no limit), {"accessSeconds",
                                             "graceSeconds", "idempotencySeconds", "latencySeconds"}
    DELETE /sandbox                          everything as on the first day
    GET    /                                 a page for people: what has arrived
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.sandbox.http import Answer, Request
from ops.sandbox.keys import Keys
from ops.sandbox.limits import Limits
from ops.sandbox.server import StandIn, serve
from ops.sandbox.xero_book import Book, Json
from ops.sandbox.xero_identity import CLIENT_ID, CLIENT_SECRET, Identity, forbidden, unauthorized
from ops.sandbox.xero_orders import obey
from ops.sandbox.xero_page import page
from ops.sandbox.xero_projects import BASE, Projects


class Xero(StandIn):
    """Ties rooms together: who may come in, limits, Idempotency-Keys."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self.book = book
        self.identity = Identity(book)
        self.projects = Projects(book)
        self._forget_settings()

    def _forget_settings(self) -> None:
        self.limits: dict[str, Limits] = {}
        self.latency_seconds = 0.0
        self.keys = Keys()
        self._limit_settings: dict[str, int | None] = {}
        self._inside: dict[int, Limits] = {}  # the calls that are going on, by the request's identity

    def account(self, request: Request) -> str | None:
        return request.headers.get("xero-tenant-id")

    def enter(self, request: Request) -> Answer | None:
        if not request.path.startswith(BASE):
            return None
        if problem := self.identity.problem(request):
            return unauthorized(problem)
        tenant_id = self.account(request) or ""
        if not self.identity.has_connection(tenant_id):
            return forbidden()
        limits = self._limits(tenant_id)
        if met := limits.enter():
            problem, seconds = met
            return Answer(429, headers={"Retry-After": str(seconds), "X-Rate-Limit-Problem": problem})
        self._inside[id(request)] = limits
        return None

    def leave(self, request: Request) -> None:
        if limits := self._inside.pop(id(request), None):
            limits.leave()

    def answer(self, request: Request) -> Answer:
        answer = self._answer(request)
        if request.method != "GET":
            self.book.save()
        return answer

    def _answer(self, request: Request) -> Answer:
        if request.path.startswith(BASE):
            limits, tenant_id = self._inside.get(id(request)), self.account(request) or ""
            if limits is None:  # it came before everything began anew
                return unauthorized("AuthenticationUnsuccessful")
            answer = self.keys.once(request, tenant_id, lambda: self.projects.answer(request, tenant_id))
            return Answer(answer.status, answer.body, {**answer.headers, **limits.remaining()})
        match request.method, request.path.rstrip("/").lower():
            case "GET", "/identity/connect/authorize":
                return self.identity.authorize(request)
            case "POST", "/connect/token":
                return self.identity.token(request)
            case "POST", "/connect/revocation":
                return self.identity.revoke(request)
            case method, path if path.startswith("/connections"):
                return self._connections(method, path, request)
        return Answer.json(404, {"message": "No such page in this sandbox"})

    def _connections(self, method: str, path: str, request: Request) -> Answer:
        if problem := self.identity.problem(request):
            return unauthorized(problem)
        match method, path.split("/")[2:]:
            case "GET", []:
                return self.identity.list_connections(request)
            case "DELETE", [connection_id]:
                return self.identity.delete_connection(connection_id)
        return Answer(404)

    def _limits(self, tenant_id: str) -> Limits:
        if tenant_id not in self.limits:
            self.limits[tenant_id] = Limits()
            self._apply_limits()
        return self.limits[tenant_id]

    def _apply_limits(self) -> None:
        for limits in self.limits.values():
            for name, value in self._limit_settings.items():
                setattr(limits, name, value)

    def order(self, request: Request) -> Answer | None:
        if request.method == "GET" and request.path == "/":
            return Answer.html(page(self.book))
        if not request.path.startswith("/sandbox"):
            return None
        try:
            return self._obey(request.method, request.path.split("/")[2:], request.json() or {})
        except (KeyError, TypeError) as error:
            return Answer.json(422, {"message": f"not understood: {error!r}"})
        finally:
            if request.method != "GET":
                self.book.save()

    def _obey(self, method: str, path: Sequence[str], body: Json) -> Answer:
        if done := obey(self.book, method, path, body):
            return done
        match method, path:
            case "POST", ["codes"]:
                return Answer.json(201, {"code": self.identity.new_code(body["redirectUri"])})
            case "POST", ["expire"]:
                self.identity.expire_access_tokens()
            case "POST", ["disconnect"]:
                self.identity.forget()
            case "PUT", ["settings"]:
                self._set(body)
            case "DELETE", []:
                self._reset()
            case _:
                return Answer.json(404, {"message": "No such order"})
        return Answer(204)

    def _set(self, body: Mapping[str, Any]) -> None:
        for name, value in body.items():
            match name:
                case "concurrent" | "minute" | "day":
                    self._limit_settings[name] = value
                case "accessSeconds":
                    self.identity.lifetimes.access_seconds = value
                case "graceSeconds":
                    self.identity.lifetimes.grace_seconds = value
                case "idempotencySeconds":
                    self.keys.seconds = value
                case "latencySeconds":
                    self.latency_seconds = value
                case _:
                    raise KeyError(name)
        self._apply_limits()

    def _reset(self) -> None:
        self.book.reset()
        self.identity = Identity(self.book)
        self.faults.replace([])
        self.calls.clear()
        self._forget_settings()


def environment(url: str) -> dict[str, str]:
    """The settings of a Stint that takes the stand-in at `url` for Xero."""
    return {
        "XERO_CLIENT_ID": CLIENT_ID,
        "XERO_CLIENT_SECRET": CLIENT_SECRET,
        "XERO_API_URL": url,
        "XERO_IDENTITY_URL": url,
        "XERO_LOGIN_URL": url,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.sandbox.xero", description="A stand-in for Xero.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, help="a file that keeps what it knows")
    chosen = parser.parse_args(arguments)
    asyncio.run(serve(Xero(Book(chosen.state)), host=chosen.host, port=chosen.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The stand-in for Xero: one HTTP server for consent, tokens and the Projects API, with Xero's rules, limits and failures.

    python -m ops.sandbox.xero.stand_in --port 8180 [--host 127.0.0.1] [--state FILE]

It accepts the client STINT-SANDBOX with the secret `not-a-secret-of-anyone`. The routes of Xero:

    GET    /identity/connect/authorize       a page with a button; with `auto=1`, the redirect that follows it
    POST   /connect/token, /connect/revocation
    GET    /connections, DELETE /connections/{id}
           /projects.xro/2.0/…               Projects, Projects/{id}, …/Tasks, …/Time, ProjectsUsers; see Xero's OpenAPI file

These routes control it, with JSON, and are never logged, limited or faulty (server.py has those of every stand-in):

    GET    /sandbox/entries                  all time entries, in the order of their arrival
    POST   /sandbox/entries                  all fields of an entry: creates it, like a user of Xero; the entry
    PATCH  /sandbox/entries/{id}             {"status": "ACTIVE" | "LOCKED" | "INVOICED", …}, like a user of Xero
    DELETE /sandbox/entries/{id}             deletes the entry, like a user of Xero
    POST   /sandbox/tenants                  {"name"}: one more organisation; {"tenantId"}
    POST   /sandbox/projects                 {"name", "tenantId"?}: the project
    PATCH  /sandbox/projects/{id}            any fields, such as {"status": "CLOSED"} or {"currencyCode": "XCG"}
    PATCH  /sandbox/tasks/{id}               any fields
    POST   /sandbox/projects/{id}/tasks      {"name", "chargeType"?, "rate"?}: the task
    POST   /sandbox/users                    {"name", "email", "tenantId"?, "userId"?}: the user
    DELETE /sandbox/users/{id}               removes the user from Xero Projects; their entries stay
    POST   /sandbox/codes                    {"redirectUri"}: {"code"}, as if a person had given consent
    POST   /sandbox/expire                   lets every access token expire
    POST   /sandbox/disconnect               revokes all tokens, as after 60 days without a renewal
    POST   /sandbox/unlink                   {"tenantId"?}: disconnects the app within Xero: its tokens stay valid
    PUT    /sandbox/problem                  {"kind": "not_provisioned" | "lost_scopes" | "offline" | null}: of every tenant
    PUT    /sandbox/settings                 any of {"concurrent", "minute", "day"} (null: no limit), {"accessSeconds",
                                             "graceSeconds", "idempotencySeconds", "latencySeconds", "clientSecret"}, and
                                             "listLagSeconds": [shortest, longest], by which lists lag behind changes
    DELETE /sandbox                          resets everything
    GET    /                                 a page with the time entries that have arrived
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.sandbox.http import Request, Response
from ops.sandbox.idempotency_keys import IdempotencyKeys
from ops.sandbox.limits import Limits
from ops.sandbox.server import StandIn, serve
from ops.sandbox.xero.control_routes import control
from ops.sandbox.xero.identity import CLIENT_ID, CLIENT_SECRET, Identity, forbidden, problem_answer, unauthorized
from ops.sandbox.xero.page import page
from ops.sandbox.xero.projects import BASE, Projects
from ops.sandbox.xero.store import Json, Store


class Xero(StandIn):
    """Combines access, rate limits, Idempotency-Keys and the Projects API."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.identity = Identity(store)
        self.projects = Projects(store)
        self._reset_settings()

    def _reset_settings(self) -> None:
        self.limits: dict[str, Limits] = {}
        self.problem: str | None = None
        self.identity.client_secret = CLIENT_SECRET
        self.latency_seconds = 0.0
        self.projects.list_lag_seconds = (0.0, 0.0)
        self.idempotency_keys = IdempotencyKeys()
        self._limit_settings: dict[str, int | None] = {}
        self._inside: dict[int, Limits] = {}  # the running calls, by the id() of their request

    def account(self, request: Request) -> str | None:
        return request.headers.get("xero-tenant-id")

    def enter(self, request: Request) -> Response | None:
        if not request.path.startswith(BASE):
            return None
        if problem := self.identity.problem(request):
            return unauthorized(problem)
        tenant_id = self.account(request) or ""
        if not self.identity.has_connection(tenant_id):
            return forbidden()
        if self.problem is not None:
            return problem_answer(self.problem)
        limits = self._limits(tenant_id)
        if met := limits.enter():
            problem, seconds = met
            return Response(429, headers={"Retry-After": str(seconds), "X-Rate-Limit-Problem": problem})
        self._inside[id(request)] = limits
        return None

    def leave(self, request: Request) -> None:
        if limits := self._inside.pop(id(request), None):
            limits.leave()

    def answer(self, request: Request) -> Response:
        answer = self._answer(request)
        if request.method != "GET":
            self.store.save()
        return answer

    def _answer(self, request: Request) -> Response:
        if request.path.startswith(BASE):
            limits, tenant_id = self._inside.get(id(request)), self.account(request) or ""
            if limits is None:  # it arrived before a reset
                return unauthorized("AuthenticationUnsuccessful")
            answer = self.idempotency_keys.once(request, tenant_id, lambda: self.projects.answer(request, tenant_id))
            return Response(answer.status, answer.body, {**answer.headers, **limits.remaining()})
        match request.method, request.path.rstrip("/").lower():
            case "GET", "/identity/connect/authorize":
                return self.identity.authorize(request)
            case "POST", "/connect/token":
                return self.identity.token(request)
            case "POST", "/connect/revocation":
                return self.identity.revoke(request)
            case method, path if path.startswith("/connections"):
                return self._connections(method, path, request)
        return Response.json(404, {"message": "No such page in this sandbox"})

    def _connections(self, method: str, path: str, request: Request) -> Response:
        if problem := self.identity.problem(request):
            return unauthorized(problem)
        match method, path.split("/")[2:]:
            case "GET", []:
                return self.identity.list_connections(request)
            case "DELETE", [connection_id]:
                return self.identity.delete_connection(connection_id)
        return Response(404)

    def _limits(self, tenant_id: str) -> Limits:
        if tenant_id not in self.limits:
            self.limits[tenant_id] = Limits()
            self._apply_limits()
        return self.limits[tenant_id]

    def _apply_limits(self) -> None:
        for limits in self.limits.values():
            for name, value in self._limit_settings.items():
                setattr(limits, name, value)

    def control(self, request: Request) -> Response | None:
        if request.method == "GET" and request.path == "/":
            return Response.html(page(self.store))
        if not request.path.startswith("/sandbox"):
            return None
        try:
            return self._control(request.method, request.path.split("/")[2:], request.json() or {})
        except (KeyError, TypeError) as error:
            return Response.json(422, {"message": f"invalid request: {error!r}"})
        finally:
            if request.method != "GET":
                self.store.save()

    def _control(self, method: str, path: Sequence[str], body: Json) -> Response:
        if done := control(self.store, method, path, body):
            return done
        match method, path:
            case "POST", ["codes"]:
                return Response.json(201, {"code": self.identity.new_code(body["redirectUri"])})
            case "POST", ["expire"]:
                self.identity.expire_access_tokens()
            case "POST", ["disconnect"]:
                self.identity.forget()
            case "POST", ["unlink"]:
                self.identity.unlink(body.get("tenantId"))
            case "PUT", ["problem"]:
                if body["kind"] is not None:
                    problem_answer(body["kind"])  # raises KeyError for an unknown one
                self.problem = body["kind"]
            case "PUT", ["settings"]:
                self._set(body)
            case "DELETE", []:
                self._reset()
            case _:
                return Response.json(404, {"message": "No such route"})
        return Response(204)

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
                    self.idempotency_keys.seconds = value
                case "latencySeconds":
                    self.latency_seconds = value
                case "clientSecret":
                    self.identity.client_secret = value
                case "listLagSeconds":
                    self.projects.list_lag_seconds = (float(value[0]), float(value[1]))
                case _:
                    raise KeyError(name)
        self._apply_limits()

    def _reset(self) -> None:
        self.store.reset()
        self.identity = Identity(self.store)
        self.faults.replace([])
        self.calls.clear()
        self._reset_settings()


def environment(url: str) -> dict[str, str]:
    """The settings that make Stint use the stand-in at `url` instead of Xero."""
    return {
        "XERO_CLIENT_ID": CLIENT_ID,
        "XERO_CLIENT_SECRET": CLIENT_SECRET,
        "XERO_API_URL": url,
        "XERO_IDENTITY_URL": url,
        "XERO_LOGIN_URL": url,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.sandbox.xero.stand_in", description="A stand-in for Xero.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, help="the file that stores its data")
    chosen = parser.parse_args(arguments)
    asyncio.run(serve(Xero(Store(chosen.state)), host=chosen.host, port=chosen.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())

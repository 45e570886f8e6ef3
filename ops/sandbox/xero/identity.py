"""Access to the stand-in for Xero: consent, rotating tokens, connections to organisations."""

import base64
import secrets
import time
import uuid
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

from ops.sandbox.http import Request, Response
from ops.sandbox.xero.store import Json, Store, utc

CLIENT_ID, CLIENT_SECRET = "STINT-SANDBOX", "not-a-secret-of-anyone"
_REFRESH_SECONDS = 60 * 24 * 3600
_CODE_SECONDS = 300
_KEPT_SECONDS = 3600  # an expired token is kept for this time, so that it can be answered with "expired"


@dataclass
class Lifetimes:
    access_seconds: float = 1800
    grace_seconds: float = 1800  # how long a refresh token still works after it was replaced


class Identity:
    """Issues and checks tokens. They are stored in the store, so that they are valid after a restart."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lifetimes = Lifetimes()
        self.client_secret = CLIENT_SECRET

    def authorize(self, request: Request) -> Response:
        """The page on which a person gives consent, or the redirect that follows (`auto=1`, for tests)."""
        query = request.query
        wrong = _wrong_authorization(query)
        if wrong:
            return Response.json(400, {"error": "invalid_request", "error_description": wrong})
        if query.get("auto") != "1":
            return Response.html(_consent_page(request))
        back = {"code": self.new_code(query["redirect_uri"]), "scope": query["scope"], "state": query.get("state", "")}
        joint = "&" if "?" in query["redirect_uri"] else "?"
        return Response(302, headers={"Location": f"{query['redirect_uri']}{joint}{urlencode(back)}"})

    def new_code(self, redirect_uri: str) -> str:
        code = secrets.token_urlsafe(24)
        self.store.codes[code] = {"redirect_uri": redirect_uri, "until": time.time() + _CODE_SECONDS}
        return code

    def token(self, request: Request) -> Response:
        """`/connect/token`: exchanges a code or a refresh token for new tokens."""
        form = request.form()
        if not self._is_our_client(request, form):
            return Response.json(400, {"error": "invalid_client"})
        match form.get("grant_type"):
            case "authorization_code":
                code = self.store.codes.pop(form.get("code", ""), None)
                if code is None or code["until"] < time.time() or code["redirect_uri"] != form.get("redirect_uri"):
                    return Response.json(400, {"error": "invalid_grant"})
                event = str(uuid.uuid4())
                self._connect(event)
                return self._issue(event)
            case "refresh_token":
                known = self.store.refresh_tokens.get(form.get("refresh_token", ""))
                if known is None or known["until"] < time.time():
                    return Response.json(400, {"error": "invalid_grant"})
                # a client that did not get the answer may use the old token again for a while
                known["until"] = min(known["until"], time.time() + self.lifetimes.grace_seconds)
                return self._issue(known["event"])
        return Response.json(400, {"error": "unsupported_grant_type"})

    def revoke(self, request: Request) -> Response:
        """`/connect/revocation`: revokes a refresh token, all tokens of the same consent, and its connections."""
        form = request.form()
        if not self._is_our_client(request, form):
            return Response.json(400, {"error": "invalid_client"})
        known = self.store.refresh_tokens.get(form.get("token", ""))
        if known is not None:
            self.forget(known["event"])
        return Response(200)  # RFC 7009: also for an unknown token

    def forget(self, event: str | None = None) -> None:
        """Revokes one consent, or all."""
        store = self.store
        for rows in (store.refresh_tokens, store.access_tokens, store.connections):
            for key in [key for key, row in rows.items() if event in (None, row.get("event") or row.get("authEventId"))]:
                del rows[key]

    def unlink(self, tenant_id: str | None = None) -> None:
        """Disconnects the app from one organisation, or from all, as people do it within Xero: tokens stay valid and can be
        renewed, but give no access any more."""
        connections = self.store.connections
        for key in [key for key, row in connections.items() if tenant_id in (None, row["tenantId"])]:
            del connections[key]

    def expire_access_tokens(self) -> None:
        for token in self.store.access_tokens.values():
            token["until"] = 0

    def problem(self, request: Request) -> str | None:
        """Why the bearer token of a request is refused, or None when it is valid."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = self.store.access_tokens.get(token) if scheme.lower() == "bearer" else None
        if known is None:
            return "AuthenticationUnsuccessful"
        if known["until"] < time.time():
            return f"TokenExpired: token expired at {time.strftime('%m/%d/%Y %H:%M:%S', time.gmtime(known['until']))}"
        return None

    def has_connection(self, tenant_id: str) -> bool:
        return any(connection["tenantId"] == tenant_id for connection in self.store.connections.values())

    def list_connections(self, request: Request) -> Response:
        event = request.query.get("authEventId")
        return Response.json(200, [c for c in self.store.connections.values() if event in (None, c["authEventId"])])

    def delete_connection(self, connection_id: str) -> Response:
        return Response(204 if self.store.connections.pop(connection_id, None) else 404)

    def _is_our_client(self, request: Request, form: dict[str, str]) -> bool:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                client_id, _, secret = base64.b64decode(sent, validate=True).decode().partition(":")
            except ValueError:
                return False
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        return (client_id, secret) == (CLIENT_ID, self.client_secret)

    def _connect(self, event: str) -> None:
        """One connection per organisation; connecting again keeps its id."""
        now = utc().removesuffix("Z")
        before = {connection["tenantId"]: connection for connection in self.store.connections.values()}
        for tenant in self.store.tenants.values():
            known = before.get(tenant["tenantId"], {"id": str(uuid.uuid4()), "createdDateUtc": now})
            self.store.connections[known["id"]] = {**known, **tenant, "authEventId": event, "updatedDateUtc": now}

    def _issue(self, event: str) -> Response:
        now = time.time()
        access, refresh = secrets.token_urlsafe(600), secrets.token_urlsafe(32)  # as long as Xero's
        for tokens in (self.store.access_tokens, self.store.refresh_tokens):
            for token in [token for token, row in tokens.items() if row["until"] < now - _KEPT_SECONDS]:
                del tokens[token]
        self.store.access_tokens[access] = {"event": event, "until": now + self.lifetimes.access_seconds}
        self.store.refresh_tokens[refresh] = {"event": event, "until": now + _REFRESH_SECONDS}
        body = {
            "access_token": access,
            "expires_in": int(self.lifetimes.access_seconds),
            "token_type": "Bearer",
            "refresh_token": refresh,
            "scope": "offline_access projects",
        }
        return Response.json(200, body, Cache_Control="no-store")


def unauthorized(detail: str) -> Response:
    return _refusal(401, "Unauthorized", detail)


def forbidden() -> Response:
    return _refusal(403, "Forbidden", "AuthenticationUnsuccessful")


def problem_answer(kind: str) -> Response:
    """What Xero's Projects API answers while an organisation has this problem. The documents do not say how Xero words that the
    organisation uses no Projects."""
    match kind:
        case "not_provisioned":
            return _refusal(401, "Unauthorized", "The organisation has not been provisioned in Xero Projects")
        case "lost_scopes":
            answer = _refusal(401, "Unauthorized", "AuthorizationUnsuccessful")
            return Response(401, answer.body, {**answer.headers, "WWW-Authenticate": "insufficient_scope"})
        case "offline":
            return Response(503, b"The organisation is offline", {"Content-Type": "text/plain"})
    raise KeyError(kind)


def _refusal(status: int, title: str, detail: str) -> Response:
    body: Json = {
        "Type": None,
        "Title": title,
        "Status": status,
        "Detail": detail,
        "Instance": str(uuid.uuid4()),
        "Extensions": {},
    }
    return Response.json(status, body)


def _wrong_authorization(query: Any) -> str | None:
    if query.get("response_type") != "code":
        return "response_type must be code"
    if query.get("client_id") != CLIENT_ID:
        return "client_id is not known here"
    if not query.get("redirect_uri", "").startswith(("http://", "https://")):
        return "redirect_uri is missing"
    if not {"offline_access", "projects"} <= set(query.get("scope", "").split()):
        return "scope must contain offline_access and projects"
    return None


def _consent_page(request: Request) -> str:
    again = escape(f"{request.path}?{urlencode({**request.query, 'auto': '1'})}")
    back = escape(request.query["redirect_uri"])
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sandbox: allow Stint?</title></head>
<body style="font-family: sans-serif; max-width: 40em; margin: 4em auto; line-height: 1.5">
<h1>This is a sandbox, not Xero</h1>
<p>In Xero, a person would choose an organisation here and allow Stint to write its project time. You return to {back}.</p>
<p><a href="{again}" style="background: #13b5ea; color: white; padding: .6em 2em; text-decoration: none">Allow</a></p>
</body></html>"""

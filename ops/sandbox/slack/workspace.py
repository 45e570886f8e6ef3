"""The data of the stand-in for Slack, and its Web API: users, modals and messages, with Slack's rules."""

import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.sandbox.http import Request, Response
from ops.sandbox.slack import channels
from ops.sandbox.slack.checks import Refused, check_home, check_message, check_texts, check_view

Json = dict[str, Any]

TEAM_ID = "T0SANDBOX"
BOT_TOKEN = "xoxb-not-a-token-of-anyone"  # noqa: S105 - it is valid only for the sandbox
SIGNING_SECRET = "not-a-secret-of-anyone"  # noqa: S105
TRIGGER_SECONDS = 3.0
HOOKS, HOOK_SECONDS, HOOK_USES = "/commands/", 1800.0, 5


SETTINGS: Json = {
    "channelSeconds": 0.0,  # after a message, a channel refuses others for this time
    "homeTab": True,  # whether the app's Home tab is turned on
    "history": True,  # whether the app may read channels
    "revoked": False,  # whether its token is revoked
    "botToken": BOT_TOKEN,  # the one that is accepted; another one after the app was installed again
    "redirect": None,  # the target to which response URLs redirect
    "refused": {},  # the answers to methods that Slack refuses: {"users.info": {"error": "missing_scope", "needed": …}}
    "scopes": None,  # those of the app, which Slack names in each answer; None: all, and it names none
    "organization": None,  # the id of the organization, if the app is installed in all its workspaces
}


@dataclass
class Workspace:
    """One workspace with one app in it."""

    users: dict[str, Json] = field(default_factory=dict)
    channels: dict[str, Json] = field(default_factory=dict)  # by id, as Slack describes them
    used: set[str] = field(default_factory=set)  # triggers
    uses: Counter[str] = field(default_factory=Counter)  # of response URLs, by path
    views: dict[str, Json] = field(default_factory=dict)
    messages: list[Json] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)  # to a response_url
    unfurls: list[Json] = field(default_factory=list)  # previews of links
    homes: dict[str, Json] = field(default_factory=dict)  # the published view of each user's App Home
    settings: Json = field(default_factory=lambda: dict(SETTINGS))
    _posted: dict[str, float] = field(default_factory=dict)

    # changes by people

    def add_user(self, body: Mapping[str, Any]) -> Json:
        user = {
            "id": body.get("id") or f"U{secrets.token_hex(4).upper()}",
            "team_id": body.get("teamId", TEAM_ID),
            "name": body.get("name", "somebody"),
            "is_bot": bool(body.get("bot")),
            "deleted": bool(body.get("deleted")),
            "tz": body.get("tz", "Europe/Berlin"),
            "profile": {"email": body["email"]} if body.get("email") else {},
        }
        if "teams" in body:  # a user of the organization "enterpriseId", in these workspaces
            user["enterprise_user"] = {"id": "W1", "enterprise_id": body.get("enterpriseId", "E0ORG"), "teams": body["teams"]}
        self.users[user["id"]] = user
        return user

    def add_channel(self, body: Mapping[str, Any]) -> None:
        self.channels[body["id"]] = channels.described(body)

    # the Web API

    def answer(self, request: Request) -> Response:
        if request.path.startswith(HOOKS):
            try:
                return self._respond(request)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                return Response.json(400, {"ok": False, "error": "invalid_payload", "why": repr(error)})
        method = METHODS.get(request.path.removeprefix("/api/"))
        if method is None:
            return Response.json(404, {"ok": False, "error": "unknown_method"})
        try:
            self._check_token(request)
            if refusal := self.settings["refused"].get(request.path.removeprefix("/api/")):
                return Response.json(200, {"ok": False, **refusal})
            named = {"X_OAuth_Scopes": ",".join(scopes)} if (scopes := self.settings["scopes"]) is not None else {}
            return Response.json(200, {"ok": True, **method(self, _arguments(request))}, **named)
        except Refused as error:
            return Response.json(200, {"ok": False, "error": str(error), **error.more})
        except RateLimited as error:
            return Response.json(429, {"ok": False, "error": "ratelimited"}, Retry_After=str(error.seconds))
        except (KeyError, TypeError, ValueError) as error:
            return Response.json(200, {"ok": False, "error": "invalid_arguments", "why": repr(error)})

    def _check_token(self, request: Request) -> None:
        if self.settings["revoked"]:
            raise Refused("account_inactive")
        if request.headers.get("authorization") != f"Bearer {self.settings['botToken']}":
            raise Refused("invalid_auth" if "authorization" in request.headers else "not_authed")

    def _respond(self, request: Request) -> Response:
        if self.settings["redirect"]:
            return Response(307, headers={"Location": self.settings["redirect"]})
        if age(request.path.rpartition("/")[2].replace("-", ".")) > HOOK_SECONDS:
            return Response.json(404, {"ok": False, "error": "expired_url"})
        self.uses[request.path] += 1
        if self.uses[request.path] > HOOK_USES:
            return Response.json(404, {"ok": False, "error": "used_url"})
        try:
            check_message(request.json().get("blocks") or [])
        except Refused as error:
            return Response.json(400, {"ok": False, "error": str(error)})
        self.answers.append({"at": request.at, "path": request.path, **request.json()})
        return Response.json(200, {"ok": True})

    def auth_test(self, _: Json) -> Json:
        found = {"team_id": TEAM_ID, "team": "Sandbox", "user_id": "U0STINT", "bot_id": "B0STINT"}
        if organization := self.settings["organization"]:
            found |= {"team_id": organization, "enterprise_id": organization}
        return found | {"is_enterprise_install": organization is not None}

    def users_info(self, arguments: Json) -> Json:
        if (user := self.users.get(arguments["user"])) is None:
            raise Refused("user_not_found")
        if "users:read.email" not in (self.settings["scopes"] or ["users:read.email"]):
            return {"user": user | {"profile": {}}}
        return {"user": user}

    def users_lookup_by_email(self, arguments: Json) -> Json:
        for user in self.users.values():
            if user["profile"].get("email", "").lower() == arguments["email"].lower() and not user["deleted"]:
                return {"user": user}
        raise Refused("users_not_found")

    def views_open(self, arguments: Json) -> Json:
        trigger_id = arguments["trigger_id"]
        if trigger_id in self.used:
            raise Refused("exchanged_trigger_id")
        if age(trigger_id) > TRIGGER_SECONDS:
            raise Refused("expired_trigger_id")
        check_view(arguments["view"])
        self.used.add(trigger_id)
        view: Json = {"id": f"V{secrets.token_hex(5).upper()}", "team_id": TEAM_ID, "state": {"values": {}}, "at": time.time()}
        view |= arguments["view"]
        self.views[view["id"]] = view
        return {"view": view}

    def views_update(self, arguments: Json) -> Json:
        view = self.views.get(arguments["view_id"])
        if view is None:
            raise Refused("not_found")
        check_view(arguments["view"])
        view.update({"private_metadata": "", "callback_id": "", "submit": None} | arguments["view"])
        return {"view": view}

    def views_publish(self, arguments: Json) -> Json:
        user = arguments["user_id"]
        if user not in self.users:
            raise Refused("invalid_arguments")
        if not self.settings["homeTab"]:
            raise Refused("not_enabled")
        before = self.homes.get(user)
        if arguments.get("hash") and (before is None or before["hash"] != arguments["hash"]):
            raise Refused("hash_conflict")
        check_home(arguments["view"])
        now = time.time()
        view_id = before["id"] if before else f"V{secrets.token_hex(5).upper()}"
        view = {"id": view_id, "team_id": TEAM_ID, "hash": f"{now:.6f}.{secrets.token_hex(4)}", "at": now, **arguments["view"]}
        view |= {"published": before["published"] + 1 if before else 1, "replaces": arguments.get("hash")}
        self.homes[user] = view
        return {"view": view}

    def chat_post_message(self, arguments: Json) -> Json:
        channel = arguments["channel"]
        if channel not in self.channels and channel not in self.users:
            raise Refused("channel_not_found")
        now = time.time()
        pace = self.settings["channelSeconds"]
        if now < self._posted.get(channel, 0) + pace:
            raise RateLimited(max(1, round(pace)))
        self._posted[channel] = now
        check_message(arguments.get("blocks") or [])
        message = {**arguments, "ts": f"{now:.6f}", "at": now}
        self.messages.append(message)
        return {"channel": channel, "ts": message["ts"], "message": message}

    def chat_unfurl(self, arguments: Json) -> Json:
        if arguments["source"] not in ("composer", "conversations_history"):
            raise Refused("invalid_source")
        for preview in arguments["unfurls"].values():
            check_texts(preview["blocks"])
        self.unfurls.append({name: arguments[name] for name in ("unfurl_id", "source", "unfurls")})
        return {}

    def conversations_history(self, arguments: Json) -> Json:
        if not self.settings["history"]:
            raise Refused("missing_scope")
        if arguments["channel"] not in self.channels:
            raise Refused("channel_not_found")
        since = float(arguments.get("oldest", 0))
        found = [row for row in self.messages if row["channel"] == arguments["channel"] and float(row["ts"]) >= since]
        return {"messages": found[::-1]}

    def conversations_list(self, arguments: Json) -> Json:
        if self.settings["organization"] and "team_id" not in arguments:
            raise Refused("missing_argument")
        return channels.page(list(self.channels.values()), arguments, scopes=self.settings["scopes"])


class RateLimited(Exception):
    """Too many messages for this channel."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


METHODS = {
    "auth.test": Workspace.auth_test,
    "users.info": Workspace.users_info,
    "users.lookupByEmail": Workspace.users_lookup_by_email,
    "views.open": Workspace.views_open,
    "views.update": Workspace.views_update,
    "views.publish": Workspace.views_publish,
    "chat.postMessage": Workspace.chat_post_message,
    "chat.unfurl": Workspace.chat_unfurl,
    "conversations.history": Workspace.conversations_history,
    "conversations.list": Workspace.conversations_list,
}


def new_trigger() -> str:
    """A trigger_id: it allows an app to open one modal within 3 seconds. It contains its own time, so it need not be stored."""
    return f"{time.time():.6f}.{secrets.token_hex(16)}"


def new_hook() -> str:
    """The path of a response_url, valid for half an hour and five uses. It contains its own time as well."""
    return f"{HOOKS}{TEAM_ID}/{secrets.randbelow(10**12)}/{new_trigger().replace('.', '-')}"


def age(trigger_id: str) -> float:
    """The seconds since it was created. Raises ValueError for any other text."""
    seconds, fraction, _ = trigger_id.split(".")
    return time.time() - float(f"{seconds}.{fraction}")


def _arguments(request: Request) -> Json:
    """The arguments from query, form or JSON, as Slack accepts them. In a form, structured values are JSON."""
    if request.headers.get("content-type", "").startswith("application/json"):
        body = request.json()
        return {**request.query, **(body if isinstance(body, dict) else {})}
    form = request.form()
    for name in ("blocks", "metadata", "view"):
        if name in form:
            form[name] = json.loads(form[name])
    return {**request.query, **form}

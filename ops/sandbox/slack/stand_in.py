"""The stand-in for Slack: its Web API and response URLs over HTTP, with Slack's rules: a trigger is valid for 3 seconds and one
use, a response_url for half an hour and five uses.

    python -m ops.sandbox.slack.stand_in --port 8190 [--host 127.0.0.1] [--app http://127.0.0.1:8000]

The workspace is T0SANDBOX; workspace.py has its token and its signing secret. These routes control it, with JSON, and are never
logged or faulty (server.py has those of every stand-in):

    POST   /sandbox/users      {"email", "id"?, "bot"?, "deleted"?, "teamId"?, "teams"?, "enterpriseId"?, "tz"?}: the user
    POST   /sandbox/channels   {"id", "name"?, "private"?, "archived"?, "member"?}: with the app, unless "member" is false; or
                               {"many": [such channels]}
    GET    /sandbox/views      the modals in their present state
    GET    /sandbox/homes      the App Home of each user who has one: {user id: view}
    GET    /sandbox/messages   the posted messages: {channel, text, blocks, metadata, ts, at}
    GET    /sandbox/answers    the answers to a response_url: {at, path, text, …}
    GET    /sandbox/unfurls    the previews of links: {unfurl_id, source, unfurls}
    PUT    /sandbox/settings   any of {"channelSeconds", "homeTab", "history", "revoked", "redirect", "scopes", "organization",
                               "refused", "botToken"}
    DELETE /sandbox            resets everything
    GET    /                   a page for people, with --app: commands, forms, buttons
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from ops.sandbox.http import Request, Response
from ops.sandbox.server import StandIn, serve
from ops.sandbox.slack.page import page
from ops.sandbox.slack.page_user import PageUser
from ops.sandbox.slack.workspace import BOT_TOKEN, SIGNING_SECRET, TEAM_ID, Workspace

Json = dict[str, Any]


def environment(url: str) -> dict[str, str]:
    """The settings that make Stint use the stand-in at that URL instead of Slack."""
    return {
        "SLACK_SIGNING_SECRET": SIGNING_SECRET,
        "SLACK_BOT_TOKEN": BOT_TOKEN,
        "SLACK_TEAM_ID": TEAM_ID,
        "SLACK_API_URL": f"{url}/api/",
    }


class Slack(StandIn):
    """The Web API, and the routes that control it."""

    def __init__(self, *, app_url: str, own_url: str) -> None:
        super().__init__()
        self._app_url, self._own_url = app_url, own_url
        self._reset()

    def _reset(self) -> None:
        self.workspace = Workspace()
        self.person = PageUser(self.workspace, app_url=self._app_url, own_url=self._own_url)

    def account(self, request: Request) -> str | None:
        return None

    def enter(self, request: Request) -> Response | None:
        return None

    def leave(self, request: Request) -> None:
        return None

    def answer(self, request: Request) -> Response:
        return self.workspace.answer(request)

    def control(self, request: Request) -> Response | None:
        match request.method, request.path:
            case "GET", "/":
                return Response.html(page(self.person, again="again" in request.query))
            case "POST", "/do":
                self.person.does(request.form())
                return Response(303, headers={"Location": "/?again=1"})
        if not request.path.startswith("/sandbox"):
            return None
        try:
            return self._control(request.method, request.path.split("/")[2:], request.json() or {})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return Response.json(422, {"message": f"invalid request: {error!r}"})

    def _control(self, method: str, path: Sequence[str], body: Json) -> Response:
        workspace = self.workspace
        match method, path:
            case "POST", ["users"]:
                return Response.json(201, workspace.add_user(body))
            case "POST", ["channels"]:
                for channel in body.get("many", [body]):
                    workspace.add_channel(channel)
            case "GET", ["views"]:
                return Response.json(200, list(workspace.views.values()))
            case "GET", ["homes"]:
                return Response.json(200, workspace.homes)
            case "GET", ["messages"]:
                return Response.json(200, workspace.messages)
            case "GET", ["unfurls"]:
                return Response.json(200, workspace.unfurls)
            case "GET", ["answers"]:
                return Response.json(200, workspace.answers)
            case "PUT", ["settings"]:
                if unknown := set(body) - set(workspace.settings):
                    raise KeyError(*unknown)
                workspace.settings.update(body)
            case "DELETE", []:
                self._reset()
                self.faults.replace([])
                self.calls.clear()
            case _:
                return Response.json(404, {"message": "No such route"})
        return Response(204)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.sandbox.slack.stand_in", description="A stand-in for Slack.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--app", default="http://127.0.0.1:8000", help="Stint's URL, which the page sends commands to")
    chosen = parser.parse_args(arguments)
    stand_in = Slack(app_url=chosen.app, own_url=f"http://{chosen.host}:{chosen.port}")
    asyncio.run(serve(stand_in, host=chosen.host, port=chosen.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())

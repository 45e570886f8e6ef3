"""The stand-in Slack: its Web API and its response URLs, over HTTP, with Slack's rules: a trigger lives 3 seconds and works
once, a response_url half an hour and five times.

    python -m ops.sandbox.slack --port 8190 [--host 127.0.0.1] [--app http://127.0.0.1:8000]

The workspace is T0SANDBOX; slack_workspace.py has its token and its signing secret. Orders, for tests; JSON in and out, never
logged or faulty (server.py has those that every stand-in knows):

    POST   /sandbox/users      {"email", "id"?, "bot"?, "deleted"?, "teamId"?}: the user
    POST   /sandbox/channels   {"id", "name"?}: the app is in that channel
    GET    /sandbox/views      the modals as they are
    GET    /sandbox/messages   what was posted: {channel, text, blocks, metadata, ts, at}
    GET    /sandbox/answers    what came to a response_url: {at, path, text, …}
    PUT    /sandbox/settings   any of {"channelSeconds", "history", "revoked", "redirect"}
    DELETE /sandbox            everything as on the first day
    GET    /                   a page for people, with --app: type commands, fill forms, press buttons
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from ops.sandbox.http import Answer, Request
from ops.sandbox.server import StandIn, serve
from ops.sandbox.slack_page import page
from ops.sandbox.slack_person import Person
from ops.sandbox.slack_workspace import BOT_TOKEN, SIGNING_SECRET, TEAM_ID, Workspace

Json = dict[str, Any]


def environment(url: str) -> dict[str, str]:
    """The settings by which Stint takes the stand-in at that URL for Slack."""
    return {
        "SLACK_SIGNING_SECRET": SIGNING_SECRET,
        "SLACK_BOT_TOKEN": BOT_TOKEN,
        "SLACK_TEAM_ID": TEAM_ID,
        "SLACK_API_URL": f"{url}/api/",
    }


class Slack(StandIn):
    """The Web API, and the orders beside it."""

    def __init__(self, *, app_url: str, own_url: str) -> None:
        super().__init__()
        self._app_url, self._own_url = app_url, own_url
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.workspace = Workspace()
        self.person = Person(self.workspace, app_url=self._app_url, own_url=self._own_url)

    def account(self, request: Request) -> str | None:
        return None

    def enter(self, request: Request) -> Answer | None:
        return None

    def leave(self, request: Request) -> None:
        return None

    def answer(self, request: Request) -> Answer:
        return self.workspace.answer(request)

    def order(self, request: Request) -> Answer | None:
        match request.method, request.path:
            case "GET", "/":
                return Answer.html(page(self.person, again="again" in request.query))
            case "POST", "/do":
                self.person.does(request.form())
                return Answer(303, headers={"Location": "/?again=1"})
        if not request.path.startswith("/sandbox"):
            return None
        try:
            return self._obey(request.method, request.path.split("/")[2:], request.json() or {})
        except (KeyError, TypeError) as error:
            return Answer.json(422, {"message": f"not understood: {error!r}"})

    def _obey(self, method: str, path: Sequence[str], body: Json) -> Answer:
        workspace = self.workspace
        match method, path:
            case "POST", ["users"]:
                return Answer.json(201, workspace.add_user(body))
            case "POST", ["channels"]:
                workspace.channels[body["id"]] = body.get("name", "general")
            case "GET", ["views"]:
                return Answer.json(200, list(workspace.views.values()))
            case "GET", ["messages"]:
                return Answer.json(200, workspace.messages)
            case "GET", ["answers"]:
                return Answer.json(200, workspace.answers)
            case "PUT", ["settings"]:
                if unknown := set(body) - set(workspace.settings):
                    raise KeyError(*unknown)
                workspace.settings.update(body)
            case "DELETE", []:
                self._begin_anew()
                self.faults.replace([])
                self.calls.clear()
            case _:
                return Answer.json(404, {"message": "No such order"})
        return Answer(204)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.sandbox.slack", description="A stand-in for Slack.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--app", default="http://127.0.0.1:8000", help="Stint's URL, which the page sends commands to")
    chosen = parser.parse_args(arguments)
    stand_in = Slack(app_url=chosen.app, own_url=f"http://{chosen.host}:{chosen.port}")
    asyncio.run(serve(stand_in, host=chosen.host, port=chosen.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Actions on the sandbox's page: commands, forms, buttons. Each becomes a signed request to Stint, as from Slack; Stint's
answer is stored for the page."""

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import SignedRequest
from ops.sandbox.slack.workspace import Json, Workspace, new_hook, new_trigger

SECONDS = 3.0  # Slack's timeout
CHANNEL = "C0SANDBOX"


class PageUser:
    """The user of the page."""

    def __init__(self, workspace: Workspace, *, app_url: str, own_url: str) -> None:
        self.workspace, self.app_url, self.own_url = workspace, app_url, own_url
        self.answers: list[Json] = []  # what Stint has answered at once, the latest first: {text, blocks}
        self.email, self.user = "admin@example.com", ""  # who has acted last
        self._doing: set[asyncio.Task[None]] = set()

    @property
    def home(self) -> Json:
        """The App Home of who has acted last; empty if Stint has published none."""
        return self.workspace.homes.get(self.user, {})

    def does(self, form: Json) -> None:
        """Starts the action of the page's form in the background."""
        task = asyncio.get_running_loop().create_task(self._do(form))
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    async def _do(self, form: Json) -> None:
        user = self.user = self._user(form.get("email") or self.email)
        self.email = self.workspace.users[user]["profile"].get("email", self.email)
        channel = form.get("channel") or CHANNEL
        if channel not in self.workspace.channels:
            self.workspace.add_channel({"id": channel, "name": channel.lower()})
        match form.get("do"):
            case "type":
                await self._type(form.get("text", ""), user, channel)
            case "home":
                content = {"type": "app_home_opened", "user": user, "channel": "D0SANDBOX", "tab": "home", "event_ts": "1.1"}
                await self._send_to_stint(requests.event(content, event_id=f"Ev{new_trigger()}"))
            case "press" if form.get("where") == "home":
                view = {name: value for name, value in self.home.items() if name not in ("at", "published", "replaces")}
                await self._send_to_stint(
                    requests.interaction(
                        "block_actions", user=user, view=view, actions=[_pressed(form)], trigger_id=new_trigger()
                    )
                )
            case "press":
                trigger: Json = {"trigger_id": new_trigger(), "response_url": self.own_url + new_hook()}
                actions = [_pressed(form)]
                await self._send_to_stint(
                    requests.interaction("block_actions", user=user, channel={"id": channel}, actions=actions, **trigger)
                )
            case "pick":
                await self._pick(self.workspace.views[form["view"]], form, user)
            case "send":
                await self._send(self.workspace.views[form["view"]], form, user)

    def _user(self, email: str) -> str:
        for user in self.workspace.users.values():
            if user["profile"].get("email") == email:
                return str(user["id"])
        return str(self.workspace.add_user({"email": email})["id"])

    async def _type(self, text: str, user: str, channel: str) -> None:
        before = set(self.workspace.views)
        text = text.removeprefix("/task").strip()
        await self._send_to_stint(
            requests.command(
                user=user, channel=channel, text=text, trigger_id=new_trigger(), response_url=self.own_url + new_hook()
            )
        )
        for view_id in set(self.workspace.views) - before:
            await self._offer(self.workspace.views[view_id], user)

    async def _offer(self, view: Json, user: str) -> None:
        """Requests the options of a form's fields from Stint."""
        view["options"] = {}
        for block in view["blocks"]:
            element = block.get("element", {})
            if element.get("type") == "external_select":
                name = element["action_id"]
                asked = requests.interaction(
                    "block_suggestion", user=user, action_id=name, block_id=block["block_id"], value="", view=_sent(view, {})
                )
                said = await self._send_to_stint(asked)
                view["options"][name] = said.get("options", []) if isinstance(said, dict) else []

    async def _pick(self, view: Json, form: Json, user: str) -> None:
        action = {"type": "external_select", "action_id": "customer", "selected_option": {"value": form.get("customer")}}
        asked = requests.interaction(
            "block_actions", user=user, trigger_id=new_trigger(), actions=[action], view=_sent(view, form)
        )
        await self._send_to_stint(asked)
        await asyncio.sleep(0.3)  # Stint adds the customer's pillars to the form after its answer
        await self._offer(view, user)

    async def _send(self, view: Json, form: Json, user: str) -> None:
        said = await self._send_to_stint(requests.submission(_sent(view, form), form, user=user, trigger_id=new_trigger()))
        view["errors"] = said.get("errors") if isinstance(said, dict) else None
        if not view["errors"]:
            del self.workspace.views[view["id"]]

    async def _send_to_stint(self, sent: SignedRequest) -> Any:
        said = await asyncio.to_thread(_post, self.app_url, sent)
        if isinstance(said, dict) and said.get("text"):
            self.answers.insert(0, said)
        elif isinstance(said, str):
            self.answers.insert(0, {"text": f"({said})"})
        return said


def _pressed(form: Json) -> Json:
    return {"type": "button", "action_id": form["action"], "block_id": "b", "value": form["value"]}


def _sent(view: Json, values: Json) -> Json:
    """The form as Slack sends it, with the values of its fields."""
    known = {name: value for name, value in view.items() if name not in ("options", "errors", "at")}
    return known | {"state": {"values": requests.state(view, values)}}


def _post(app_url: str, sent: SignedRequest) -> Any:
    place = urlsplit(app_url)
    stint = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=SECONDS)
    try:
        stint.request("POST", sent.path, sent.body, sent.headers)
        answer = stint.getresponse()
        body = answer.read()
        if answer.status != 200:
            return f"Stint answered {answer.status}"
        return json.loads(body) if body else None
    except (OSError, ValueError) as error:
        return f"Stint did not answer: {type(error).__name__}"
    finally:
        stint.close()

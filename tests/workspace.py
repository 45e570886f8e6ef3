"""The stand-in Slack as tests use it, and the people in it, who type and press buttons in the words of the domain."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from ops.sandbox import slack_app
from ops.sandbox.slack import environment
from ops.sandbox.slack_app import Sent
from ops.sandbox.slack_workspace import new_hook, new_trigger
from tests.installation import CHECKOUT, Installation, eventually, free_port

Json = dict[str, Any]


class SlackSandbox:
    """A stand-in Slack of the test's own."""

    def __init__(self, app_url: str = "http://127.0.0.1:1") -> None:
        self._app_url = app_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = httpx.Client(base_url=self.url, timeout=20)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes an installation talk to it."""
        return environment(self.url) | {"APP_URL": "https://app.example"}

    def start(self) -> "SlackSandbox":
        command = [sys.executable, "-m", "ops.sandbox.slack", "--port", str(self.port), "--app", self._app_url]
        self._process = subprocess.Popen(command, cwd=CHECKOUT)
        eventually(self._answers, why="the stand-in Slack answers")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
        self._http.close()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the stand-in Slack has ended"
        try:
            return self._http.get("/health").status_code == 204
        except httpx.HTTPError:
            return False

    def calls(self, method: str = "") -> list[Json]:
        """Every call of that method of the Web API, or of a response_url (`/commands/`), as it came."""
        found: list[Json] = self.order("GET", "calls")
        return [call for call in found if method in call["path"]]

    def views(self) -> list[Json]:
        found: list[Json] = self.order("GET", "views")
        return found

    def messages(self, channel: str | None = None) -> list[Json]:
        found: list[Json] = self.order("GET", "messages")
        return [message for message in found if channel in (None, message["channel"])]

    def answers(self, path: str | None = None) -> list[Json]:
        found: list[Json] = self.order("GET", "answers")
        return [answer for answer in found if path in (None, answer["path"])]

    def fails(self, kind: str, *, path: str = "", **how: Any) -> None:
        """One rule of `ops/sandbox/faults.py` instead of all others."""
        self.fails_by({"kind": kind, "path": path, **how})

    def fails_by(self, *rules: Json) -> None:
        self.order("PUT", "faults", {"rules": rules})

    def recovers(self) -> None:
        self.fails_by()

    def sets(self, **settings: Any) -> None:
        self.order("PUT", "settings", settings)

    def begins_anew(self) -> None:
        self.order("DELETE", "")

    def channel(self, name: str = "general") -> str:
        """A channel that the app is in."""
        channel_id = f"C{secrets.token_hex(5).upper()}"
        self.order("POST", "channels", {"id": channel_id, "name": name})
        return channel_id

    def user(self, email: str | None, **more: Any) -> str:
        made: Json = self.order("POST", "users", {"email": email, **more})
        user_id: str = made["id"]
        return user_id

    def trigger(self) -> Json:
        """What comes with each thing that somebody does: a trigger, and the path of a response_url."""
        return {"triggerId": new_trigger(), "path": new_hook()}

    def order(self, method: str, what: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"/sandbox/{what}".rstrip("/"), json=body)
        assert answer.is_success, f"{method} {what}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@dataclass
class Member:
    """Somebody in Slack, at a keyboard."""

    slack: SlackSandbox
    stint: Installation
    id: str
    channel: str

    def hand_over(self, sent: Sent) -> httpx.Response:
        """Slack's request, as Slack makes it: over within 3 seconds, or not answered."""
        return httpx.post(f"{self.stint.url}{sent.path}", content=sent.body, headers=sent.headers, timeout=3)

    def sends(self, sent: Sent) -> Any:
        """The answer, if it is one that Slack takes."""
        answer = self.hand_over(sent)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def types(self, text: str, channel: str | None = None) -> Any:
        """`/task text`: what is answered at once, None for nothing."""
        return self.sends(self.typing(text, channel))

    def typing(self, text: str, channel: str | None = None, **more: Any) -> Sent:
        trigger = self.slack.trigger()
        fields: Json = {
            "user": self.id,
            "channel": channel or self.channel,
            "text": text,
            "trigger_id": trigger["triggerId"],
            "response_url": self.slack.url + trigger["path"],
        }
        return slack_app.command(**(fields | more))

    def opens(self, text: str = "", channel: str | None = None) -> Json:
        """The form that `/task` opens."""
        before = {view["id"] for view in self.slack.views()}
        assert self.types(text, channel) is None
        [view] = [view for view in self.slack.views() if view["id"] not in before]
        return view

    def submits(self, view: Json, **values: str | None) -> Any:
        """Sends the form: None when it was taken, else what it is told."""
        return self.sends(self.submission(view, **values))

    def submission(self, view: Json, **values: str | None) -> Sent:
        return slack_app.submission(view, values, user=self.id, trigger_id=self.slack.trigger()["triggerId"])

    def presses(self, action_id: str, value: str, channel: str | None = None) -> str:
        """Presses a button in a message; the response_url's path, at which the answer will be."""
        trigger = self.slack.trigger()
        sent = self.pressing(action_id, value, channel, trigger)
        assert self.sends(sent) is None
        path: str = trigger["path"]
        return path

    def pressing(self, action_id: str, value: str, channel: str | None, trigger: Json) -> Sent:
        action = {"type": "button", "action_id": action_id, "block_id": "b", "value": value, "action_ts": "1.1"}
        return slack_app.interaction(
            "block_actions",
            user=self.id,
            trigger_id=trigger["triggerId"],
            response_url=self.slack.url + trigger["path"],
            channel={"id": channel or self.channel, "name": "general"},
            actions=[action],
            container={"type": "message", "message_ts": "1.1"},
        )

    def is_told(self, path: str) -> str:
        """What comes to that response_url."""
        eventually(lambda: self.slack.answers(path), why=f"an answer; {self.stint.log('work')[-1500:]}")
        text: str = self.slack.answers(path)[0]["text"]
        return text

    def is_offered(self, action_id: str, typed: str = "", *, view: Json | None = None, **values: str | None) -> list[Json]:
        """The options of a select, in the form or in a message: [{"text", "value"}]."""
        where: Json = {"channel": {"id": self.channel, "name": "general"}}
        if view is not None:
            where = {"view": {**view, "state": {"values": slack_app.state(view, values)}}}
        sent = slack_app.interaction("block_suggestion", user=self.id, action_id=action_id, value=typed, block_id="b", **where)
        options: list[Json] = self.sends(sent)["options"]
        return [{"text": option["text"]["text"], "value": option["value"]} for option in options]


@contextmanager
def a_slack(app_url: str = "http://127.0.0.1:1") -> Iterator[SlackSandbox]:
    """A stand-in for as long as the block lasts; its page sends what people do to that Stint."""
    sandbox = SlackSandbox(app_url)
    try:
        yield sandbox.start()
    finally:
        sandbox.stop()


def texts(value: Any) -> str:
    """Everything that somebody could read in it."""
    return json.dumps(value, ensure_ascii=False)

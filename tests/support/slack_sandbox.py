"""The stand-in Slack for tests, and its members, who run commands, submit forms and press buttons."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from ops.sandbox.slack import requests
from ops.sandbox.slack.checks import check_message
from ops.sandbox.slack.requests import SignedRequest
from ops.sandbox.slack.stand_in import environment
from ops.sandbox.slack.workspace import new_hook, new_trigger
from tests.support.fork_server import Process
from tests.support.installation import Installation, eventually, free_port, start_stand_in

Json = dict[str, Any]


class SlackSandbox:
    """A stand-in Slack in a process of its own."""

    def __init__(self, app_url: str = "http://127.0.0.1:1") -> None:
        self._app_url = app_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = httpx2.Client(base_url=self.url, timeout=20)
        self._process: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment of an installation that uses it."""
        return environment(self.url) | {"APP_URL": "https://app.example"}

    def start(self) -> "SlackSandbox":
        command = ["ops.sandbox.slack.stand_in", "--port", str(self.port), "--app", self._app_url]
        self._process = start_stand_in(command)
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
        except httpx2.HTTPError:
            return False

    def calls(self, method: str = "") -> list[Json]:
        """All calls of that Web API method, or of a response_url (`/commands/`)."""
        calls: list[Json] = self._request("GET", "calls")
        return [call for call in calls if method in call["path"]]

    def views(self) -> list[Json]:
        views: list[Json] = self._request("GET", "views")
        return views

    def homes(self) -> dict[str, Json]:
        """The App Home of each user who has one."""
        homes: dict[str, Json] = self._request("GET", "homes")
        return homes

    def messages(self, channel: str | None = None) -> list[Json]:
        messages: list[Json] = self._request("GET", "messages")
        return [message for message in messages if channel in (None, message["channel"])]

    def answers(self, path: str | None = None) -> list[Json]:
        answers: list[Json] = self._request("GET", "answers")
        return [answer for answer in answers if path in (None, answer["path"])]

    def unfurls(self, unfurl_id: str) -> list[Json]:
        unfurls: list[Json] = self._request("GET", "unfurls")
        return [unfurl["unfurls"] for unfurl in unfurls if unfurl["unfurl_id"] == unfurl_id]

    def inject_fault(self, kind: str, *, path: str = "", **how: Any) -> None:
        """Replaces all faults by this one, a rule of `ops/sandbox/faults.py`."""
        self.inject_faults({"kind": kind, "path": path, **how})

    def inject_faults(self, *rules: Json) -> None:
        self._request("PUT", "faults", {"rules": rules})

    def clear_faults(self) -> None:
        self.inject_faults()

    def configure(self, **settings: Any) -> None:
        self._request("PUT", "settings", settings)

    def reset(self) -> None:
        self._request("DELETE", "")

    def channel(self, name: str = "general", **more: bool) -> str:
        """Creates a channel, with the app in it unless `member=False`, and returns its id."""
        channel_id = f"C{secrets.token_hex(5).upper()}"
        self._request("POST", "channels", {"id": channel_id, "name": name, **more})
        return channel_id

    def channels(self, count: int) -> None:
        """Creates many channels by one request."""
        many = [{"id": f"C{number:07}", "name": f"channel-{number}"} for number in range(count)]
        self._request("POST", "channels", {"many": many})

    def user(self, email: str | None, **more: Any) -> str:
        user: Json = self._request("POST", "users", {"email": email, **more})
        user_id: str = user["id"]
        return user_id

    def trigger(self) -> Json:
        """A new trigger id, and the path of a new response_url, for one interaction."""
        return {"triggerId": new_trigger(), "path": new_hook()}

    def _request(self, method: str, what: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"/sandbox/{what}".rstrip("/"), json=body)
        assert answer.is_success, f"{method} {what}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@dataclass
class Member:
    """A Slack user, and the requests that Slack sends for what they do."""

    slack: SlackSandbox
    stint: Installation
    id: str
    channel: str

    def post_request(self, sent: SignedRequest) -> httpx2.Response:
        """Sends a request as Slack does: with a timeout of 3 seconds."""
        return httpx2.post(f"{self.stint.url}{sent.path}", content=sent.body, headers=sent.headers, timeout=3)

    def send(self, sent: SignedRequest) -> Any:
        """Sends the request, and returns the body of its answer, which must be 200; None for an empty body."""
        answer = self.post_request(sent)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        content = answer.json() if answer.content else None
        if isinstance(content, dict):
            check_message(content.get("blocks") or [])  # Slack would show nothing
        return content

    def run_command(self, text: str, channel: str | None = None) -> Any:
        """Runs `/task text`, and returns the immediate answer; None for an empty one."""
        return self.send(self.command_request(text, channel))

    def command_request(self, text: str, channel: str | None = None, **more: Any) -> SignedRequest:
        trigger = self.slack.trigger()
        fields: Json = {
            "user": self.id,
            "channel": channel or self.channel,
            "text": text,
            "trigger_id": trigger["triggerId"],
            "response_url": self.slack.url + trigger["path"],
        }
        return requests.command(**(fields | more))

    def open_form(self, text: str = "", channel: str | None = None) -> Json:
        """Runs `/task text`, and returns the form that it opens."""
        before = {view["id"] for view in self.slack.views()}
        assert self.run_command(text, channel) is None
        [view] = [view for view in self.slack.views() if view["id"] not in before]
        return view

    def submit(self, view: Json, **values: str | None) -> Any:
        """Submits the form: None if it was accepted, else the errors."""
        return self.send(self.submit_request(view, **values))

    def submit_request(self, view: Json, **values: str | None) -> SignedRequest:
        return requests.submission(view, values, user=self.id, trigger_id=self.slack.trigger()["triggerId"])

    def press(self, action_id: str, value: str, channel: str | None = None) -> str:
        """Presses a button in a message, and returns the path of the response_url that will get the answer."""
        trigger = self.slack.trigger()
        sent = self.press_request(action_id, value, channel, trigger)
        assert self.send(sent) is None
        path: str = trigger["path"]
        return path

    def press_request(self, action_id: str, value: str, channel: str | None, trigger: Json) -> SignedRequest:
        action = {"type": "button", "action_id": action_id, "block_id": "b", "value": value, "action_ts": "1.1"}
        return requests.interaction(
            "block_actions",
            user=self.id,
            trigger_id=trigger["triggerId"],
            response_url=self.slack.url + trigger["path"],
            channel={"id": channel or self.channel, "name": "general"},
            actions=[action],
            container={"type": "message", "message_ts": "1.1"},
        )

    def wait_for_answer(self, path: str) -> str:
        """The text of the first answer at that response_url."""
        eventually(lambda: self.slack.answers(path), why=f"an answer; {self.stint.log('work')[-1500:]}")
        text: str = self.slack.answers(path)[0]["text"]
        return text

    def get_options(self, action_id: str, typed: str = "", *, view: Json | None = None, **values: str | None) -> list[Json]:
        """The options of a select, in the form or in a message: [{"text", "value"}]."""
        where: Json = {"channel": {"id": self.channel, "name": "general"}}
        if view is not None:
            where = {"view": {**view, "state": {"values": requests.state(view, values)}}}
        sent = requests.interaction("block_suggestion", user=self.id, action_id=action_id, value=typed, block_id="b", **where)
        options: list[Json] = self.send(sent)["options"]
        return [{"text": option["text"]["text"], "value": option["value"]} for option in options]


@contextmanager
def running_slack_sandbox(app_url: str = "http://127.0.0.1:1") -> Iterator[SlackSandbox]:
    """A stand-in Slack inside the `with` block; its page sends interactions to the API at `app_url`."""
    sandbox = SlackSandbox(app_url)
    try:
        yield sandbox.start()
    finally:
        sandbox.stop()


def texts(value: Any) -> str:
    """All texts in the value, as JSON."""
    return json.dumps(value, ensure_ascii=False)

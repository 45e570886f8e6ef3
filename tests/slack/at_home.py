"""App Home as a person sees it in Slack: they open it, read it, and press its buttons."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from ops.sandbox.slack import requests
from tests.support.given import Json
from tests.support.installation import eventually
from tests.support.slack_sandbox import Member


@dataclass
class AtHome:
    """A person in Slack who looks at the app's Home tab."""

    member: Member
    view: Json = field(default_factory=dict)

    def open(self, *, event_id: str = "", tab: str = "home", **event: Any) -> None:
        """Opens the tab, without waiting for what it shows."""
        content = {"type": "app_home_opened", "user": self.member.id, "channel": "D0123", "tab": tab, "event_ts": "1.1"}
        sent = requests.event(content, event_id=event_id or f"Ev{secrets.token_hex(8)}", **event)
        assert self.member.send(sent) is None

    def opened(self) -> str:
        """Opens the tab, and returns what it shows."""
        before = self._now().get("hash")
        self.open()
        eventually(lambda: self._now().get("hash", before) != before, why=self.member.stint.log("work")[-1500:])
        return self.look()

    def look(self) -> str:
        """What the tab shows now, a line for each text and button."""
        self.view = self._now()
        return seen(self.view)

    def shows(self, *expected: str, without: str = "\0") -> str:
        """Waits until the tab shows all these texts, and not that one."""

        def is_shown() -> bool:
            text = self.look()
            return all(part in text for part in expected) and without not in text

        try:
            eventually(is_shown)
        except AssertionError:
            raise AssertionError(f"{expected} is not in:\n{self.look()}\n{self.member.stint.log('work')[-1500:]}") from None
        return self.look()

    def _now(self) -> Json:
        found: Json = self.member.slack.homes().get(self.member.id, {})
        return found

    def press(self, label: str, *, nth: int = 0, trigger_id: str | None = None, **values: Any) -> None:
        """Presses the nth button with that label in the view that was looked at last."""
        button = [found for found in buttons(self.view) if found["text"]["text"] == label][nth]
        self.act({"type": "button", "action_id": button["action_id"], "value": button.get("value")}, trigger_id)

    def pick(self, task: Json) -> None:
        """Picks a task in the select beside the timer."""
        option = {"text": {"type": "plain_text", "text": "picked"}, "value": task["id"]}
        self.act({"type": "external_select", "action_id": "task", "selected_option": option})

    def act(self, action: Json, trigger_id: str | None = None) -> None:
        """Sends the request for an action in the view that was looked at last: without a channel and a response_url."""
        shown = {**self.view, "state": {"values": {}}, "private_metadata": "", "callback_id": ""}
        sent = requests.interaction(
            "block_actions",
            user=self.member.id,
            trigger_id=trigger_id or self.member.slack.trigger()["triggerId"],
            actions=[{"block_id": "b", "action_ts": "1.1", **action}],
            container={"type": "view", "view_id": self.view["id"]},
            view=shown,
        )
        assert self.member.send(sent) is None

    @property
    def published(self) -> int:
        """How often the view was published."""
        return int(self._now().get("published", 0))


def buttons(view: Json) -> list[Json]:
    """All buttons of the view, in their order."""
    found: list[Json] = []
    for block in view.get("blocks", ()):
        found += [element for element in block.get("elements", ()) if element.get("type") == "button"]
        if block.get("accessory", {}).get("type") == "button":
            found.append(block["accessory"])
    return found


def seen(view: Json) -> str:
    """What a person sees of the view, a line for each text, button and select."""
    lines: list[str] = []
    for block in view.get("blocks", ()):
        if "text" in block:
            lines.append(block["text"]["text"])
        for element in [*block.get("elements", ()), *([block["accessory"]] if "accessory" in block else [])]:
            text = element.get("placeholder") or element.get("text")
            lines.append(f"[{text['text']}]" if isinstance(text, dict) else str(text))
    return "\n".join(lines)

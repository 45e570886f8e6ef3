"""Simulated members of Slack."""

import json
import random
import threading
from collections import Counter
from contextlib import suppress
from uuid import uuid4

import httpx2

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import SignedRequest
from ops.sandbox.slack.workspace import new_hook, new_trigger
from tests.faults.firm import WholeFirm
from tests.faults.retrying_client import PAUSE_SECONDS
from tests.support.given import Json


class SlackMember:
    """A member who creates tasks with the form, and submits it again when asked to."""

    def __init__(self, firm: WholeFirm, number: int, seed: str) -> None:
        self.name = f"slack {number}"
        self.firm, self.chance = firm, random.Random(f"{seed} {self.name}")
        self.by = firm.given.person()
        self.id = firm.slack.user(self.by.email)
        self.titles: list[str] = []
        self.slow: list[float] = []  # answers past 3 seconds, in seconds: Slack would have shown an error
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        if self.chance.random() < 0.5:
            self._hand_over(self._command())
            self.done["command"] += 1
            return
        title, channel = f"From Slack {uuid4()}", self.chance.choice(self.firm.channels)
        for _ in range(600):
            # each press is a request of its own, with the same form
            content = self._hand_over(self._submission(title, channel))
            if content is not None and "Sorry" not in json.dumps(content):
                break
        else:
            raise AssertionError(f"{title}: told to press again for minutes")
        self.titles.append(title)
        self.done["form"] += 1

    def _hand_over(self, sent: SignedRequest) -> Json | None:
        """The answer's content ({} for none), or None when there was no answer, as while the API starts again."""
        with suppress(httpx2.TransportError):
            answer = httpx2.post(f"{self.firm.stint.url}{sent.path}", content=sent.body, headers=sent.headers, timeout=30)
            self.firm.traffic.note(answer)
            assert answer.status_code == 200, f"Slack gets {answer.status_code}: {answer.text}"
            if answer.elapsed.total_seconds() > 3:
                self.slow.append(answer.elapsed.total_seconds())
            return answer.json() if answer.content else {}
        self.firm.traffic.note_lost()
        threading.Event().wait(PAUSE_SECONDS)
        return None

    def _command(self) -> SignedRequest:
        hook = self.firm.stint.environment["SLACK_API_URL"].removesuffix("/api/") + new_hook()
        channel = self.chance.choice(self.firm.channels)
        return requests.command(user=self.id, channel=channel, text="Migrate it", trigger_id=new_trigger(), response_url=hook)

    def _submission(self, title: str, channel: str) -> SignedRequest:
        customer_id = self.firm.tasks[0]["customerId"]
        element = {"type": "plain_text_input", "action_id": "title", "initial_value": title}
        select = {"type": "external_select", "action_id": "customer", "initial_option": {"value": customer_id}}
        view = {
            "id": f"V{title.rpartition(' ')[2].replace('-', '').upper()}",
            "type": "modal",
            "callback_id": "create_task",
            "private_metadata": json.dumps({"channel_id": channel, "customer_id": customer_id}),
            "blocks": [
                {"type": "input", "block_id": "title", "element": element},
                {"type": "input", "block_id": "customer", "element": select},
            ],
        }
        return requests.submission(view, {}, user=self.id, trigger_id=new_trigger())

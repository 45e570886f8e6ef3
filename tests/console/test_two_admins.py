"""Two admins who act on the same dead letters at the same time: one of them acts, and the other is told."""

import json
from uuid import uuid4

import pytest

from tests.console.client import Browser, Browsers, at_once
from tests.console.html import Element
from tests.console.test_dead_letters_page import DEAD_LETTERS, MAIL, dead, form_of, state
from tests.support.installation import Installation, eventually

ROUNDS = 5
SLOWLY = {"reason": "fixed", "rate_per_second": "0.001"}  # the relay sends one, and the others stay dead letters


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests act on all dead letters."""
    return stint_apart


@pytest.fixture
def admins(browsers: Browsers) -> tuple[Browser, Browser]:
    return browsers.admin(), browsers.admin()


def group(stint: Installation, count: int) -> tuple[str, list[str]]:
    """Dead letters, and the fingerprint of their group."""
    fingerprint = uuid4().hex[:16]
    return fingerprint, [dead(stint, fingerprint=fingerprint) for _ in range(count)]


def shown(admin: Browser, action: str, fingerprint: str) -> Element:
    """The form of an action on a group, as it is shown now."""
    form: Element = form_of(admin.get(f"{DEAD_LETTERS}/{action}", fingerprint=fingerprint), f"{DEAD_LETTERS}/{action}")
    return form


def test_a_replay_that_another_admin_has_started_is_not_repeated(stint: Installation, admins: tuple[Browser, Browser]) -> None:
    ada, grace = admins
    fingerprint, messages = group(stint, 3)
    hers, his, discard = (shown(ada, "replay", fingerprint), shown(grace, "replay", fingerprint),
                          shown(grace, "discard", fingerprint))  # fmt: skip
    started = ada.submit(hers, SLOWLY)
    assert started.status == 200 and started.title == "Replay"
    for form, fields in ((his, SLOWLY), (discard, {"reason": "unneeded"})):
        refused = grace.submit(form, fields)
        assert refused.status == 422 and "Somebody else has started a replay since this was shown" in refused.text
        assert "A replay that runs will send" in refused.text and fields["reason"] in refused.answer.text
    replays = stint.rows("SELECT DISTINCT replay_id FROM replay_messages WHERE message_id::text = ANY(%s)", messages)
    assert len(replays) == 1 and "discarded" not in {state(stint, message)[0] for message in messages}

    # who has seen that may do it all the same, when the first one has failed again
    eventually(lambda: sorted(state(stint, message) for message in messages) == [("dead", 0), ("dead", 0), ("dead", 1)])
    again = grace.submit(shown(grace, "discard", fingerprint), {"reason": "all the same"})
    assert again.status == 200 and "discarded." in again.text


def test_of_two_who_replay_or_discard_at_once_one_does(stint: Installation, admins: tuple[Browser, Browser]) -> None:
    ada, grace = admins
    for other in ["replay"] * ROUNDS + ["discard"] * ROUNDS:
        fingerprint, messages = group(stint, 3)
        hers, his = shown(ada, "replay", fingerprint), shown(grace, other, fingerprint)
        answers = at_once(
            lambda form=hers: ada.submit(form, SLOWLY, follow=False),  # type: ignore[misc]
            lambda form=his: grace.submit(form, SLOWLY, follow=False),  # type: ignore[misc]
        )
        assert sorted(answer.status for answer in answers) == [303, 422], [answer.text for answer in answers]
        refused = next(answer for answer in answers if answer.status == 422)
        assert "Nothing was done" in refused.text
        started = stint.value(
            "SELECT count(DISTINCT replay_id) FROM replay_messages WHERE message_id::text = ANY(%s)", messages
        )
        discarded = [message for message in messages if state(stint, message)[0] == "discarded"]
        assert (started, len(discarded)) in ((1, 0), (0, 3)), other


def test_of_two_who_save_a_body_at_once_one_does(stint: Installation, admins: tuple[Browser, Browser]) -> None:
    for _ in range(ROUNDS):
        message = dead(stint)
        path = f"{DEAD_LETTERS}/{message}/edit"
        forms = [form_of(admin.get(path), path) for admin in admins]
        bodies = [json.dumps(MAIL | {"subject": subject}) for subject in ("Ada's", "Grace's")]
        answers = at_once(
            *(
                lambda admin=admin, form=form, body=body: admin.submit(
                    form, {"body": body, "reason": "a typo", "step": "save"}, follow=False
                )
                for admin, form, body in zip(admins, forms, bodies, strict=True)
            )
        )
        assert sorted(answer.status for answer in answers) == [303, 422], [answer.text for answer in answers]
        first, second = ("Ada's", "Grace's") if answers[0].status == 303 else ("Grace's", "Ada's")
        late = next(answer for answer in answers if answer.status == 422)
        assert "Somebody else has replayed this message" in late.text or "only a dead one can be edited" in late.text
        assert stint.value("SELECT body->>'subject' FROM messages WHERE id = %s", message) == first
        assert second.replace("'", "&#39;") in late.answer.text, "what the other one typed is kept"
        eventually(lambda found=message: state(stint, found)[0] in ("done", "dead"))
        assert state(stint, message)[1] == 1

"""The pages of dead letters: looking, replaying, correcting, discarding and restoring."""

import json
from typing import Any
from uuid import uuid4

import pytest

from schemas.outbox.dead_letters import selecting
from schemas.outbox.dead_letters.selecting import Select
from schemas.postgres.connection import Connection
from tests.api.test_dead_letters import PLANTED, SECRETS
from tests.api.test_dead_letters import dead_letter as plain_letter
from tests.api.test_roles import fingerprint
from tests.console.client import Browser, Browsers, Page
from tests.outbox import rows
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually, new_database

DEAD_LETTERS = "/console/dead-letters"
MAIL = {"to": "jo@exampl.com", "subject": "Hello", "paragraphs": ["One"], "link": None, "reply_to": None}


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests read all rows, and act on all dead letters."""
    return stint_apart


@pytest.fixture
def admin(given: Given) -> Person:
    return given.admin()


@pytest.fixture
def browser(admin: Person, browsers: Browsers) -> Browser:
    return browsers.of(admin)


def dead(stint: Installation, body: dict[str, Any] | None = None, **columns: str) -> str:
    """A dead letter of the queue of mail, with these columns."""
    message = plain_letter(stint, body or MAIL)
    for name, value in columns.items():
        stint.rows(f"UPDATE messages SET {name} = %s WHERE id = %s RETURNING 1", value, message)
    return message


def state(stint: Installation, message: str) -> tuple[str, int]:
    """The state, and how often it was replayed."""
    [found] = stint.rows("SELECT state, replays FROM messages WHERE id = %s", message)
    return found


def group_of(stint: Installation, message: str) -> str:
    return str(stint.value("SELECT fingerprint FROM messages WHERE id = %s", message))


def at_rest(given: Given) -> dict[str, tuple[int, int]]:
    """What is stored once the replays of earlier tests have ended: a relay may begin with them after a test has."""
    unfinished = """
        SELECT count(*) FROM replays r LEFT JOIN replay_messages m
            ON m.replay_id = r.id AND m.sent_at IS NOT NULL AND m.outcome IS NULL
        WHERE r.state = 'running' OR m.replay_id IS NOT NULL
    """
    eventually(lambda: given.stint.value(unfinished) == 0, seconds=60, why="no replay runs")
    given.settled()
    return fingerprint(given.stint)


def form_of(page: Page, path: str) -> Any:
    return page.html.one("form", method="post", action=path)


def test_groups_lead_to_letters_and_these_to_one_letter(
    given: Given, browser: Browser, admin: Person, stint: Installation
) -> None:
    task, entry = given.task(admin), given.logged(admin)
    bill = given.bill(admin)
    ids = {"user_id": admin.id, "task_id": task["id"], "entry_id": entry["id"], "bill_id": bill["id"], "note": "<b>x</b>"}
    message = dead(stint, {**ids, "to": admin.email.upper()}, created_by=admin.id)
    cause, caused = dead(stint), dead(stint, cause_id=message)
    stint.rows("UPDATE messages SET cause_id = %s WHERE id = %s RETURNING 1", cause, message)
    group = group_of(stint, message)

    groups = browser.get(DEAD_LETTERS)
    assert groups.title == "Dead letters" and "builtins.ValueError: no" in groups.text
    [current] = groups.html.all("a", aria_current="page")
    assert current.text == "Queues"
    assert any(f"fingerprint={group}" in link["href"] for link in groups.html.all("a"))
    found = browser.get(f"{DEAD_LETTERS}/list", fingerprint=group)
    assert [box["value"] for box in found.html.all("input", type="checkbox")] == [message]
    shown = browser.get(f"{DEAD_LETTERS}/{message}")
    assert shown.title == "send_mail dead"
    name = admin.email.partition("@")[0]
    facts = shown.text
    customer = admin.get(f"/api/customers/{task['customerId']}")["name"]
    assert f"Task Migrate the mail server, {customer}" in facts and f"by {name}" in facts
    assert f"Person {name}" in facts and "1:00 h" in facts and "Time bill General Support" in facts
    assert f"of {name}" in facts and "Caused by send_mail dead" in facts and "It has caused send_mail dead" in facts
    assert f"{DEAD_LETTERS}/{caused}" in shown.answer.text and "<b>x</b>" not in shown.answer.text
    assert "Attempt 1" in facts and "here:1" in facts and "actors/mail.py:send_mail" in facts
    assert browser.get(f"{DEAD_LETTERS}/{uuid4()}").status == 404
    assert browser.get(f"{DEAD_LETTERS}/nonsense").status in (400, 404, 422)


def test_the_filters_of_the_list_are_in_its_url(browser: Browser, stint: Installation) -> None:
    mark = uuid4().hex
    first, second = dead(stint, {**MAIL, "subject": mark}), dead(stint, {**MAIL, "subject": mark}, queue="slack")
    stint.rows("UPDATE messages SET died_at = '2026-03-02T08:30:00Z' WHERE id = %s RETURNING 1", first)

    def found(**query: Any) -> list[str]:
        page = browser.get(f"{DEAD_LETTERS}/list", q=mark, **query)
        assert page.status == 200, page.text
        return [box["value"] for box in page.html.all("input", type="checkbox")]

    assert found() == [second, first]
    assert found(queue="slack", actor="send_mail", state="dead", kind="message") == [second]
    assert found(actor="stop_timer") == found(state="discarded") == found(kind="unrecognized") == []
    # the firm's time zone is UTC here
    assert found(until="2026-03-02T08:31") == found(since="2026-03-02T08:30:00Z", until="2026-03-02T09:31+01:00") == [first]
    assert found(since="2026-03-02T08:31") == [second]
    for name, rubbish in {
        "since": "yesterday", "until": "0001-01-01T00:00", "state": "alive", "kind": "x", "q": "x" * 201, "actor": "x" * 101,
        "fingerprint": "x" * 65,
    }.items():  # fmt: skip
        query: dict[str, Any] = {name: rubbish}
        page = browser.get(f"{DEAD_LETTERS}/list", **query)
        assert page.status == 422 and list(page.errors) == [name], (name, page.errors)
    assert browser.get(f"{DEAD_LETTERS}/list", cursor="rubbish").status == 422


def test_a_long_list_has_pages_with_all_filters(browser: Browser, stint: Installation) -> None:
    mark = uuid4().hex
    stint.rows(
        """
        INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, died_at, error)
        SELECT gen_random_uuid(), 'send_mail', 'mail', '{}', 'dead', 1, 1, now() - make_interval(secs => n), %s
        FROM generate_series(1, 60) n RETURNING 1
        """,
        mark,
    )
    page = browser.get(f"{DEAD_LETTERS}/list", q=mark)
    later = browser.get(page.html.one("a", rel="next")["href"])
    boxes = [box["value"] for shown in (page, later) for box in shown.html.all("input", type="checkbox")]
    assert len(boxes) == len(set(boxes)) == 60 and not list(later.html.all("a", rel="next"))
    stint.rows("UPDATE messages SET state = 'discarded' WHERE error = %s RETURNING 1", mark)


def test_no_secret_is_in_any_page(browser: Browser, stint: Installation) -> None:
    text = "; ".join(str(value) for name, value in SECRETS.items() if name not in ("password", "apiKey"))
    message = plain_letter(stint, {**SECRETS}, error=f"{text}; password=hunter2-hunter2; api_key: key-5f9c-22")
    edit = browser.get(f"{DEAD_LETTERS}/{message}/edit")
    pages = [
        browser.get(DEAD_LETTERS), browser.get(f"{DEAD_LETTERS}/list"), browser.get(f"{DEAD_LETTERS}/{message}"), edit,
        browser.get(f"{DEAD_LETTERS}/replay", ids=message),
        browser.submit(form_of(edit, f"{DEAD_LETTERS}/{message}/edit"), {"reason": "a typo"}),
    ]  # fmt: skip
    for page in pages:
        assert page.title and not [secret for secret in PLANTED if secret in page.answer.text]
    assert "•••" in pages[2].text and "•••" in edit.text


def test_a_replay_is_previewed_started_and_followed_to_its_end(
    given: Given, browser: Browser, admin: Person, stint: Installation
) -> None:
    messages = [dead(stint, {**MAIL, "to": "nobody"}) for _ in range(3)]
    group = uuid4().hex[:16]
    stint.rows("UPDATE messages SET fingerprint = %s WHERE id::text = ANY(%s) RETURNING 1", group, messages)
    before = at_rest(given)
    page = browser.get(f"{DEAD_LETTERS}/replay", fingerprint=group)
    assert "3 dead letters would be sent again. Nothing is done yet." in page.text and "3 send_mail" in page.text
    form = form_of(page, f"{DEAD_LETTERS}/replay")
    assert form.one("button").text == "Replay 3 dead letters"
    refused = browser.submit(form, {"reason": " ", "canary": "0", "rate_per_second": "fast"})
    assert refused.status == 422 and set(refused.errors) == {"reason", "canary", "rate_per_second"}
    assert form_of(refused, f"{DEAD_LETTERS}/replay").fields()["rate_per_second"] == "fast"
    assert fingerprint(stint) == before, "a dry run or a mistake has changed something"

    # there is no mail server, so the canary fails again
    started = browser.submit(form, {"reason": "hoping", "canary": "1", "rate_per_second": "2.5"})
    assert started.title == "Replay" and "3 dead letters are sent again." in started.text
    assert "1 is sent first" in started.text and "at most 2.50 a second" in started.text and admin.email in started.text
    path = started.answer.url.path
    assert path in browser.get(f"{DEAD_LETTERS}/replays").answer.text

    def part() -> Page:
        return browser.get(path, headers={"HX-Request": "true"})

    eventually(lambda: "It was stopped" in part().answer.text, seconds=60, why="the canary has failed again")
    progress = part().html.one("div", id="progress")
    assert (
        "hx-get" not in progress.attributes and "Failed again 1" in progress.text and "1 of the 1 sent first" in progress.text
    )
    assert sorted(state(stint, message) for message in messages) == [("dead", 0), ("dead", 0), ("dead", 1)]
    late = browser.post(f"{path}/cancel", {"reason": "too late"})
    assert "The replay has ended already: it is stopped." in late.text


def test_a_replay_whose_messages_have_failed_again_does_not_look_good(browser: Browser, stint: Installation) -> None:
    message = dead(stint, {**MAIL, "to": "nobody"})
    form = form_of(browser.get(f"{DEAD_LETTERS}/replay?ids={message}"), f"{DEAD_LETTERS}/replay")
    path = browser.submit(form, {"reason": "hoping"}).answer.url.path
    eventually(lambda: "1 failed again." in browser.get(path).text, seconds=60, why="there is no mail server")
    for page in (browser.get(path), browser.get(f"{DEAD_LETTERS}/replays")):
        assert '<span class="badge warn">done</span>' in page.answer.text


def test_a_running_replay_is_shown_first_followed_and_cancelled(browser: Browser, admin: Person, stint: Installation) -> None:
    messages = [dead(stint, {**MAIL, "to": "nobody"}) for _ in range(2)]
    form = form_of(browser.get(f"{DEAD_LETTERS}/replay?ids={messages[0]}&ids={messages[1]}"), f"{DEAD_LETTERS}/replay")
    fields = {
        "ids": messages,
        "reason": "slowly",
        "rate_per_second": "0.001",
        "shown": "2",
        "shown_at": form.fields()["shown_at"],
    }
    started = browser.post(f"{DEAD_LETTERS}/replay", fields)
    path = started.answer.url.path
    live = started.html.one("div", id="progress")
    assert (live["hx-get"], live["hx-trigger"]) == (path, "every 1s")
    assert "Replays that run" in browser.get(DEAD_LETTERS).text
    first = next(browser.get(f"{DEAD_LETTERS}/replays").html.one("tbody").all("tr"))
    assert first.one("a")["href"] == path and "running" in first.text
    again = browser.get(f"{DEAD_LETTERS}/replay", ids=messages[1])
    assert "A replay that runs will send 1 of them anyway" in again.text or state(stint, messages[1])[1] == 1

    refused = browser.submit(form_of(browser.get(path), f"{path}/cancel"), {"reason": "\u200b\u00a0"})
    assert "Nothing was cancelled." in refused.text and "running" in refused.text
    cancelled = browser.submit(form_of(browser.get(path), f"{path}/cancel"), {"reason": "the wrong group"})
    assert f"It was cancelled by {admin.email}: the wrong group." in cancelled.text
    assert "The replay was cancelled." in cancelled.text and not list(cancelled.html.all("form", action=f"{path}/cancel"))
    assert browser.post(f"{DEAD_LETTERS}/replays/{uuid4()}/cancel", {"reason": "why"}).status == 404


ACTS = {"replay": "dead", "discard": "dead", "restore": "discarded"}  # and the state of what each is for


@pytest.mark.parametrize("action", ACTS)
def test_what_another_admin_has_done_meanwhile_is_refused_and_shown_again(
    action: str, browser: Browser, browsers: Browsers, stint: Installation
) -> None:
    messages = [dead(stint) for _ in range(2)]
    group = uuid4().hex[:16]
    stint.rows("UPDATE messages SET fingerprint = %s WHERE id::text = ANY(%s) RETURNING 1", group, messages)
    stint.rows("UPDATE messages SET state = %s WHERE fingerprint = %s RETURNING 1", ACTS[action], group)
    form = form_of(browser.get(f"{DEAD_LETTERS}/{action}", fingerprint=group), f"{DEAD_LETTERS}/{action}")
    other = browsers.admin()
    one = form_of(other.get(f"{DEAD_LETTERS}/{action}", ids=messages[0]), f"{DEAD_LETTERS}/{action}")
    assert other.submit(one, {"reason": "first", "rate_per_second": "", "canary": ""}).status == 200
    if action == "replay":  # then it fails again: nobody has seen that
        eventually(lambda: state(stint, messages[0])[1] == 1)
    before = state(stint, messages[1])

    refused = browser.submit(form, {"reason": "second"})
    assert refused.status == 422 and "then there were 2, now there are 1" in refused.text
    assert state(stint, messages[1]) == before, "nothing was done"
    shown = form_of(refused, f"{DEAD_LETTERS}/{action}")
    assert {"reason": "second", "shown": "1", "fingerprint": group}.items() <= shown.fields().items()
    assert browser.submit(shown).status == 200
    if action == "replay":
        eventually(lambda: state(stint, messages[1])[1] == 1)
    else:
        assert state(stint, messages[1])[0] == {"discard": "discarded", "restore": "dead"}[action]
    assert browser.submit(shown).status == 422, "none is left"


def test_what_dies_after_a_page_was_shown_is_not_part_of_its_action(browser: Browser, stint: Installation) -> None:
    group = uuid4().hex[:16]
    message = dead(stint, fingerprint=group)
    form = form_of(browser.get(f"{DEAD_LETTERS}/discard", fingerprint=group), f"{DEAD_LETTERS}/discard")
    late = dead(stint, fingerprint=group)
    assert "1 dead letter is discarded." in browser.submit(form, {"reason": "unneeded"}).text
    assert (state(stint, message)[0], state(stint, late)[0]) == ("discarded", "dead")


@pytest.mark.parametrize("action", ACTS)
def test_chosen_letters_that_failed_again_after_the_page_was_shown_are_refused_and_shown_again(
    action: str, browser: Browser, stint: Installation
) -> None:
    messages = [dead(stint, state=ACTS[action]) for _ in range(2)]
    path = f"{DEAD_LETTERS}/{action}"
    fields = form_of(browser.get(f"{path}?ids={messages[0]}&ids={messages[1]}"), path).fields() | {"ids": messages}
    # it was replayed and has failed again, with an error that nobody has seen
    stint.rows("UPDATE messages SET died_at = clock_timestamp(), replays = 1 WHERE id = %s RETURNING 1", messages[1])
    refused = browser.post(path, fields | {"reason": "seen"})
    assert refused.status == 422 and "then there were 2, now there are 1" in refused.text
    assert [state(stint, message) for message in messages] == [(ACTS[action], 0), (ACTS[action], 1)], "nothing was done"
    shown = form_of(refused, path).fields() | {"ids": messages}
    assert shown["shown"] == "2" and browser.post(path, shown).status == 200, "as it is shown now"


def test_discarded_letters_are_listed_and_restored_with_their_history(
    browser: Browser, admin: Person, stint: Installation
) -> None:
    message = dead(stint)
    unrecognized = str(
        stint.value(
            "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('mail', %s, 'hi <i>', '{}') RETURNING id",
            uuid4().hex,
        )
    )
    reason = str(stint.value("SELECT reason FROM unrecognized_messages WHERE id = %s", unrecognized))
    row = next(row for row in browser.get(DEAD_LETTERS).html.all("tr") if reason in row.text)
    of_group = browser.get(row.one("th").one("a")["href"])
    assert [box["value"] for box in of_group.html.all("input", type="checkbox")] == [unrecognized]
    listed = browser.get(f"{DEAD_LETTERS}/list", kind="unrecognized")
    assert unrecognized in [box["value"] for box in listed.html.all("input", type="checkbox")]
    assert not [button for button in listed.html.all("button") if "Replay" in button.text]
    shown = browser.get(f"{DEAD_LETTERS}/{unrecognized}")
    assert shown.title == "Unrecognized message dead" and "hi <i>" in shown.text and "/edit" not in shown.answer.text
    assert browser.get(f"{DEAD_LETTERS}/{unrecognized}/edit").status == 409

    page = browser.get(f"{DEAD_LETTERS}/discard?ids={message}&ids={unrecognized}")
    assert "2 dead letters would be discarded" in page.text and "1 unrecognized" in page.text
    assert (state(stint, message)[0], browser.get(f"{DEAD_LETTERS}/{unrecognized}").title) == (
        "dead",
        "Unrecognized message dead",
    )
    fields = form_of(page, f"{DEAD_LETTERS}/discard").fields() | {"ids": [message, unrecognized], "reason": "not ours"}
    assert "2 dead letters are discarded." in browser.post(f"{DEAD_LETTERS}/discard", fields).text
    discarded = browser.get(f"{DEAD_LETTERS}/list", state="discarded")
    assert {message, unrecognized} <= {box["value"] for box in discarded.html.all("input", type="checkbox")}
    assert discarded.html.one("form", action=f"{DEAD_LETTERS}/restore")
    for one in (message, unrecognized):
        restored = browser.submit(
            form_of(browser.get(f"{DEAD_LETTERS}/restore", ids=one), f"{DEAD_LETTERS}/restore"), {"reason": "a mistake"}
        )
        assert f"Discarded by {admin.email}" in restored.text and "not ours" in restored.text
        assert f"Restored by {admin.email}" in restored.text and "a mistake" in restored.text


def test_an_action_without_a_valid_selection_does_nothing(given: Given, browser: Browser, stint: Installation) -> None:
    dead(stint)
    before = at_rest(given)
    valid = {"reason": "x", "shown": "1", "shown_at": "2026-03-02T09:00:00Z"}
    for action in ACTS:
        path = f"{DEAD_LETTERS}/{action}"
        assert "Nothing is chosen" in browser.get(path).text
        for fields in (
            {}, valid, valid | {"ids": "nonsense"}, valid | {"ids": str(uuid4())}, valid | {"all": "true", "since": "x"},
            valid | {"all": "true", "shown": "-1"}, valid | {"all": "true", "shown_at": "now"}, valid | {"other": "1"},
            valid | {"ids": str(uuid4()), "shown": "0"}, valid | {"all": "perhaps"}, {"all": "true", "reason": "x" * 501},
            valid | {"all": "true", "canary": "1001", "rate_per_second": "nan"}, valid | {"q": "x" * 201},
        ):  # fmt: skip
            assert browser.post(path, fields).status == 422, (action, fields)
    assert fingerprint(stint) == before


def test_a_body_is_checked_with_its_difference_then_saved_and_replayed(
    given: Given, browser: Browser, admin: Person, stint: Installation
) -> None:
    message = dead(stint, {**MAIL, "paragraphs": ["password=hunter2-hunter2, hello"]})
    path = f"{DEAD_LETTERS}/{message}/edit"
    before = at_rest(given)
    form = form_of(browser.get(path), path)
    body = json.loads(form.fields()["body"])
    assert body["paragraphs"] == ["password=•••, hello"]
    for wrong, said in {
        "{": "not valid JSON", "[]": "Send a JSON object", '{"a": 1, "a": 2}': "twice", '{"a": "\\ud800"}': "",
        json.dumps(body | {"to": 5}): "to", json.dumps(body | {"paragraphs": ["•••, other"]}): "mask", "{}": "subject",
        json.dumps(body | {"unknown": 1}): "unknown", "[" * 500: "",
    }.items():  # fmt: skip
        page = browser.submit(form, {"body": wrong, "reason": "a typo"})
        assert page.status == 422 and said in page.errors["body"], (wrong, page.errors)
        assert form_of(page, path).fields()["body"] == wrong
    assert set(browser.submit(form, {"body": "", "reason": ""}).errors) == {"body", "reason"}
    checked = browser.submit(form, {"body": json.dumps(body | {"to": "jo@example.com"}), "reason": "a typo"})
    assert "The body is valid" in checked.text
    changes = [span.text for span in checked.html.one("pre", class_="difference").all("span") if "class" in span.attributes]
    assert [line for line in changes if line[:1] in "+-"] == ['- "to": "jo@exampl.com"', '+ "to": "jo@example.com"']
    assert "Nothing changes" in browser.submit(form, {"reason": "none"}).text
    assert fingerprint(stint) == before, "a check has changed something"

    save = next(found for found in checked.html.all("form", action=path) if found.fields().get("step") == "save")
    saved = browser.submit(save)
    assert "The body was corrected, and the message is sent again." in saved.text
    assert f"Corrected by {admin.email}" in saved.text and "a typo" in saved.text and "hunter2" not in saved.answer.text
    kept = [span.text for span in saved.html.one("pre", class_="difference").all("span") if "class" in span.attributes]
    assert [line for line in kept if line[:1] in "+-"] == ['- "to": "jo@exampl.com"', '+ "to": "jo@example.com"']
    [(stored,)] = stint.rows("SELECT body FROM messages WHERE id = %s", message)
    assert (stored["to"], stored["paragraphs"]) == ("jo@example.com", ["password=hunter2-hunter2, hello"])


def test_a_letter_that_was_replayed_meanwhile_is_not_edited(browser: Browser, stint: Installation) -> None:
    message = dead(stint)
    path = f"{DEAD_LETTERS}/{message}/edit"
    form = form_of(browser.get(path), path)
    change = {"body": json.dumps(MAIL | {"subject": "Mine"}), "reason": "a typo", "step": "save"}
    # somebody else has corrected it, and it died again
    stint.rows('UPDATE messages SET body = body || \'{"subject": "Theirs"}\', replays = 1 WHERE id = %s RETURNING 1', message)
    refused = browser.submit(form, change)
    assert refused.status == 422 and "Somebody else has replayed this message" in refused.text
    assert "Theirs" in refused.text and json.loads(form_of(refused, path).fields()["body"])["subject"] == "Mine"
    # and this time it succeeded
    stint.rows("UPDATE messages SET state = 'done', done_at = now() WHERE id = %s RETURNING 1", message)
    gone = browser.submit(form, change)
    assert gone.status == 422 and "The message is done; only a dead one can be edited." in gone.text
    assert browser.get(path).status == 409
    assert stint.value("SELECT body->>'subject' FROM messages WHERE id = %s", message) == "Theirs"
    assert "This message is no dead letter any more: it is done." in browser.get(f"{DEAD_LETTERS}/{message}").text


def test_a_preview_counts_what_an_action_would_concern(database_url: str) -> None:
    async def read(conn: Connection) -> list[tuple[int, int, int, dict[str, int]]]:
        for found in ("dead", "dead", "discarded", "done"):
            await rows.message(conn, found, died_at="now()")
        await rows.message(conn, "dead", died_at="now()", actor="'move_entries'")
        await conn.execute("INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('bills', 'x', 'x', '{}')")
        await conn.execute(
            """
            WITH r AS (INSERT INTO replays (who, reason) VALUES ('jo', 'x') RETURNING id)
            INSERT INTO replay_messages (replay_id, n, message_id)
            SELECT r.id, 1, (SELECT id FROM messages WHERE actor = 'move_entries') FROM r
            """
        )
        previews = [
            await selecting.preview(conn, Select(all=True), "dead", with_unrecognized=True),
            await selecting.preview(conn, Select(all=True), "dead"),
            await selecting.preview(conn, Select(all=True), "discarded", with_unrecognized=True),
        ]
        return [(found.count, found.unrecognized, found.in_replays, found.by_actor) for found in previews]

    actors = {"move_entries": 1, "recompute_bills": 2}
    assert rows.over(new_database(database_url), read) == [
        (4, 1, 1, actors),
        (3, 0, 1, actors),
        (1, 0, 1, {"recompute_bills": 1}),
    ]

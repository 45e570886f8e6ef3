"""Calls that Slack refuses to the app: told once, shown with what to do, waited for, and over once Slack gives access."""

import json
from typing import Any

import httpx2
import pytest

from api.outbox_metrics import problem_lines
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.access import loss as access
from schemas.slack.access import words as access_words
from schemas.slack.client import SlackAccessLost
from tests.outbox.rows import over
from tests.slack.test_tasks import mapped
from tests.support import firm_rows
from tests.support.given import Given, Json, Person
from tests.support.installation import SECRET_KEY, Installation, eventually, new_database
from tests.support.slack_sandbox import Member, SlackSandbox

LOST = "SELECT method, problem, needed FROM slack_access_losses ORDER BY method"
WAITING = """
    SELECT max_attempts - attempts, state FROM messages
    WHERE actor = 'post_task_created' AND body->>'channel_id' = %s ORDER BY created_at DESC LIMIT 1
"""

MAILS = "SELECT count(*) FROM messages WHERE actor = 'send_mail' AND created_at > %s GROUP BY body->>'to', body->>'paragraphs'"


def refuse(slack: SlackSandbox, method: str, code: str, **more: str) -> None:
    """Slack refuses the calls of that method with that error code."""
    slack.configure(refused={method: {"error": code, **more}})


@pytest.mark.parametrize("code", ["missing_scope", "account_inactive", "ekm_access_denied"])
def test_what_waits_goes_when_slack_gives_access_again(
    code: str, member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    view = member.open_form("Waits for access")
    before = stint.value("SELECT clock_timestamp()")
    if code == "account_inactive":
        member.slack.configure(revoked=True)
    else:
        refuse(member.slack, "chat.postMessage", code, needed="chat:write", provided="commands,users:read")
    assert member.submit(view) is None

    expected = ("chat.postMessage", code, "chat:write" if code != "account_inactive" else "")
    eventually(lambda: stint.rows(LOST) == [expected], why=stint.log("work")[-1500:])
    # it is tried again, and counts no attempt
    tried = len(member.slack.calls("chat.postMessage"))
    eventually(lambda: len(member.slack.calls("chat.postMessage")) > tried)
    eventually(lambda: stint.rows(WAITING, member.channel) == [(15, "ready")])
    assert member.slack.messages(member.channel) == []

    member.slack.configure(revoked=False, refused={})
    eventually(lambda: len(member.slack.messages(member.channel)) == 1)
    eventually(lambda: stint.rows(LOST) == [])
    assert {count for (count,) in stint.rows(MAILS, before)} <= {1}


def test_a_person_reads_what_is_wrong_and_so_does_the_operator(
    slack: SlackSandbox, stint: Installation, person: Person, member: Member, given: Given
) -> None:
    unknown = Member(slack, stint, slack.user(person.email), slack.channel())
    refuse(slack, "users.info", "missing_scope", needed="users:read", provided="commands")
    for text in ("status", "Move the server"):
        said = unknown.run_command(text)["text"]
        assert "the scope users:read" in said and "An admin of Stint has to" in said and "minute" not in said
    eventually(lambda: stint.rows(LOST) == [("users.info", "missing_scope", "users:read")])

    shown = json.loads(stint.command("status", "--json").stdout)
    assert "does not have the scope users:read" in shown["servers"]["Slack"]
    assert "add the scope users:read" in shown["cures"]["Slack"]
    [found] = [each for each in json.loads(stint.command("doctor", "--json").stdout) if each["what"].startswith("Slack")]
    assert "users:read" in found["what"] and "add the scope users:read" in found["do"] and "wait" in found["why"]
    line = 'stint_slack_access_lost{problem="missing_scope",needed="users:read"} 1'
    eventually(lambda: line in httpx2.get(f"{stint.url}/metrics").text)

    slack.configure(refused={})
    assert "No timer" in unknown.run_command("status")["text"]
    eventually(lambda: stint.rows(LOST) == [])

    assert "No timer" in member.run_command("status")["text"]
    refuse(slack, "views.open", "invalid_auth")
    assert "does not accept the bot token" in member.run_command("Move the server")["text"]
    eventually(lambda: stint.rows(LOST) == [("views.open", "invalid_auth", "")])
    # nobody has to use Stint for this to end: Slack is asked
    eventually(lambda: stint.rows(LOST) == [])


def test_a_missing_scope_of_addresses_is_named(slack: SlackSandbox, stint: Installation, person: Person) -> None:
    """Slack does not refuse users.info without it: it leaves the address out."""
    unknown = Member(slack, stint, slack.user(person.email), slack.channel())
    slack.configure(scopes=["commands", "users:read", "chat:write"])
    assert "the scope users:read.email" in unknown.run_command("status")["text"]
    eventually(lambda: stint.rows(LOST) == [("users.info", "missing_scope", "users:read.email")])
    assert "add the scope users:read.email" in json.loads(stint.command("status", "--json").stdout)["cures"]["Slack"]

    slack.configure(scopes=["commands", "users:read", "chat:write", "users:read.email"])
    assert "No timer" in unknown.run_command("status")["text"]  # nothing about the person was stored
    eventually(lambda: stint.rows(LOST) == [])


def test_a_form_that_opens_ends_what_slack_refused_before(member: Member, stint: Installation) -> None:
    refuse(member.slack, "views.open", "access_denied")
    assert "does not allow" in member.run_command("Move the server")["text"]
    eventually(lambda: stint.rows(LOST) == [("views.open", "access_denied", "")])
    member.slack.configure(refused={})
    member.open_form("Move the server")
    eventually(lambda: stint.rows(LOST) == [])


# function by function, over rows

FIRST, SECOND = "xoxb-1", "xoxb-2"


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def settings(token: str = FIRST) -> Settings:
    return Settings(
        database_url="", secret_key=SECRET_KEY, slack_bot_token=token, ops_email="ops@example.com",
        stint_slack_access_seconds=5, _env_file=None,
    )  # fmt: skip


def lost(code: str = "missing_scope", method: str = "chat.postMessage", needed: str = "") -> SlackAccessLost:
    return SlackAccessLost(code, method=method, needed=needed)


async def record(conn: Connection, error: SlackAccessLost, token: str = FIRST) -> None:
    async with conn.transaction():
        await access.record_loss(conn, error, settings(token))


async def wait(conn: Connection, *methods: str, token: str = FIRST) -> float | None:
    async with conn.transaction():
        return await access.wait_seconds(conn, methods, settings(token))


async def check(conn: Connection, answer: Any, token: str = FIRST) -> list[tuple[str, str]]:
    """Records the answer of a check, and returns what is lost after it."""
    async with conn.transaction():
        seconds = await access.record_check(conn, answer, settings(token))
    left = [(loss.method, loss.problem) for loss in await access.losses(conn, settings(token))]
    assert (seconds is None) is (left == [])
    return left


def test_each_admin_is_told_once_of_each_problem(url: str) -> None:
    async def run(conn: Connection) -> list[Any]:
        await conn.execute("DELETE FROM slack_access_losses")
        admin = (await firm_rows.user(conn, "internal_admin")).email
        for error in (
            lost(needed="chat:write"), lost(needed="chat:write"), lost(needed="users:read", method="users.info"),
            lost("invalid_auth", "users.info"), lost("invalid_auth", "auth.test"),
        ):  # fmt: skip
            await record(conn, error)
        mails = "SELECT body->>'paragraphs' FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s ORDER BY created_at"
        checks = "SELECT count(*) FROM messages WHERE actor = 'check_slack_access'"
        return [await conn.values(mails, (to,)) for to in (admin, "ops@example.com")] + [await conn.value(checks)]

    admins, ops, checks = over(url, run)
    assert len(admins) == 3 and admins == ops and checks == 1
    assert "chat:write" in admins[0] and "users:read" in admins[1] and "SLACK_BOT_TOKEN" in admins[2]


def test_a_missing_scope_stops_only_what_needs_it_and_one_message_at_a_time_tries(url: str) -> None:
    async def run(conn: Connection) -> list[Any]:
        await conn.execute("DELETE FROM slack_access_losses")
        found: list[Any] = [await wait(conn, "chat.postMessage")]
        await record(conn, lost(needed="chat:write"))
        found += [await wait(conn, "users.info"), await wait(conn, "chat.postMessage", token="xoxb-2")]
        waits = [await wait(conn, "chat.postMessage", "users.info")]
        await conn.execute("UPDATE slack_access_losses SET try_at = clock_timestamp()")
        found.append(await wait(conn, "chat.postMessage"))  # this one tries
        waits.append(await wait(conn, "chat.postMessage"))
        await record(conn, lost("token_revoked", "users.info"))
        waits.append(await wait(conn, "views.open"))  # a token that is not valid stops all
        await access.record_found(conn, "users.info", settings())
        found.append(await wait(conn, "views.open"))
        waits.append(await wait(conn, "chat.postMessage"))
        await conn.execute("UPDATE slack_access_losses SET lost_at = lost_at - interval '1 day', try_at = clock_timestamp()")
        found.append(await wait(conn, "chat.postMessage"))
        found.append(
            await conn.value("SELECT max(try_at) > clock_timestamp() + interval '14 minutes' FROM slack_access_losses")
        )
        waits.append(await wait(conn, "chat.postMessage"))
        await access.record_found(conn, "chat.postMessage", settings())
        return [found, waits, [loss.method for loss in await access.losses(conn, settings())]]

    found, waits, left = over(url, run)
    assert found == [None, None, None, None, None, None, True] and left == []
    assert all(1 <= seconds <= 60 for seconds in waits) and waits[-1] == 60


def test_a_check_ends_what_slack_does_not_refuse_any_more(url: str) -> None:
    async def run(conn: Connection) -> list[Any]:
        await conn.execute("DELETE FROM slack_access_losses")
        of_users = lost(needed="users:read,team:read", method="users.info")
        for error in (lost("invalid_auth", "auth.test"), lost(needed="chat:write"), of_users):
            await record(conn, error)
        left = [
            await check(conn, None),
            await check(conn, lost("invalid_auth", "auth.test")),
            await check(conn, set()),  # Slack does not name the scopes
            await check(conn, {"commands", "team:read"}),
            await check(conn, {"commands", "chat:write"}),
        ]
        await record(conn, lost(needed="chat:write"), SECOND)
        return [*left, await check(conn, None)]  # another token is configured now

    everything = [("auth.test", "invalid_auth"), ("chat.postMessage", "missing_scope"), ("users.info", "missing_scope")]
    assert over(url, run) == [everything, everything, everything[1:], everything[1:2], [], []]


def test_what_slack_refused_to_an_earlier_token_is_not_measured(url: str) -> None:
    async def run(conn: Connection) -> list[list[str]]:
        async with conn.transaction(force_rollback=True):
            await record(conn, lost(needed="chat:write"), FIRST)
            measured = [await problem_lines(conn, settings(token)) for token in (FIRST, SECOND)]
        return [[line for line in lines if line.startswith("stint_slack_access_lost{")] for lines in measured]

    assert over(url, run) == [['stint_slack_access_lost{problem="missing_scope",needed="chat:write"} 1'], []]


def test_a_valid_token_ends_only_what_is_about_the_token(url: str) -> None:
    """Slack refuses some calls to a valid token, permanently. Each success of another call must not make that a new problem."""
    refused = ["access_denied", "accesslimited", "ekm_access_denied", "no_permission", "not_allowed_token_type",
               "not_enabled",
               "org_login_required", "team_access_not_granted", "two_factor_setup_required"]  # fmt: skip
    of_the_token = sorted(access_words.CODES - {*refused, "missing_scope"})

    async def run(conn: Connection) -> list[Any]:
        ended = []
        for code in [*refused, *of_the_token]:
            for last in (lambda: check(conn, {"chat:write"}), lambda: access.record_found(conn, "users.info", settings())):
                await conn.execute("DELETE FROM slack_access_losses")
                await record(conn, lost(code))
                assert (await wait(conn, "users.info") is None) is (code in refused)
                await last()
                if await access.losses(conn, settings()) == []:
                    ended.append(code)
        await conn.execute("DELETE FROM slack_access_losses")
        await record(conn, lost("ekm_access_denied", "views.open"))
        await record(conn, lost("ekm_access_denied", "auth.test"))
        left = [await check(conn, {"chat:write"})]
        await conn.execute("UPDATE slack_access_losses SET try_at = clock_timestamp() - interval '23 hours'")
        left.append(await check(conn, {"chat:write"}))
        await conn.execute("UPDATE slack_access_losses SET try_at = clock_timestamp() - interval '25 hours'")
        left.append(await check(conn, {"chat:write"}))  # nobody needs the method any more
        # Slack may have refused this one form, and nothing tries that again
        await record(conn, lost("access_denied", "views.open"))
        for minutes in (50, 70):
            await conn.execute(
                "UPDATE slack_access_losses SET try_at = clock_timestamp() - make_interval(mins => %s)", (minutes,)
            )
            left.append(await check(conn, {"chat:write"}))
        return [ended, left]

    ended, left = over(url, run)
    assert ended == [code for code in of_the_token for _ in range(2)]
    assert left == [[("views.open", "ekm_access_denied")]] * 2 + [[], [("views.open", "access_denied")], []]


def test_every_problem_has_words_and_a_cure() -> None:
    for code in access_words.CODES:
        words = access_words.words(code, "chat:write")
        assert words.text[-1] != "." and words.cure[-1] == "." and words.text in words.for_user
    assert "the scope users:read or team:read" in access_words.words("missing_scope", "users:read,team:read").text
    assert "that this call needs" in access_words.words("missing_scope", "").text

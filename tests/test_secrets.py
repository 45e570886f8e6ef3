"""No secret is disclosed: recognizable values are set in every secret setting and sent by clients and servers. Then
everything is used, correctly and wrongly, and no value may be in a log, a response, a mail or the output of a command."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import httpx2
import pika
import pytest

from ops.sandbox.slack import requests
from ops.sandbox.slack.workspace import SIGNING_SECRET
from schemas.encryption import decrypt
from schemas.messages import QUEUES
from tests.identity.tokens import encoded
from tests.support.firm_with_xero import Firm
from tests.support.given import Given
from tests.support.installation import Installation, eventually, new_database
from tests.support.slack_sandbox import Member, SlackSandbox, running_slack_sandbox
from tests.support.smtp import MailServer, mail_server
from tests.support.xero_sandbox import XeroSandbox, running_xero

NOWHERE = "127.0.0.1:1"
READ = [
    "/api/me", "/api/tasks", "/api/customers", "/api/time-bills?enrich=true", "/api/time-entries?enrich=true", "/api/leads",
    "/api/sync", "/api/xero/status", "/api/xero/projects", "/api/dead-letters", "/api/dead-letters/groups", "/metrics",
    "/health/live", "/health/ready", "/.well-known/jwks.json", "/docs/openapi.json", "/docs", "/nowhere",
]  # fmt: skip
COMMANDS = [
    ["doctor"], ["status", "--json"], ["verify"], ["user", "list"], ["dead"], ["dead", "list", "--json"], ["dead", "export"],
]  # fmt: skip


@dataclass
class Secrets:
    """The secret values, by name, and all text that was seen, by place."""

    values: dict[str, str] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def keep(self, **values: str) -> None:
        self.values |= values

    def sees(self, where: str, what: str) -> None:
        self.seen[where] = self.seen.get(where, "") + what

    def found(self) -> list[str]:
        """Each place where a secret was seen, in any encoding."""
        looked_for = [(name, re.escape(form)) for name, value in self.values.items() for form in forms(value)]
        # six digits may be part of any longer number
        looked_for += [("a code to sign in with", rf"(?<![\w.]){code}(?!\w)") for code in self.codes]
        return [
            f"{name} in {where}: …{text[max(0, found.start() - 120) : found.end() + 60]}…"
            for where, text in self.seen.items()
            for name, form in looked_for
            if (found := re.search(form, text)) is not None
        ]


def forms(value: str) -> set[str]:
    """The value itself, and its encodings for URLs, JSON, hexadecimal and base64 at any offset."""
    raw = value.encode()
    # the base64 characters that do not depend on the neighbouring bytes
    shifted = {base64.b64encode(b"\0" * before + raw)[4 if before else 0 : -4].decode() for before in range(3)}
    url_safe = {text.replace("+", "-").replace("/", "_") for text in shifted}
    return {value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1], raw.hex(), *shifted, *url_safe}


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def xero() -> Iterator[XeroSandbox]:
    with running_xero() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackSandbox]:
    with running_slack_sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def secret() -> Secrets:
    return Secrets(
        {
            "SECRET_KEY": "canary of the secret key/+é",
            "SLACK_SIGNING_SECRET": "canary-of-the-signing-secret",
            "the password in SMTP_URL": "canary+smtp/9",
            "the password in DATABASE_URL": "canary+postgres/9",
        }
    )


@pytest.fixture(scope="module")
def stint(
    secret: Secrets,
    mails: MailServer,
    xero: XeroSandbox,
    slack: SlackSandbox,
    database_url: str,
    amqp_url_apart: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """An installation with everything set up, and a known value in every secret setting."""
    environment = xero.environment | slack.environment
    secret.keep(
        **{
            "the password in AMQP_URL": str(urlsplit(amqp_url_apart).password),
            "SLACK_BOT_TOKEN": environment["SLACK_BOT_TOKEN"],
            "XERO_CLIENT_SECRET": environment["XERO_CLIENT_SECRET"],  # and what the stand-in Slack signs with
        }
    )
    installation = Installation(
        # the tests' Postgres trusts every client of its socket, and ignores the password
        with_password(new_database(database_url), secret.values["the password in DATABASE_URL"]),
        amqp_url_apart,
        tmp_path_factory.mktemp("secrets"),
        **environment
        | {
            "SECRET_KEY": secret.values["SECRET_KEY"],
            "SLACK_SIGNING_SECRET": f"{secret.values['SLACK_SIGNING_SECRET']},{SIGNING_SECRET}",
            "SMTP_URL": f"smtp://stint:{quote(secret.values['the password in SMTP_URL'], safe='')}@127.0.0.1:{mails.port}",
            "OPS_EMAIL": "ops@example.com",
            "FIRM_EMAIL": "firm@example.com",
        },
    )
    try:
        installation.rows("DELETE FROM signing_keys RETURNING 1")  # of the usual SECRET_KEY
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def given(stint: Installation, secret: Secrets) -> Iterator[Given]:
    """Every response to its clients is searched."""
    made = Watching(stint, secret)
    yield made
    made.close()


class Watching(Given):
    def __init__(self, stint: Installation, secret: Secrets) -> None:
        super().__init__(stint)
        self._secret = secret

    def client(self, headers: dict[str, str]) -> httpx2.Client:
        client = super().client(headers)
        client.event_hooks["response"].append(self._look)
        if token := headers.get("Authorization"):
            self._secret.keep(**{f"bearer token {len(self._secret.values)}": token.rpartition(".")[2]})
        return client

    def _look(self, answer: httpx2.Response) -> None:
        search(self._secret, answer)


def search(secret: Secrets, answer: httpx2.Response) -> None:
    answer.read()
    where = f"the answer to {answer.request.method} {answer.request.url.path}"
    secret.sees(where, f"{answer.headers.multi_items()} {answer.text}")


def with_password(database_url: str, password: str) -> str:
    """The same URL with a password."""
    scheme, _, rest = database_url.partition("://")
    account, _, place = rest.rpartition("@") if "@" in rest.partition("/")[0] else ("", "", rest)
    user = account.partition(":")[0] or "stint"
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


@pytest.mark.parametrize("before", ["", "x", "xy"])
@pytest.mark.parametrize("written", [str.encode, lambda text: base64.b64encode(text.encode())], ids=["plain", "base64"])
def test_a_secret_is_found_in_all_its_forms(before: str, written: Callable[[str], bytes]) -> None:
    value = "canary+of the key/é"
    for text in (value, quote(value), quote(value, safe=""), json.dumps({"a": value}), value.encode().hex()):
        seen = Secrets({"it": value}, seen={"here": f"… {written(f'{before}{text}and more').decode()} …"})
        assert seen.found() or (written is not str.encode and text != value), text
    assert not Secrets({"it": value}, ["123456"], {"here": "canary of another key, 0.123456"}).found()
    assert Secrets({}, ["123456"], {"here": "code=123456"}).found()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_secret_is_seen_where_it_does_not_belong(
    given: Given, stint: Installation, secret: Secrets, mails: MailServer, xero: XeroSandbox, slack: SlackSandbox
) -> None:
    firm = Firm.new(stint, xero, given, connected=False)
    connect_to_xero(firm, secret)
    sign_in(given, stint, secret, mails)
    use_everything(firm, secret, slack, mails)
    send_invalid_requests(stint, secret)
    fail_everywhere(firm, given, stint, secret, mails)
    show_everything(firm, stint, secret)
    run_without_servers(stint, secret)

    for part in ("api", "relay", "work"):
        secret.sees(f"the log of {part}", stint.log(part))
    for mail in mails.mails:
        secret.sees(f"a mail to {mail.recipients}", mail.message.as_string())
    assert {"the log of work", "./stint dead export", "the answer to GET /metrics"} <= set(secret.seen)
    assert secret.found() == []


def connect_to_xero(firm: Firm, secret: Secrets) -> None:
    consent = firm.admin.http.get("/api/xero/auth-url").json()
    back = httpx2.URL(httpx2.get(f"{consent['url']}&auto=1").headers["Location"]).params
    secret.keep(**{"the code from Xero": back["code"]})
    for _ in range(2):  # the second time it was used
        firm.admin.http.post("/api/xero/connect", json={"code": back["code"], "state": back["state"]})
    with firm.stint.sql() as conn:
        [(row, access, refresh)] = conn.execute("SELECT id, access_token, refresh_token FROM xero_connection").fetchall()
    for name, encrypted in (("access_token", access), ("refresh_token", refresh)):
        place = f"xero_connection {row} {name}"
        secret.keep(**{f"Xero's {name}": decrypt(encrypted, secret_key=firm.stint.environment["SECRET_KEY"], context=place)})


def sign_in(given: Given, stint: Installation, secret: Secrets, mails: MailServer) -> None:
    """The code may be only in its mail, and the token only in the response to the code."""
    person = given.person()
    with httpx2.Client(base_url=stint.url, timeout=20) as client:
        search(secret, client.post("/auth/code", json={"email": person.email}))
        code = re.findall(r"\b\d{6}\b", mails.next_to(person.email))[0]
        mails.mails = [mail for mail in mails.mails if person.email not in mail.recipients]
        search(secret, client.post("/auth/token", json={"email": person.email, "code": f"{code} and more"}))
        search(secret, client.post("/auth/token", json={"email": person.email, "code": [code]}))
        token = client.post("/auth/token", json={"email": person.email, "code": code}).json()["idToken"]
        search(secret, client.post("/auth/token", json={"email": person.email, "code": code}))
    secret.keep(**{"the token that the code was good for": token.rpartition(".")[2]})
    secret.codes.append(code)


def use_everything(firm: Firm, secret: Secrets, slack: SlackSandbox, mails: MailServer) -> None:
    """Bills go to Xero, tasks come from Slack, users are invited, visitors send leads."""
    bill = firm.bill()
    firm.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"})
    firm.wait_for_status(bill, "synced")
    member = Member(slack, firm.stint, slack.user(firm.by.email), slack.channel())
    for text in ("list", "help", "start nothing like it", ""):
        search(secret, member.post_request(member.command_request(text)))
    invitation = {"email": "ida@secrets.example", "name": "Ida"}
    firm.admin.http.post(f"/api/customers/{firm.customer['id']}/users/invite", json=invitation)
    mails.next_to("ida@secrets.example")
    search(secret, httpx2.post(f"{firm.stint.url}/api/leads", json={"name": "Ada Park", "email": "ada@secrets.example"}))
    for path in READ:
        firm.admin.http.get(path)


def send_invalid_requests(stint: Installation, secret: Secrets) -> None:
    """Sends secrets in every part of a request, and forged signatures."""
    value = "canary-that-a-client-sends"
    secret.keep(**{"what a client sends": value})
    bearer = {"Authorization": f"Bearer {value}"}
    forged = encoded(json.dumps({"alg": "RS256", "kid": value}).encode()) + f".e30.{value}"
    with httpx2.Client(base_url=stint.url, timeout=20) as client:
        for answer in (
            client.get("/api/tasks", headers=bearer),
            client.get("/api/tasks", headers={"Authorization": f"Bearer {forged}"}),
            client.get("/api/tasks", headers={"Authorization": f"Basic {value}", "Cookie": f"session={value}"}),
            client.get("/api/tasks", params={"access_token": value}),
            client.post("/api/tasks", headers=bearer, content=f'{{"password": "{value}"'),
            client.post("/auth/token", json={"email": f"{value}", "code": value}),
            client.post("/auth/token", json={"email": "ada@secrets.example", "code": value, "password": value}),
            client.post("/api/leads", json={"name": "Ada", "email": value, "password": value}),
            client.post("/api/slack/events", content=f"token={value}", headers={"X-Slack-Signature": f"v0={value}"}),
        ):
            search(secret, answer)
        sent = requests.form(requests.EVENTS, {"token": "x"}, secret=secret.values["SLACK_SIGNING_SECRET"], at=0)
        search(secret, client.post(sent.path, content=sent.body, headers=sent.headers))


def fail_everywhere(firm: Firm, given: Given, stint: Installation, secret: Secrets, mails: MailServer) -> None:
    """Servers that repeat secrets in their errors, and unrecognized messages that contain secrets."""
    value = secret.values["the password in SMTP_URL"]
    mails.answers["MAIL"] = [f"550 no such sender, and why is the password {value} or {quote(value, safe='')}?"] * 9
    invitation = {"email": "bo@secrets.example", "name": "Bo"}
    firm.admin.http.post(f"/api/customers/{firm.customer['id']}/users/invite", json=invitation)
    value_sent = "canary-in-an-unrecognized-message"
    secret.keep(**{"a value in an unrecognized message": value_sent})
    message = {
        "password": value_sent,
        "headers": {"Authorization": f"Bearer {value_sent}"},
        "url": f"amqp://u:{value_sent}@host/",
    }
    with pika.BlockingConnection(pika.URLParameters(stint.amqp_url)) as connection:
        connection.channel().basic_publish("", f"{sorted(QUEUES)[0]}.XQ", json.dumps(message).encode())
    eventually(lambda: stint.value("SELECT count(*) FROM messages WHERE state = 'dead'"), why="the invitation's mail is dead")
    eventually(lambda: stint.value("SELECT count(*) FROM unrecognized_messages"), why="the unrecognized message is recorded")
    mails.answers.clear()


def show_everything(firm: Firm, stint: Installation, secret: Secrets) -> None:
    """Shows everything over HTTP and by commands, as text and as JSON."""
    for path in READ:
        firm.admin.http.get(path)
    messages = [item["id"] for item in firm.admin.http.get("/api/dead-letters").json()["items"]]
    for message in messages:
        firm.admin.http.get(f"/api/dead-letters/{message}")
        run_command(stint, secret, "dead", "show", message)
        edited = {"body": {"to": 5, "password": "x"}, "reason": "to see what is said"}
        firm.admin.http.post(f"/api/dead-letters/{message}/edit", json=edited)
    for command in COMMANDS:
        run_command(stint, secret, *command)


def run_command(stint: Installation, secret: Secrets, *command: str) -> None:
    result = stint.command(*command)
    secret.sees(f"./stint {' '.join(command[:2])}", result.stdout + result.stderr)


def run_without_servers(stint: Installation, secret: Secrets) -> None:
    """Everything again when no server can be reached: errors of connections often contain the URL."""
    password = quote(secret.values["the password in DATABASE_URL"], safe="")
    amqp = str(urlsplit(stint.amqp_url).password)
    mail = quote(secret.values["the password in SMTP_URL"], safe="")
    alone = Installation(
        f"postgresql://stint:{password}@{NOWHERE}/stint",
        f"amqp://stint:{amqp}@{NOWHERE}/",
        stint.directory / "alone",
        **{name: value for name, value in stint.environment.items() if name not in ("DATABASE_URL", "AMQP_URL", "SMTP_URL")},
        SMTP_URL=f"smtp://stint:{mail}@{NOWHERE}",
    )
    alone.directory.mkdir()
    try:
        alone.start()
        eventually(lambda: alone.answers("/health/live"), why=alone.log("api")[-500:])
        with httpx2.Client(base_url=alone.url, timeout=20) as client:
            for path in (*READ, "/health/ready"):
                search(secret, client.get(path))
            search(secret, client.post("/api/leads", json={"name": "Ada Park", "email": "ada@secrets.example"}))
        for command in COMMANDS[:3]:
            run_command(alone, secret, *command)
        eventually(lambda: alone.log("work") and alone.log("relay"), why="they say that they reach nothing")
    finally:
        alone.stop()
    for part in ("api", "relay", "work"):
        secret.sees(f"the log of {part} alone", alone.log(part))

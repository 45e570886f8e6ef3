"""No secret leaves by a side door: unmistakable values stand in every secret setting and come by in what people and servers
send; then everything is used, well and badly, and none of them is in a log, an answer, a mail or what the terminal shows."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import httpx
import pika
import pytest

from ops.sandbox import slack_app
from ops.sandbox.slack_workspace import SIGNING_SECRET
from schemas.messages import QUEUES
from schemas.sealing import unseal
from tests.api.tokens import encoded
from tests.firm_with_xero import Firm
from tests.given import Given
from tests.installation import Installation, eventually, new_database
from tests.sandbox import XeroSandbox, a_xero
from tests.smtp import MailServer, mail_server
from tests.workspace import Member, SlackSandbox, a_slack

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
    """The values that must not be seen, by what they are; and all that was."""

    values: dict[str, str] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def keep(self, **values: str) -> None:
        self.values |= values

    def sees(self, where: str, what: str) -> None:
        self.seen[where] = self.seen.get(where, "") + what

    def found(self) -> list[str]:
        """Which secret was seen where, in any of the forms in which it could be."""
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
    """The value as it is, and as it stands in URLs, in JSON, in hexadecimal and in base64, wherever it begins there."""
    raw = value.encode()
    # base64 of the bytes that do not depend on what stands beside them
    shifted = {base64.b64encode(b"\0" * before + raw)[4 if before else 0 : -4].decode() for before in range(3)}
    url_safe = {text.replace("+", "-").replace("/", "_") for text in shifted}
    return {value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1], raw.hex(), *shifted, *url_safe}


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def xero() -> Iterator[XeroSandbox]:
    with a_xero() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackSandbox]:
    with a_slack() as sandbox:
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
    """Everything is set up, with a canary wherever a secret goes."""
    environment = xero.environment | slack.environment
    secret.keep(
        **{
            "the password in AMQP_URL": str(urlsplit(amqp_url_apart).password),
            "SLACK_BOT_TOKEN": environment["SLACK_BOT_TOKEN"],
            "XERO_CLIENT_SECRET": environment["XERO_CLIENT_SECRET"],  # and what the stand-in Slack signs with
        }
    )
    installation = Installation(
        # the tests' Postgres trusts whoever comes by its socket, and lets them say a password
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
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def given(stint: Installation, secret: Secrets) -> Iterator[Given]:
    """Whose every answer is looked at."""
    made = Watching(stint, secret)
    yield made
    made.close()


class Watching(Given):
    def __init__(self, stint: Installation, secret: Secrets) -> None:
        super().__init__(stint)
        self._secret = secret

    def client(self, headers: dict[str, str]) -> httpx.Client:
        client = super().client(headers)
        client.event_hooks["response"].append(self._look)
        if token := headers.get("Authorization"):
            self._secret.keep(**{f"bearer token {len(self._secret.values)}": token.rpartition(".")[2]})
        return client

    def _look(self, answer: httpx.Response) -> None:
        see(self._secret, answer)


def see(secret: Secrets, answer: httpx.Response) -> None:
    answer.read()
    where = f"the answer to {answer.request.method} {answer.request.url.path}"
    secret.sees(where, f"{answer.headers.multi_items()} {answer.text}")


def with_password(database_url: str, password: str) -> str:
    """The same URL, saying a password on the way."""
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
    connects_to_xero(firm, secret)
    signs_in(given, stint, secret, mails)
    works_well(firm, secret, slack, mails)
    asks_badly(stint, secret)
    dies(firm, given, stint, secret, mails)
    is_looked_at(firm, stint, secret)
    stands_without_its_servers(stint, secret)

    for part in ("api", "relay", "work"):
        secret.sees(f"the log of {part}", stint.log(part))
    for mail in mails.mails:
        secret.sees(f"a mail to {mail.recipients}", mail.message.as_string())
    assert {"the log of work", "./stint dead export", "the answer to GET /metrics"} <= set(secret.seen)
    assert secret.found() == []


def connects_to_xero(firm: Firm, secret: Secrets) -> None:
    consent = firm.admin.http.get("/api/xero/auth-url").json()
    back = httpx.URL(httpx.get(f"{consent['url']}&auto=1").headers["Location"]).params
    secret.keep(**{"the code from Xero": back["code"]})
    for _ in range(2):  # the second time it was used
        firm.admin.http.post("/api/xero/connect", json={"code": back["code"], "state": back["state"]})
    with firm.stint.sql() as conn:
        [(row, access, refresh)] = conn.execute("SELECT id, access_token, refresh_token FROM xero_connection").fetchall()
    for name, sealed in (("access_token", access), ("refresh_token", refresh)):
        place = f"xero_connection {row} {name}"
        secret.keep(**{f"Xero's {name}": unseal(sealed, secret_key=firm.stint.environment["SECRET_KEY"], place=place)})


def signs_in(given: Given, stint: Installation, secret: Secrets, mails: MailServer) -> None:
    """The code may stand in its own mail, and the token in the answer to it: nowhere else."""
    person = given.person()
    with httpx.Client(base_url=stint.url, timeout=20) as client:
        see(secret, client.post("/auth/code", json={"email": person.email}))
        code = re.findall(r"\b\d{6}\b", mails.next_to(person.email))[0]
        mails.mails = [mail for mail in mails.mails if person.email not in mail.recipients]
        see(secret, client.post("/auth/token", json={"email": person.email, "code": f"{code} and more"}))
        see(secret, client.post("/auth/token", json={"email": person.email, "code": [code]}))
        token = client.post("/auth/token", json={"email": person.email, "code": code}).json()["idToken"]
        see(secret, client.post("/auth/token", json={"email": person.email, "code": code}))
    secret.keep(**{"the token that the code was good for": token.rpartition(".")[2]})
    secret.codes.append(code)


def works_well(firm: Firm, secret: Secrets, slack: SlackSandbox, mails: MailServer) -> None:
    """Bills go to Xero, tasks come from Slack, people are invited, strangers ask."""
    bill = firm.bill()
    firm.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"})
    firm.comes_to(bill, "synced")
    member = Member(slack, firm.stint, slack.user(firm.by.email), slack.channel())
    for text in ("list", "help", "start nothing like it", ""):
        see(secret, member.hand_over(member.typing(text)))
    invitation = {"email": "ida@secrets.example", "name": "Ida"}
    firm.admin.http.post(f"/api/customers/{firm.customer['id']}/users/invite", json=invitation)
    mails.next_to("ida@secrets.example")
    see(secret, httpx.post(f"{firm.stint.url}/api/leads", json={"name": "Ada Park", "email": "ada@secrets.example"}))
    for path in READ:
        firm.admin.http.get(path)


def asks_badly(stint: Installation, secret: Secrets) -> None:
    """Secrets in every place of a request where one can be put, and forged signatures."""
    value = "canary-that-a-client-sends"
    secret.keep(**{"what a client sends": value})
    bearer = {"Authorization": f"Bearer {value}"}
    forged = encoded(json.dumps({"alg": "RS256", "kid": value}).encode()) + f".e30.{value}"
    with httpx.Client(base_url=stint.url, timeout=20) as client:
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
            see(secret, answer)
        sent = slack_app.form(slack_app.EVENTS, {"token": "x"}, secret=secret.values["SLACK_SIGNING_SECRET"], at=0)
        see(secret, client.post(sent.path, content=sent.body, headers=sent.headers))


def dies(firm: Firm, given: Given, stint: Installation, secret: Secrets, mails: MailServer) -> None:
    """Servers that say in their refusals what they were told, and letters of strangers that hold secrets."""
    value = secret.values["the password in SMTP_URL"]
    mails.answers["MAIL"] = [f"550 no such sender, and why is the password {value} or {quote(value, safe='')}?"] * 9
    invitation = {"email": "bo@secrets.example", "name": "Bo"}
    firm.admin.http.post(f"/api/customers/{firm.customer['id']}/users/invite", json=invitation)
    stranger = "canary-in-a-strangers-letter"
    secret.keep(**{"what stood in a stranger's letter": stranger})
    letter = {"password": stranger, "headers": {"Authorization": f"Bearer {stranger}"}, "url": f"amqp://u:{stranger}@host/"}
    with pika.BlockingConnection(pika.URLParameters(stint.amqp_url)) as connection:
        connection.channel().basic_publish("", f"{sorted(QUEUES)[0]}.XQ", json.dumps(letter).encode())
    eventually(lambda: stint.value("SELECT count(*) FROM messages WHERE state = 'dead'"), why="the invitation's mail is dead")
    eventually(lambda: stint.value("SELECT count(*) FROM foreign_letters"), why="the stranger's letter is kept")
    mails.answers.clear()


def is_looked_at(firm: Firm, stint: Installation, secret: Secrets) -> None:
    """Over HTTP and at the terminal, as people and as JSON."""
    for path in READ:
        firm.admin.http.get(path)
    letters = [item["id"] for item in firm.admin.http.get("/api/dead-letters").json()["items"]]
    for letter in letters:
        firm.admin.http.get(f"/api/dead-letters/{letter}")
        runs(stint, secret, "dead", "show", letter)
        edited = {"body": {"to": 5, "password": "x"}, "reason": "to see what is said"}
        firm.admin.http.post(f"/api/dead-letters/{letter}/edit", json=edited)
    for command in COMMANDS:
        runs(stint, secret, *command)


def runs(stint: Installation, secret: Secrets, *command: str) -> None:
    result = stint.command(*command)
    secret.sees(f"./stint {' '.join(command[:2])}", result.stdout + result.stderr)


def stands_without_its_servers(stint: Installation, secret: Secrets) -> None:
    """Everything again where nothing can be reached: what fails to connect likes to say with what it tried to."""
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
        with httpx.Client(base_url=alone.url, timeout=20) as client:
            for path in (*READ, "/health/ready"):
                see(secret, client.get(path))
            see(secret, client.post("/api/leads", json={"name": "Ada Park", "email": "ada@secrets.example"}))
        for command in COMMANDS[:3]:
            runs(alone, secret, *command)
        eventually(lambda: alone.log("work") and alone.log("relay"), why="they say that they reach nothing")
    finally:
        alone.stop()
    for part in ("api", "relay", "work"):
        secret.sees(f"the log of {part} alone", alone.log(part))

"""When two e-mail addresses are the same: one rule in Python and SQL, wherever addresses are compared."""

import threading
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest
from pydantic import TypeAdapter

from schemas.email_addresses import Email, email_key
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import client, members
from schemas.xero import bill_sync
from schemas.xero.users import address_key, fallback_key
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.given import Given
from tests.support.installation import Installation, new_database, with_database
from tests.support.sizes import FULL
from tests.xero.test_records import SETTINGS

USER = "Maik.SI@example.com"
SAME = {
    "as it is": USER,
    "upper case": "MAIK.SI@EXAMPLE.COM",
    "lower case": "maik.si@example.com",
}
OTHERS = {
    "the Kelvin sign": "Mai\u212a.SI@example.com",
    "a dotted I": "Maik.S\u0130@example.com",
    "a dotless i": "Maik.S\u0131@example.com",
    "a long s": "Maik.\u017fI@example.com",
    "full width": "Ｍaik.SI@example.com",
    "a trailing blank": f"{USER} ",
    "a zero-width space": "Maik\u200b.SI@example.com",
    "a combining accent": "Maik\u0301.SI@example.com",
}
# A domain has two spellings, and IDNA makes one of both.
UNICODE, ASCII = "jo@m\u00fcnchen.example", "jo@xn--mnchen-3ya.example"
SPELLINGS = [UNICODE, ASCII, "JO@XN--MNCHEN-3YA.Example", "jo@M\u00dcNCHEN.example", "jo@mu\u0308nchen.example"]
OTHER_DOMAINS = [
    "jo@munchen.example",
    "jo@muenchen.example",
    "jo@xn--mnchen-3ya.example.evil.example",
    "jo@xn--mnchen-3yb.example",
    "xn--jo@xn--mnchen-3ya.example",
    "jo@xn--zz",
    "xn--mnchen-3ya.example",
]
EACH = pytest.mark.parametrize("address", OTHERS.values(), ids=OTHERS)


@pytest.fixture(scope="module", params=["", " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"], ids=["default", "C.UTF-8"])
def url(request: pytest.FixtureRequest, database_url: str) -> str:
    made = new_database(database_url)
    if not request.param:
        return made
    name = f"locale_{threading.get_native_id()}_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0{request.param}".encode())
    url = with_database(database_url, name)
    with psycopg.connect(made) as source, psycopg.connect(url) as conn:
        [definition] = source.execute("SELECT pg_get_functiondef('email_key'::regproc)").fetchone() or [""]
        conn.execute(definition.encode())
    return url


@pytest.mark.slow
def test_python_and_sql_have_the_same_key_for_every_character(url: str) -> None:
    # the planes from 2 on have ideographs, marks and private characters, and none has a case
    codes = [*range(1, 0x20000), *range(0x20000, 0x110000, 1 if FULL else 97)]
    known = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    with psycopg.connect(url) as conn:
        query = "SELECT email_key(a) FROM unnest(%s::text[]) WITH ORDINALITY AS n (a, at) ORDER BY at"
        keys = [key for (key,) in conn.execute(query, (known,))]
    assert [hex(ord(one)) for one, key in zip(known, keys, strict=True) if email_key(one) != key] == []
    assert [one for one, key in zip(known, keys, strict=True) if one != key] == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_only_the_case_of_a_to_z_makes_no_difference() -> None:
    assert {email_key(address) for address in SAME.values()} == {"maik.si@example.com"}
    assert len({email_key(address) for address in (USER, *OTHERS.values())}) == 1 + len(OTHERS)


async def slack_caller(conn: Connection, user: UUID, address: str) -> bool:
    """Whether a Slack user with that address in the profile is the user."""
    profile = client._to_profile({"team_id": "T1", "profile": {"email": address}}, "U1", "T1")
    await members.save_profile(conn, profile)
    found = await members.find_caller(conn, "U1", None, settings=SETTINGS)
    return found.user is not None and found.user.id == user


async def xero_user(conn: Connection, rows: firm_rows.FirmRows, address: str, settings: Settings = SETTINGS) -> bool:
    """Whether the hours of the user go to the user with that address in Xero."""
    bill = await firm_rows.bill(conn, rows)
    insert = "INSERT INTO xero_users (tenant_id, user_id, email) VALUES ('tenant', 'xero-user', %s)"
    await conn.execute(insert, (address_key(address),))
    found = await bill_sync._lock_row(conn, bill, "tenant", settings)
    return found.user_id == "xero-user"


async def matches(conn: Connection, address: str, user: str = USER) -> tuple[bool, bool]:
    rows = await firm_rows.firm(conn)
    await conn.execute("UPDATE users SET email = %s, role = 'internal_user' WHERE id = %s", (user, rows.user))
    return await slack_caller(conn, rows.user, address), await xero_user(conn, rows, address)


@pytest.mark.parametrize("address", SAME.values(), ids=SAME)
def test_slack_and_xero_know_the_user_by_the_address(address: str, database_url: str) -> None:
    assert over(new_database(database_url), lambda conn: matches(conn, address)) == (True, True)


@EACH
def test_another_address_is_somebody_else_in_slack_and_xero(address: str, database_url: str) -> None:
    assert over(new_database(database_url), lambda conn: matches(conn, address)) == (False, False)


@pytest.mark.parametrize("address", SPELLINGS, ids=ascii)
def test_both_spellings_of_a_domain_are_one_address_in_slack_and_xero(address: str, database_url: str) -> None:
    url = new_database(database_url)
    assert TypeAdapter(Email).validate_python(address).lower() == UNICODE
    assert over(url, lambda conn: matches(conn, address, UNICODE)) == (True, True)
    settings = SETTINGS.model_copy(update={"xero_fallback_user": address})
    assert fallback_key(settings) == UNICODE


@pytest.mark.parametrize("address", OTHER_DOMAINS, ids=ascii)
def test_another_domain_is_somebody_else(address: str, database_url: str) -> None:
    assert over(new_database(database_url), lambda conn: matches(conn, address, UNICODE)) == (False, False)


@pytest.mark.parametrize("user", ["", USER])
@pytest.mark.parametrize("fallback", [None, ""])
def test_a_user_without_an_address_in_xero_is_nobody(user: str, fallback: str | None, database_url: str) -> None:
    settings = SETTINGS.model_copy(update={"xero_fallback_user": fallback})

    async def check(conn: Connection) -> bool:
        rows = await firm_rows.firm(conn)
        await conn.execute("UPDATE users SET email = %s WHERE id = %s", (user, rows.user))
        return await xero_user(conn, rows, "", settings)

    assert over(new_database(database_url), check) is False


def test_commands_and_sign_in_take_both_spellings_of_a_domain(given: Given, stint: Installation) -> None:
    mark = uuid4().hex[:8]
    stored, other = f"jo.{mark}@m\u00fcnchen.example", f"Jo.{mark}@xn--mnchen-3ya.example"
    assert f"Added {stored} " in stint.command("user", "add", other.lower()).stdout
    for address in (stored, other):
        assert httpx2.post(f"{stint.url}/auth/code", json={"email": address}).status_code == 202
    given.settled()
    codes = "SELECT count(*) FROM sign_in_codes c JOIN users u ON u.id = c.user_id WHERE u.email = %s"
    assert stint.value(codes, stored) == 2
    assert stint.command("token", "--role", "internal_user", "--email", other).returncode == 0
    for address in (stored, other):
        assert f"Signed out {stored}" in stint.command("user", "sign-out", address).stdout
        assert f"Removed {stored}" in stint.command("user", "remove", address).stdout
    assert stint.value("SELECT count(*) FROM users WHERE email LIKE %s", f"%{mark}%") == 1


@pytest.mark.parametrize(
    "address",
    [
        "", "@", "jo@", "@acme.example", "a" * 400 + "@acme.example", "jo@" + "a." * 300, "jo@xn--zz", "jo@[::1]",
        "\udcff@acme.example", "jo@\udcff.example", "jo\n@acme.example", "jo@acme\u2028.example", "<jo@acme.example>",
        "jo@m\u00fc" + "\u0308" * 300, "\U0001f600@a.b",
    ],
    ids=ascii,
)  # fmt: skip
def test_the_commands_say_in_a_sentence_that_an_address_is_none(address: str, given: Given, stint: Installation) -> None:
    for words in (
        ("user", "add", address), ("token", "--role", "internal_user", "--email", address),
        ("user", "remove", address), ("user", "sign-out", address),
    ):  # fmt: skip
        done = stint.command(*words)
        assert done.returncode in (1, 2) and done.stderr.strip() and "Traceback" not in done.stderr, done.stderr


def test_no_command_is_about_a_user_without_an_address(stint: Installation) -> None:
    with stint.sql() as conn:
        conn.execute("INSERT INTO users (id, email, name, role) VALUES (gen_random_uuid(), '', 'Jo', 'internal_user')")
    for action in ("remove", "sign-out"):
        done = stint.command("user", action, "")
        assert done.returncode == 1 and "No user has the address ''" in done.stderr


@pytest.mark.parametrize("name", [" ", "\u200b", "a" * 201, "\udcff"], ids=ascii)
def test_the_commands_say_in_a_sentence_that_a_name_is_none(name: str, stint: Installation) -> None:
    done = stint.command("user", "add", f"{uuid4().hex}@acme.example", "--name", name)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr


@EACH
def test_the_commands_add_no_user_with_another_address(address: str, given: Given, stint: Installation) -> None:
    before = stint.value("SELECT count(*) FROM users")
    for words in (("user", "add", address), ("token", "--role", "internal_user", "--email", address)):
        done = stint.command(*words)
        assert done.returncode == 1 and "is not an e-mail address: " in done.stderr and "Traceback" not in done.stderr
    assert stint.value("SELECT count(*) FROM users") == before


def test_a_user_signs_in_whatever_the_case_and_no_other_address_does(given: Given, stint: Installation) -> None:
    mark = uuid4().hex[:8]
    stint.command("user", "add", f"Kai.{mark}@Example.com")
    sent = "SELECT count(*) FROM messages WHERE actor = 'send_code' AND state = 'done' AND body->>'email' = %s"
    for address in (f"kai.{mark}@example.com", f"KAI.{mark.upper()}@EXAMPLE.COM"):
        assert httpx2.post(f"{stint.url}/auth/code", json={"email": address}).status_code == 202
        given.settled()
    codes = "SELECT count(*) FROM sign_in_codes c JOIN users u ON u.id = c.user_id WHERE u.email = %s"
    assert stint.value(codes, f"Kai.{mark}@example.com") == 2
    for address in (f"\u212aai.{mark}@example.com", f"kai.{mark}@example.com "):
        assert httpx2.post(f"{stint.url}/auth/code", json={"email": address}).status_code == 422
    assert stint.value(sent, f"\u212aai.{mark}@example.com") == 0
    again = stint.command("user", "add", f"KAI.{mark}@example.com")
    assert f"Kai.{mark}@example.com can sign in" in again.stdout

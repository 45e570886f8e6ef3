"""What one client does uses up nothing for others: neither codes nor tries, for any address, however many clients it has."""

import re
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx2
import pytest

from schemas.identity.sign_in_codes import CODES_PER_CLIENT, CODES_PER_SITE, CODES_PER_SITE_AND_EMAIL, SHORT_CODES_PER_USER
from schemas.rate_limits import Limit
from tests.support.answers import Json, problem, until_free
from tests.support.given import Given, Person
from tests.support.installation import Installation, new_database
from tests.support.smtp import MailServer, mail_server

ATTACKERS = [f"198.51.100.{number}" for number in range(1, 13)]
VICTIM = "203.0.113.7"


@pytest.fixture(scope="module")
def inbox() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def firm(
    database_url: str, amqp_url_apart: str, inbox: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation behind a proxy, so that the tests can be any client."""
    environment = {"SMTP_URL": inbox.url, "TRUSTED_PROXIES": "127.0.0.1"}
    installation = Installation(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("limits"), **environment)
    try:
        yield installation.start("api", "relay", "work:mail").wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def people(firm: Installation) -> Iterator[Given]:
    with firm.sql() as conn:
        conn.execute("DELETE FROM rate_limits")
    made = Given(firm)
    yield made
    made.close()


class Client:
    """A client with a network address of its own."""

    def __init__(self, firm: Installation, address: str) -> None:
        self._url, self._headers = firm.url, {"X-Forwarded-For": address}

    def ask(self, email: str) -> httpx2.Response:
        return httpx2.post(f"{self._url}/auth/code", json={"email": email}, headers=self._headers, timeout=20)

    def try_code(self, email: str, code: str, **more: str) -> httpx2.Response:
        body = {"email": email, "code": code} | more
        return httpx2.post(f"{self._url}/auth/token", json=body, headers=self._headers, timeout=20)


def code_after(inbox: MailServer, person: Person, before: int) -> str:
    found = re.search(r"Your code is (\d+)\b", inbox.next_to(person.email, before))
    assert found
    return found[1]


def signs_in(client: Client, inbox: MailServer, person: Person) -> Json:
    """Asks for a code and signs in with it, as somebody does who notices no attack. Returns the answer to the first request."""
    before = len(inbox.to(person.email))
    asked = client.ask(person.email)
    assert asked.status_code == 202, asked.text
    answer = client.try_code(person.email, code_after(inbox, person, before))
    assert answer.status_code == 200, answer.text
    body: Json = asked.json()
    return body


def use_up(firm: Installation, limit: Limit, key: str) -> None:
    with firm.sql() as conn:
        conn.execute(
            """
            INSERT INTO rate_limits (key, refilled_at) VALUES (%s, now() + make_interval(secs => %s))
            ON CONFLICT (key) DO UPDATE SET refilled_at = excluded.refilled_at
            """,
            (f"{limit.name}:{key}", limit.burst * limit.seconds),
        )


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


@pytest.mark.slow
def test_a_flood_of_invented_addresses_costs_a_real_one_nothing(people: Given, firm: Installation, inbox: MailServer) -> None:
    person, began_at = people.person(), firm.value("SELECT clock_timestamp()")
    with ThreadPoolExecutor(6) as pool:
        flood = [
            pool.submit(until_free, partial(Client(firm, address).ask, f"{people.new_id()}@example.com"))
            for _ in range(29)
            for address in ATTACKERS
        ]
        assert {future.result().status_code for future in flood} == {202}

    started = time.monotonic()
    signs_in(Client(firm, VICTIM), inbox, person)

    assert time.monotonic() - started < 5
    # no worker had anything to do for the others
    handled = "SELECT count(*) FROM messages WHERE actor = 'send_code' AND delivery_number > 0 AND created_at > %s"
    assert firm.value(handled, began_at) == 1


def test_one_client_that_has_used_up_its_requests_stops_no_other(people: Given, firm: Installation, inbox: MailServer) -> None:
    one, other = people.people(2)
    use_up(firm, CODES_PER_CLIENT, ATTACKERS[0])
    for email in (one.email, f"{people.new_id()}@example.com"):
        problem(Client(firm, ATTACKERS[0]).ask(email), 429)
    signs_in(Client(firm, VICTIM), inbox, one)
    # an IPv6 network of /64 is one client
    use_up(firm, CODES_PER_CLIENT, "2001:db8:0:1::/64")
    problem(Client(firm, "2001:db8:0:1:ffff::1").ask(other.email), 429)
    signs_in(Client(firm, "2001:db8:0:2::1"), inbox, other)


def test_who_has_very_many_networks_of_ipv6_has_one_limit_for_all_of_them(people: Given, firm: Installation) -> None:
    for number in range(3):
        assert Client(firm, f"2001:db8:9:{number}::1").ask(f"{people.new_id()}@example.com").status_code == 202
    seconds = "SELECT extract(epoch FROM refilled_at - clock_timestamp())::float FROM rate_limits WHERE key = %s"
    assert firm.value(seconds, f"{CODES_PER_SITE.name}:2001:db8:9::/48") > CODES_PER_SITE.seconds  # more than one use
    use_up(firm, CODES_PER_SITE, "2001:db8:9::/48")
    problem(Client(firm, "2001:db8:9:ffff::1").ask(f"{people.new_id()}@example.com"), 429)
    assert Client(firm, "2001:db8:a::1").ask(f"{people.new_id()}@example.com").status_code == 202


def test_who_has_very_many_networks_of_ipv6_sends_one_person_few_codes(people: Given, firm: Installation) -> None:
    person = people.person()
    use_up(firm, CODES_PER_SITE_AND_EMAIL, f"2001:db8:b::/48:{person.email}")
    problem(Client(firm, "2001:db8:b:7::1").ask(person.email.upper()), 429)
    assert Client(firm, "2001:db8:b:7::1").ask(f"{people.new_id()}@example.com").status_code == 202
    assert Client(firm, "2001:db8:c::1").ask(person.email).status_code == 202


def test_codes_and_tries_of_somebody_else_lock_nobody_out(people: Given, firm: Installation, inbox: MailServer) -> None:
    person, attacker = people.person(), Client(firm, ATTACKERS[0])
    assert [attacker.ask(person.email).status_code for _ in range(6)] == [202] * 5 + [429]
    assert [attacker.try_code(person.email, "000000").status_code for _ in range(16)] == [401] * 15 + [429]
    signs_in(Client(firm, VICTIM), inbox, person)


def test_tries_of_many_others_do_not_use_up_a_code(people: Given, firm: Installation, inbox: MailServer) -> None:
    """Also while the code is on its way to whom it belongs, whether the client sends the id or not."""
    for sends_id in (True, False):
        person, victim = people.person(), Client(firm, VICTIM)
        before = len(inbox.to(person.email))
        code_id = victim.ask(person.email).json()["codeId"]
        code = code_after(inbox, person, before)
        for address in ATTACKERS:
            for _ in range(3):
                problem(Client(firm, address).try_code(person.email, wrong(code)), 401)
        answer = victim.try_code(person.email, code, **({"codeId": code_id} if sends_id else {}))
        assert answer.status_code == 200


def test_a_code_works_elsewhere_with_its_id_and_for_three_tries_without(
    people: Given, firm: Installation, inbox: MailServer
) -> None:
    person, laptop, phone = people.person(), Client(firm, VICTIM), Client(firm, "203.0.113.200")

    def asked() -> tuple[str, str]:
        before = len(inbox.to(person.email))
        code_id = laptop.ask(person.email).json()["codeId"]
        return code_id, code_after(inbox, person, before)

    code_id, code = asked()
    assert phone.try_code(person.email, code, codeId=code_id).status_code == 200
    _, code = asked()
    assert phone.try_code(person.email, code).status_code == 200
    code_id, code = asked()
    for _ in range(3):
        problem(phone.try_code(person.email, wrong(code)), 401)
    problem(phone.try_code(person.email, code), 401)
    assert phone.try_code(person.email, code, codeId=code_id).status_code == 200


def test_a_code_is_invalid_after_five_wrong_tries_with_its_id(people: Given, firm: Installation, inbox: MailServer) -> None:
    person, client = people.person(), Client(firm, VICTIM)
    code_id = client.ask(person.email).json()["codeId"]
    code = code_after(inbox, person, 0)
    for _ in range(5):
        problem(client.try_code(person.email, wrong(code), codeId=code_id), 401)
    problem(client.try_code(person.email, code, codeId=code_id), 401)


def test_who_is_asked_for_by_very_many_clients_gets_longer_codes_and_one_for_each_client(
    people: Given, firm: Installation, inbox: MailServer
) -> None:
    person = people.person()
    use_up(firm, SHORT_CODES_PER_USER, person.id)
    client = Client(firm, VICTIM)
    assert client.ask(person.email).status_code == 202
    code = code_after(inbox, person, 0)
    assert len(code) == 9
    assert client.ask(person.email).status_code == 202
    people.settled()
    assert len(inbox.to(person.email)) == 1  # the first one is still valid
    assert client.try_code(person.email, f"{code[:3]} {code[3:6]} {code[6:]}").status_code == 200


def test_asking_takes_as_long_for_an_unknown_address_as_for_a_known_one(people: Given, firm: Installation) -> None:
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(24):
        client = Client(firm, f"192.0.2.{number + 1}")
        for is_known in (True, False):
            email = people.person().email if is_known else f"{people.new_id()}@example.com"
            started = time.perf_counter()
            assert client.ask(email).status_code == 202
            took[is_known].append(time.perf_counter() - started)
    fast, slow = sorted(statistics.median(times) for times in took.values())
    assert slow < fast * 2, (fast, slow)


def test_a_mail_that_fails_at_first_brings_a_valid_code(people: Given, firm: Installation, inbox: MailServer) -> None:
    """The code of the second attempt replaces that of the first, under the same id."""
    person, client = people.person(), Client(firm, VICTIM)
    inbox.answers["DATA"] = ["451 later"]
    code_id = client.ask(person.email).json()["codeId"]
    code = code_after(inbox, person, 0)
    assert client.try_code(person.email, code, codeId=code_id).status_code == 200

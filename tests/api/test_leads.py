"""Leads: no token is needed, rates are limited, and X-Forwarded-For is used only behind a trusted proxy."""

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.support.given import Given
from tests.support.installation import Installation
from tests.support.sizes import JUNK_LEADS

LEAD = {"name": "Ada Park", "email": "ada@example.com"}


@pytest.fixture
def two(own: Installation) -> tuple[str, str]:
    """Two API processes with one database, behind a trusted proxy on loopback."""
    own.environment |= {"TRUSTED_PROXIES": "127.0.0.1", "FIRM_EMAIL": "firm@example.com"}
    own.start("api").wait_until_ready()
    second = Installation(own.database_url, own.amqp_url, own.directory / "second", **own.environment)
    second.directory.mkdir()
    second.start("api").wait_until_ready()
    own.processes["api:second"] = second.processes["api"]
    return own.url, second.url


def send(url: str, address: str | None = None, **more: Any) -> httpx2.Response:
    headers = {} if address is None else {"X-Forwarded-For": address}
    return httpx2.post(f"{url}/api/leads", json=LEAD | more, headers=headers, timeout=20)


def counts(stint: Installation) -> tuple[int, int]:
    """The numbers of stored leads and of enqueued mails."""
    return stint.value("SELECT count(*) FROM leads"), stint.value("SELECT count(*) FROM messages WHERE actor = 'send_mail'")


def test_a_lead_is_stored_with_unknown_fields_and_mailed_to_the_firm(own: Installation, two: tuple[str, str]) -> None:
    answer = send(two[0], budget="large")
    assert answer.status_code == 201, answer.text
    assert own.rows("SELECT id::text, name, extra FROM leads") == [(answer.json()["id"], "Ada Park", {"budget": "large"})]
    assert own.value("SELECT body->>'to' FROM messages") == "firm@example.com"
    given = Given(own)
    assert given.person().get("/api/leads")["items"][0]["email"] == "ada@example.com"
    given.close()


def test_a_lead_with_the_hidden_field_gets_the_usual_answer_and_is_not_stored(own: Installation, two: tuple[str, str]) -> None:
    answer = send(two[0], website="https://spam.example")
    assert answer.status_code == 201
    assert list(answer.json()) == ["id"]
    assert counts(own) == (0, 0)


def test_leads_of_one_address_are_limited_across_processes_and_others_are_served(
    own: Installation, two: tuple[str, str]
) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: send(two[number % 2], "203.0.113.9"), range(200)))
    accepted = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(accepted) == 5
    assert len(refused) == 195
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert counts(own) == (5, 5)
    assert send(two[1], "203.0.113.10").status_code == 201


def test_a_client_cannot_invent_an_address_in_x_forwarded_for(two: tuple[str, str]) -> None:
    statuses = [send(two[0], f"198.51.100.{number}, 203.0.113.7").status_code for number in range(6)]
    assert statuses == [201] * 5 + [429]


def test_one_ipv6_network_counts_as_one_address(two: tuple[str, str]) -> None:
    statuses = [send(two[0], f"2001:db8:1:1::{number}").status_code for number in range(6)]
    assert statuses == [201] * 5 + [429]
    assert send(two[0], "2001:db8:1:2::1").status_code == 201


def test_an_ipv4_address_counts_as_itself_however_it_is_written(two: tuple[str, str]) -> None:
    spelled = ["203.0.113.7", "::ffff:203.0.113.7", "203.0.113.7:4711", "[::ffff:203.0.113.7]:4711", "::ffff:cb00:7107"]
    assert [send(two[0], address).status_code for address in spelled] == [201] * 5
    assert [send(two[0], address).status_code for address in spelled] == [429] * 5
    assert send(two[0], "::ffff:203.0.113.8").status_code == 201
    nonsense = [send(two[0], f"nonsense-{number}").status_code for number in range(6)]
    assert nonsense == [201] * 5 + [429]


def test_without_trusted_proxies_x_forwarded_for_is_ignored(own: Installation) -> None:
    own.start("api").wait_until_ready()
    statuses = [send(own.url, f"203.0.113.{number}").status_code for number in range(6)]
    assert statuses == [201] * 5 + [429]
    assert counts(own) == (5, 0), "without FIRM_EMAIL leads are only stored"


def test_a_lead_above_16_kib_is_refused(own: Installation, two: tuple[str, str]) -> None:
    assert send(two[0], extra="x" * 17_000).status_code == 413
    assert send(two[0], name="x" * 10_000_000).status_code == 413
    assert send(two[0], name="a\0b").status_code == 400
    assert counts(own) == (0, 0)


@pytest.mark.slow
def test_of_thousands_of_leads_from_one_address_five_are_stored_and_others_are_served(
    own: Installation, two: tuple[str, str]
) -> None:
    body = json.dumps(LEAD).encode()
    head = b"POST /api/leads HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    counted: Counter[int] = Counter()
    honest: list[int] = []

    async def flood(url: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(JUNK_LEADS // 8):
            writer.write(request)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            counted[status := int(answer.split()[1])] += 1
            assert status != 429 or b"\r\nretry-after: " in answer
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].split()[0]))
        writer.close()

    async def others() -> None:
        for number in range(20):
            answer = await asyncio.to_thread(send, two[number % 2], f"198.51.100.{number}")
            honest.append(answer.status_code)

    async def run_all() -> None:
        await asyncio.gather(*(flood(url) for url in two * 4), others())

    asyncio.run(run_all())
    assert counted == {201: 5, 429: JUNK_LEADS - 5}
    assert honest == [201] * 20
    assert counts(own) == (25, 25)


def test_a_flood_from_many_addresses_is_stored_but_sends_few_mails(own: Installation, two: tuple[str, str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda number: send(two[number % 2], f"203.0.{number // 200}.{number % 200}"), range(150))
        assert {answer.status_code for answer in answers} == {201}
    leads, mails = counts(own)
    assert leads == 150
    assert 50 <= mails <= 52  # one more each minute

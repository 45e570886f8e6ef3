"""Leads: anybody may write, nobody may flood, and a stranger's address is believed only from a trusted proxy."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.given import Given
from tests.installation import Installation

LEAD = {"name": "Ada Park", "email": "ada@example.com"}


@pytest.fixture
def two(own: Installation) -> tuple[str, str]:
    """Two API processes over one database, behind a proxy on loopback."""
    own.environment |= {"TRUSTED_PROXIES": "127.0.0.1", "FIRM_EMAIL": "firm@example.com"}
    own.start("api").wait_until_ready()
    second = Installation(own.database_url, own.amqp_url, own.directory / "second", **own.environment)
    second.directory.mkdir()
    second.start("api").wait_until_ready()
    own.processes["api:second"] = second.processes["api"]
    return own.url, second.url


def send(url: str, address: str | None = None, **more: Any) -> httpx.Response:
    headers = {} if address is None else {"X-Forwarded-For": address}
    return httpx.post(f"{url}/api/leads", json=LEAD | more, headers=headers, timeout=20)


def counts(stint: Installation) -> tuple[int, int]:
    """How many leads are kept, and how many mails promised."""
    return stint.value("SELECT count(*) FROM leads"), stint.value("SELECT count(*) FROM messages WHERE actor = 'send_mail'")


def test_a_lead_is_kept_with_what_else_the_form_had_and_told_to_the_firm(own: Installation, two: tuple[str, str]) -> None:
    answer = send(two[0], budget="large")
    assert answer.status_code == 201, answer.text
    assert own.rows("SELECT id::text, name, extra FROM leads") == [(answer.json()["id"], "Ada Park", {"budget": "large"})]
    assert own.value("SELECT body->>'to' FROM messages") == "firm@example.com"
    given = Given(own)
    assert given.person().get("/api/leads")["items"][0]["email"] == "ada@example.com"
    given.close()


def test_who_fills_in_the_hidden_field_is_answered_as_usual_and_forgotten(own: Installation, two: tuple[str, str]) -> None:
    answer = send(two[0], website="https://spam.example")
    assert answer.status_code == 201
    assert list(answer.json()) == ["id"]
    assert counts(own) == (0, 0)


def test_a_burst_from_one_address_is_bounded_across_processes_and_others_are_served(
    own: Installation, two: tuple[str, str]
) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: send(two[number % 2], "203.0.113.9"), range(200)))
    taken = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(taken) == 5
    assert len(refused) == 195
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert counts(own) == (5, 5)
    assert send(two[1], "203.0.113.10").status_code == 201


def test_an_address_cannot_be_made_up_before_the_proxys_own(two: tuple[str, str]) -> None:
    statuses = [send(two[0], f"198.51.100.{number}, 203.0.113.7").status_code for number in range(6)]
    assert statuses == [201] * 5 + [429]


def test_one_ipv6_network_is_one_address(two: tuple[str, str]) -> None:
    statuses = [send(two[0], f"2001:db8:1:1::{number}").status_code for number in range(6)]
    assert statuses == [201] * 5 + [429]
    assert send(two[0], "2001:db8:1:2::1").status_code == 201


def test_without_trusted_proxies_nobodys_word_for_an_address_is_taken(own: Installation) -> None:
    own.start("api").wait_until_ready()
    statuses = [send(own.url, f"203.0.113.{number}").status_code for number in range(6)]
    assert statuses == [201] * 5 + [429]
    assert counts(own) == (5, 0), "without FIRM_EMAIL leads are only kept"


def test_a_lead_past_16_kib_is_refused(own: Installation, two: tuple[str, str]) -> None:
    assert send(two[0], extra="x" * 17_000).status_code == 413
    assert send(two[0], name="x" * 10_000_000).status_code == 413
    assert send(two[0], name="a\0b").status_code == 400
    assert counts(own) == (0, 0)

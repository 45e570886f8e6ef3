"""Which clients share a rate limit."""

import pytest
from pydantic import SecretStr, ValidationError
from pytest import MonkeyPatch

from api.http.requests import client_network
from api.http.server import _with_mapped
from schemas.settings import Settings, split_list


@pytest.mark.parametrize(
    ("network", "spellings"),
    [
        ("192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201", "[::ffff:192.0.2.1]:443", "192.0.2.1:5000",
                       "64:ff9b::192.0.2.1", "64:FF9B::c000:201", "::ffff:0:192.0.2.1", "[64:ff9b::192.0.2.1]:443",
                       "0:0:0:0:0:ffff:192.0.2.1", '"192.0.2.1"', " 192.0.2.1 "]),
        ("2001:db8:1:2::/64", ["2001:db8:1:2::1", "2001:0DB8:1:2:ffff::", "[2001:db8:1:2::9]:8080", "[2001:db8:1:2::9]",
                               "2001:db8:1:2::1%eth0", "2001:db8:1:2:0:0:192.0.2.1"]),
        ("fe80::/64", ["fe80::1%eth0", "fe80::2", "[fe80::3%25eth1]:1"]),
        ("unknown", ["", "unknown", "_hidden", "192.0.2", "192.0.2.1.5", "192.0.2.256", "::1::", "[", "[]:1", "a" * 10_000,
                     "192.0.2.1, 192.0.2.2", "٣.٣.٣.٣", "%", "1:2"]),
    ],
)  # fmt: skip
def test_all_spellings_of_an_address_are_one_client(network: str, spellings: list[str]) -> None:
    assert {client_network(spelling) for spelling in spellings} == {network}


def test_the_next_network_is_another_client() -> None:
    assert client_network("2001:db8:1:3::1") != client_network("2001:db8:1:2::1")
    assert client_network("::ffff:192.0.2.2") != client_network("::ffff:192.0.2.1")


def test_the_next_prefix_has_no_ipv4_address_in_it() -> None:
    assert client_network("64:ff9b:1::192.0.2.1") == "64:ff9b:1::/64"
    assert client_network("::fffe:192.0.2.1") == client_network("::192.0.2.1") == "::/64"


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("10.0.0.5/8", "write 10.0.0.0/8 for the whole network, or 10.0.0.5 for the one address"),
        ("192.0.2.0/24, 10.0.0.5/8", "write 10.0.0.0/8 "),
        ("10.0.0.5/255.0.0.0", "write 10.0.0.0/8 "),
        ("2001:db8::1/64", "write 2001:db8::/64 for the whole network, or 2001:db8::1 "),
        ("nginx", "nginx is neither an address nor a network"),
        ("10.0.0.5:80", "neither"),
        ("10.0.0", "neither"),
        ("10.0.0.0/33", "neither"),
        ("/8", "neither"),
        ("10.0.0.1 10.0.0.2", "neither"),
        ("*,10.0.0.1", "write it alone"),
    ],
)
def test_a_proxy_that_nobody_would_trust_is_refused_at_the_start(value: str, advice: str, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    with pytest.raises(ValidationError, match="trusted_proxies") as refused:
        Settings(database_url="postgresql://nobody@127.0.0.1/nothing", secret_key=SecretStr("sixteen characters"))
    assert advice in str(refused.value)


@pytest.mark.parametrize("value", ["", "*", "10.0.0.5", "10.0.0.0/8", " 10.0.0.5 , 2001:db8::/32,::1,", "0.0.0.0/0", ","])
def test_addresses_and_networks_are_accepted(value: str, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    known = Settings(database_url="postgresql://nobody@127.0.0.1/nothing", secret_key=SecretStr("sixteen characters"))
    assert split_list(known.trusted_proxies) == split_list(value)


def test_a_trusted_proxy_is_trusted_on_a_socket_for_both_versions() -> None:
    assert _with_mapped("10.0.0.1, 192.0.2.0/24,2001:db8::1") == (
        "10.0.0.1,192.0.2.0/24,2001:db8::1,::ffff:10.0.0.1/128,::ffff:192.0.2.0/120"
    )
    assert _with_mapped("") == "" and _with_mapped("*") == "*"

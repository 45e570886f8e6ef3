"""The values of settings: where they come from and what they must be. A function that checks one returns it as it is stored, or
raises ValueError with what is right; schemas/settings.py names the settings that it is for."""

import os
import re
from collections.abc import Iterable
from datetime import time
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr


def from_environment(names: Iterable[str]) -> dict[str, str]:
    """The settings of these names that are set in the environment, in any case. Empty variables count as not set."""
    # pydantic-settings does this too, but to import it takes a quarter of the time of a command
    found = {name.lower(): value for name, value in os.environ.items() if value}
    return {name: found[name] for name in names if name in found}


def base_url(value: str) -> str:
    """A URL below which paths are added: with a slash at its end."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?", value):
        raise ValueError("must be a URL such as https://slack.com/api/")
    return value.rstrip("/") + "/"


def keys(value: SecretStr) -> SecretStr:
    """A comma-separated list of keys, each of which is long enough."""
    if any(len(key.strip()) < 16 for key in value.get_secret_value().split(",")):
        raise ValueError("each key of the list must have 16 characters or more")
    return value


def proxies(value: str) -> str:
    """A comma-separated list of addresses and networks; `*` alone means all."""
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    if "*" in entries and len(entries) > 1:
        raise ValueError("* trusts every address; write it alone, or leave it out")
    for entry in entries:
        if entry != "*":
            _check_proxy(entry)
    return ",".join(entries)


def amqp_urls(value: str) -> list[str]:
    """The URLs of AMQP_URL, which has commas or spaces between them. Raises ValueError, without any part of a password."""
    urls = [url.rstrip(" ,;\t\n") for url in re.split(r"[,;\s](?=amqps?://)", value.strip())]
    if not all(url.startswith(("amqp://", "amqps://")) for url in urls):
        raise ValueError("each URL must begin with amqp:// or amqps://")
    for url in urls:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError("host and port cannot be read; in a password, write %2F for /, %23 for #, %3F for ?") from None
        if parts.username is not None and parts.password is None:
            raise ValueError("a user needs a password")
    return urls


def api_urls(value: SecretStr | None) -> SecretStr | None:
    """A comma-separated list of URLs, each with a user and a password. The error contains no part of them."""
    for url in map(str.strip, value.get_secret_value().split(",") if value is not None else ()):
        try:
            parts = urlsplit(url)
            is_right = parts.scheme in ("http", "https") and bool(parts.hostname and parts.username and parts.password)
            is_right = is_right and (parts.port or 1) > 0
        except ValueError:
            is_right = False
        if not is_right:
            raise ValueError("each URL must be like https://user:password@host:15671; a password has %2F for / and %2C for ,")
    return value


def with_user_pool(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of IDENTITY=cognito, with those that follow from the user pool's id: the issuer and the URL of the keys.
    Raises ValueError if a required setting is missing."""
    missing = [name for name in ("cognito_user_pool_id", "auth_client_ids") if not values.get(name)]
    if missing:
        raise ValueError(f"IDENTITY=cognito needs {' and '.join(missing).upper()}")
    clients = [client.strip() for client in str(values["auth_client_ids"]).split(",")]
    if (client := values.get("console_client_id")) and client not in clients:
        raise ValueError("CONSOLE_CLIENT_ID must be one of AUTH_CLIENT_IDS")
    pool = str(values["cognito_user_pool_id"])
    issuer = values.get("auth_issuer") or f"https://cognito-idp.{pool.partition('_')[0]}.amazonaws.com/{pool}"
    jwks_url = f"{issuer}/.well-known/jwks.json"
    return {"internal_client_ids": "", "auth_jwks_url": jwks_url} | values | {"auth_issuer": issuer}


def _check_proxy(entry: str) -> None:
    """Raises ValueError for anything but an address or a network. uvicorn would trust nobody, without a
    warning."""
    try:
        network = ip_network(entry, strict=False) if "/" in entry else ip_network(ip_address(entry))
    except ValueError:
        raise ValueError(
            f"{entry} is neither an address nor a network; write addresses and networks, such as 10.0.0.5,10.0.0.0/8, or *"
        ) from None
    try:
        ip_network(entry)
    except ValueError:
        raise ValueError(
            f"{entry} is an address inside a network; write {network} for the whole network, or {entry.partition('/')[0]} for "
            "the one address"
        ) from None


def time_zone(value: str) -> str:
    """The name of a time zone."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("must be a time zone of the tz database, such as Europe/Berlin") from error
    return value


def time_of_day(value: str) -> str:
    """A time of day in hours and minutes, or `off`."""
    if value != "off" and not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError("must be a time of day such as 09:00, or off")
    return value


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def working_days(value: str) -> str:
    """Days of the week, as `weekdays` reads them."""
    weekdays(value)
    return value


def weekdays(value: str) -> list[int]:
    """Days and ranges of days, such as `mon-thu,sat`, as numbers: 1 is Monday. A range may go over Sunday: `sun-thu`. Raises
    ValueError."""
    found = set()
    for part in value.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS or part.endswith("-"):
            raise ValueError("must be days of the week such as mon-fri, or mon,wed,fri")
        start, end = DAYS.index(first), DAYS.index(last or first)
        found |= {(start + n) % 7 + 1 for n in range((end - start) % 7 + 1)}
    return sorted(found)


def working_hours(value: str) -> str:
    """The start and the end of a working day, as `time_span` reads them."""
    time_span(value)
    return value


def time_span(value: str) -> tuple[time, time]:
    """Two times of day, such as `09:00-17:00`, the later one last. Raises ValueError."""
    first, _, last = value.replace(" ", "").partition("-")
    if "off" not in (first, last):
        try:
            start, end = time.fromisoformat(time_of_day(first)), time.fromisoformat(time_of_day(last))
        except ValueError:
            start, end = time(), time()
        if start < end:
            return start, end
    raise ValueError("must be the start and the end of a working day, on the same day, such as 09:00-17:00")

"""Asking an API process what it finds, over HTTP: for hosts without a `./stint up`, as with systemd or in containers."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

ANSWER_SECONDS = 40.0  # it answers within 25, and a busy host is slower
MAX_BYTES = 10_000_000


class NotAsked(Exception):
    """Why the API has not answered what it finds: the end of a sentence, without a full stop."""


def known_url() -> str | None:
    """The API's URL in the settings of this shell, or None."""
    return os.environ.get("STINT_URL") or os.environ.get("PUBLIC_URL") or None


def ask_api(url: str) -> Json:
    """The answer of the API at the URL to GET /diagnosis. Raises NotAsked."""
    from schemas.diagnosis.report import tokens

    key = os.environ.get("SECRET_KEY", "").strip(", ")
    if not key:
        raise NotAsked("SECRET_KEY, with which the question is signed, is not set here")
    with _in_words(), _answer_of(url, tokens.sign(key, now=time.time())) as answer:
        body = answer.read(MAX_BYTES)
        if answer.status != 200:
            raise NotAsked(_refusal(answer, body))
        found = json.loads(body)
    if not isinstance(found, dict) or not {"status", "findings", "process"} <= found.keys():
        raise NotAsked("what answers there is no API of this version of Stint")
    return found


@contextmanager
def _answer_of(url: str, token: str) -> Iterator[HTTPResponse]:
    """Raises OSError, HTTPException or ValueError, and NotAsked for a URL without a host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotAsked("this is no URL of http or https")
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = make(parts.hostname, parts.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/diagnosis", headers={"Authorization": f"Bearer {token}"})
        yield connection.getresponse()
    finally:
        connection.close()


@contextmanager
def _in_words() -> Iterator[None]:
    """Raises NotAsked for the errors of a request."""
    try:
        yield
    except TimeoutError as error:
        raise NotAsked(f"it has not answered within {ANSWER_SECONDS:g} s") from error
    except OSError as error:  # also those of TLS, whose text says what is wrong with the certificate
        raise NotAsked(f"it does not answer: {error.strerror or error}".rstrip(".")) from error
    except HTTPException as error:
        raise NotAsked(f"what answers there is no HTTP: {type(error).__name__}") from error
    except ValueError as error:
        raise NotAsked("what answers there is no API of Stint, or the URL is none") from error


def _refusal(answer: HTTPResponse, body: bytes) -> str:
    """Why it was refused, by the status, and by what Stint says."""
    if answer.status == 404:
        return "what answers there is no API of this version of Stint"
    if location := answer.getheader("Location"):
        return f"it leads to {location}: name that URL"
    try:
        detail = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = "it is no answer of Stint"
    if answer.status == 401 and "SECRET_KEY" in detail:
        return "it has another SECRET_KEY than this shell"
    return f"it answers {answer.status}: {detail}".rstrip(".")

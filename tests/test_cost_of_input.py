"""Each parser that reads bytes from outside takes CPU time in proportion to their number, whatever they are. Regular
expressions have tests of their own: tests/test_regexes.py.
"""

import base64
import io
import json
import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from litestar.testing import RequestFactory
from pydantic import TypeAdapter

from api.auth.tokens import bearer_token
from api.http.limits.json_text import DEFAULT_BOUNDS, FORM_BOUNDS, Bounds, parse_json
from api.http.limits.validation import _decode
from api.http.problems import BadRequest
from api.http.requests import MAX_BODY_BYTES, _has_invalid_path, client_key
from api.slack import routes
from schemas.base import Day, Instant
from schemas.customers.leads import NewLead
from schemas.customers.tasks import NewTask
from schemas.email_addresses import Email
from schemas.errors import Invalid
from schemas.hours.batch_approval import BatchApproval
from schemas.identity.sign_in_codes import CodeRequest
from schemas.logs import JsonHandler
from schemas.mail import smtp, templates
from schemas.masking import MASK, Redactor, leftover_mask
from schemas.messages import parse_body
from schemas.postgres import listing, sync_start
from schemas.settings import Settings
from schemas.slack import client as slack
from schemas.slack.payloads import EVENT, INTERACTION, FormOrigin
from schemas.slack.reading.mrkdwn import Names, to_text
from schemas.slack.typed import parser
from tests.support.cpu import assert_linear, pumps
from tests.support.sizes import FULL

UNBOUNDED = Bounds(values=10**9, fields=10**9)
SETTINGS = Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing", secret_key="x" * 32, slack_signing_secret="y" * 32)
REDACTOR = Redactor(SETTINGS)
REQUEST = RequestFactory().get("/")
LOGGER = logging.getLogger("tests.cost")

# words that some parser treats specially
WORDS = (
    *(
        "a",
        "0",
        "9",
        "-",
        "+",
        ".",
        "/",
        "\\",
        "%",
        "%41",
        "%zz",
        "&",
        "&a=",
        "=",
        ";",
        ",",
        ":",
        "::",
        "@",
        "a@",
        "@a.",
        "xn--",
        "é",
        "\u0301",
    ),
    *(
        "\u202e",
        "\ufdfa",
        "ß",
        "İ",
        " ",
        "\t",
        "\r\n",
        "\n",
        '"',
        '""',
        "'",
        "<",
        ">",
        "<a>",
        "[",
        "]",
        "{",
        "}",
        "[]",
        '{"a":',
        '"a",',
        "1,",
        "1e9",
        "0.",
    ),
    *(
        "null",
        "NaN",
        "\\u0000",
        "\\ud800",
        "\\\\",
        '\\"',
        "eyJ",
        "e30",
        "T",
        "Z",
        "2026-",
        "T00:00:00",
        "+00:00",
        "Bearer ",
        "<https://",
        "|",
        "&lt;",
        "&amp;",
    ),
    *("secret=", 'secret="', "://a:", "-----BEGIN PRIVATE KEY-----"),
)


def model(kind: Any, field: str | None = None) -> Callable[[str], object]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return lambda text: adapter.validate_python(text if field is None else {field: text})


def logged(text: str) -> None:
    record = LOGGER.makeRecord("stint", logging.INFO, "", 0, "%s", (text,), None, extra={"path": text})
    JsonHandler(io.BytesIO(), "api").emit(record)


def composed(text: str) -> bytes:
    mail = templates.lead(
        to="firm@example.com",
        name=text[:200],
        email="jo@example.com",
        reply_to="jo@example.com",
        facts={"Message": text, text[:100]: text},
    )
    return smtp.compose(mail, message_id=uuid4(), sender="Stint <stint@example.com>").as_bytes()


def from_client(host: str) -> str:
    REQUEST.scope["client"] = (host, 1)
    return client_key(REQUEST)


def cursor_of(text: str) -> object:
    cursor = base64.urlsafe_b64encode(json.dumps(["tasks.created_at", text, text, text]).encode()).decode()
    return listing.decode_cursor(cursor, "tasks", listing.Order("created_at", "timestamptz"))


PARSERS: dict[str, Callable[[str], object]] = {
    "JSON": lambda text: parse_json(text.encode(), UNBOUNDED),
    "JSON in its bounds": lambda text: parse_json(text.encode()),
    "a JSON text": lambda text: parse_json(json.dumps({"text": text}).encode()),
    "a JSON number": lambda text: parse_json(b'{"a":1' + text.encode() + b"}"),
    "Slack's form": lambda text: routes._parse_form(text.encode(), routes.FORM),
    "Slack's form, one field": lambda text: routes._parse_form(b"payload=" + text.encode(), routes.FORM),
    "Slack's text": lambda text: to_text(text, Names()),
    "what is typed in Slack": parser.parse,
    "Slack's metadata": FormOrigin.parse,
    "Slack's event": lambda text: EVENT.validate_python({"type": text, "event_id": text, "event": {"type": text}}),
    "Slack's interaction": lambda text: INTERACTION.validate_python({"type": "view_closed", "team": {"domain": text}}),
    "Slack's response_url": lambda text: slack.is_response_url("https://hooks.slack.com/" + text, SETTINGS),
    "Slack's signature": lambda text: slack.has_valid_signature(b"", timestamp=text, signature=f"v0={text}", settings=SETTINGS),
    "Authorization": lambda text: bearer_token([(b"authorization", f"Bearer {text}".encode("latin-1", "replace"))]),
    "a path": lambda text: _has_invalid_path({"raw_path": text.encode(), "query_string": b""}),
    "a query": lambda text: _has_invalid_path({"raw_path": b"/", "query_string": text.encode()}),
    "a client's address": from_client,
    "an e-mail address": model(Email),
    "an e-mail address in a body": model(CodeRequest, "email"),
    "an address for mail": lambda text: smtp._address(text),
    "a time": model(Instant),
    "a time's fraction": lambda text: model(Instant)("2026-11-23T09:30:00." + text),
    "a day": model(Day),
    "a time to sync from": sync_start._parse_time,
    "a cursor": lambda text: listing.cursor_tag(text),
    "a cursor's parts": cursor_of,
    "a task": lambda text: NewTask.model_validate({"title": text, "description": text, "customerId": text, "dueDate": text}),
    "a lead": lambda text: NewLead.model_validate({"name": text, "email": "a@b.example", "message": text, "extra": text}),
    "a message": lambda text: parse_body("send_mail", {"to": text, "subject": text, "paragraphs": [text]}),
    "a mail": composed,
    "a log line": logged,
    "masking": REDACTOR.text,
    "masking JSON": lambda text: REDACTOR.json({"body": [text, {text: text}]}),
    "restoring masks": lambda text: REDACTOR.restore({"a": [text + MASK]}, {"a": [text]}),
}  # fmt: skip


# they take a microsecond for each character, whichever it is
SLOW = {"a mail", "masking", "masking JSON", "restoring masks"}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_linear_time(name: str) -> None:
    for make in pumps(*(WORDS[:: 8 if FULL else 24] if name in SLOW else WORDS)):
        assert_linear(PARSERS[name], make, longest=32_768, cheap=0.005)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The least of three runs."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)


def keys(number: int) -> bytes:
    return json.dumps({f"k{index}": index for index in range(number)}).encode()


COSTLY = {
    "28,000 keys": keys(28_000)[:-1] + b"}",
    "arrays": b"[" + b"[]," * 80_000 + b"[]]",
    "objects": b"[" + b"{}," * 80_000 + b"{}]",
    "numbers": b"[" + b"1," * 120_000 + b"1]",
    "fractions": b"[" + b"1.5," * 60_000 + b"1]",
    "texts": b"[" + b'"",' * 80_000 + b'""]',
    "digits": b'{"a":' + b"1" * 250_000 + b"}",
    "digits of a fraction": b'{"a":0.' + b"1" * 250_000 + b"}",
    "nesting": b"[" * 120_000 + b"]" * 120_000,
    "nested objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "a quote that is not closed": b'{"a":"' + b'\\"' * 120_000,
    "escapes": b'{"a":"' + b"\\u0061" * 40_000 + b'"}',
    "surrogates": b'{"a":"' + b"\\ud83d\\ude00" * 20_000 + b'"}',
}


@pytest.mark.parametrize("kind", COSTLY)
@pytest.mark.parametrize("bounds", [DEFAULT_BOUNDS, FORM_BOUNDS])
def test_the_largest_body_of_json_costs_milliseconds(kind: str, bounds: Bounds) -> None:
    body = COSTLY[kind][:MAX_BODY_BYTES]

    def parse() -> None:
        try:
            parse_json(body, bounds)
        except BadRequest as error:
            assert error.status == 400

    assert cpu_seconds(parse) < 0.03


def test_more_values_or_fields_than_a_route_needs_are_refused() -> None:
    for number, bounds in ((101, DEFAULT_BOUNDS), (21, FORM_BOUNDS)):
        with pytest.raises(BadRequest):
            parse_json(keys(number), bounds)
    assert len(parse_json(keys(100))) == 100
    for number, bounds in ((2_000, DEFAULT_BOUNDS), (20, FORM_BOUNDS)):
        with pytest.raises(BadRequest):
            parse_json(json.dumps([0] * number).encode(), bounds)
        assert len(parse_json(json.dumps([0] * (number - 1)).encode(), bounds)) == number - 1  # the array is a value, too
    commas = json.dumps({"message": "a, [b], {c}: " * 10_000}).encode()
    assert len(parse_json(commas)["message"]) == 130_000  # what stands in a text is not a value


def test_a_list_of_thousands_of_errors_is_not_built() -> None:
    bills = {"bills": [{"id": "x", "version": 0, "more": 1} for _ in range(1_000)]}

    def decode() -> str:
        with pytest.raises(Invalid) as raised:
            _decode(BatchApproval, bills)
        return raised.value.detail

    assert "3,000 mistakes" in decode()
    assert cpu_seconds(decode) < 0.02


def test_a_mask_is_looked_for_in_linear_time() -> None:
    before = [f"text {number}" for number in range(20_000)]
    edited = [f"{text}{MASK}" for text in reversed(before)]

    assert leftover_mask(edited, [*edited, *before]) is None
    assert leftover_mask([[text] for text in edited], before) == "body.0.0"
    assert cpu_seconds(lambda: leftover_mask(edited, [*edited, *before])) < 0.2


def test_an_address_is_parsed_with_its_name() -> None:
    for text, name, address in (
        ("jo@example.com", "", "jo@example.com"),
        ("Jo <jo@example.com>", "Jo", "jo@example.com"),
        ('"Jo, Ann"   <jo@example.com>', "Jo, Ann", "jo@example.com"),
        ("<jo@example.com>", "", "jo@example.com"),
    ):
        found = smtp._address(text)
        assert (found.display_name, found.addr_spec) == (name, address)

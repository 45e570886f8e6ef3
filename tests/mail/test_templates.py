"""No text of a user becomes a link in a mail of the firm."""

import inspect
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from schemas.mail import templates
from schemas.mail.templates import OWN, without_links
from schemas.messages import SendMail

# what mail programs make links of
LINK = re.compile(r"(?i)[a-z][a-z0-9+.-]*://|\bwww\.|[\w-]+[.\u3002\uff0e\uff61][^\W\d_]{2,}|\b\d+\.\d+\.\d+\.\d+")
HOSTILE = [
    "evil.com", "Ada (https://evil.example/a?b=c)", "www.evil", "HTTP://1.2.3.4/login", "1.2.3.4", "pay at evil.co.uk now",
    "jo@evil.com", "ftp://x", "evil\u3002com", "evil.\u200bcom", "bücher.example", "evil.xn--p1ai", "e\u00advil.com",
    "пример.рф", "moc.live\u202e.org", "a.b.c.evil.com/path", "https:// evil.com", "slack://channel?id=1",
]  # fmt: skip
TEMPLATES = [
    function
    for name, function in vars(templates).items()
    if inspect.isfunction(function) and not name.startswith("_") and inspect.signature(function).return_annotation is SendMail
]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: str(template.__name__))
def test_a_template_has_no_links_but_its_own(template: Callable[..., SendMail]) -> None:
    parameters = inspect.signature(template).parameters
    own = {"to": "jo@acme.example", "reply_to": "ada@x.example", "sign_in_url": "https://app.example", "frame": "a.py:1"}
    for text in HOSTILE:
        values: dict[str, Any] = {name: own.get(name, "x") if name in OWN else text for name in parameters}
        values |= {name: 5 for name in ("minutes",) if name in parameters}
        values |= {name: {text: text} for name in ("facts",) if name in parameters}
        values |= {name: uuid4() for name in ("message_id",) if name in parameters}
        mail = template(**values)
        shown = " ".join([mail.subject, *mail.paragraphs])
        for trusted in (*own.values(), "docs/operations.md", "./stint"):
            shown = shown.replace(trusted, "")
        assert not LINK.search(shown), f"{text!r}: {LINK.search(shown)}"
        assert mail.to == "jo@acme.example" and mail.reply_to in (None, "ada@x.example")


def test_the_text_stays_readable() -> None:
    assert without_links("Ada (https://evil.example/a)") == "Ada (https[:]//evil[.]example/a)"
    assert without_links("evil.\u200bcom") == "evil[.]com"
    for text in (
        "Dr. Ada Park",
        "J. R. Smith",
        "e. g. this",
        "3.5 hours",
        "Wait... what?",
        "10:30",
        "v1.2",
        "Smith & Sons Ltd.",
    ):
        assert without_links(text) == text


def test_every_template_is_marked() -> None:
    assert len(TEMPLATES) >= 8
    assert [template.__name__ for template in TEMPLATES if not hasattr(template, "__wrapped__")] == []

"""E-mail addresses: which are valid, and when two are the same.

Two addresses are the same if they differ only in the case of A to Z. Nothing else is folded, unlike in names
(schemas/names.py): mail servers and identity providers tell other characters apart, and an address that only looks like a
user's must not get that user's access (docs/decisions/0031-email-addresses.md). `email_key` here and the SQL function
`email_key` (schemas/migrations/0014_email_keys.sql) are the same rule.
"""

from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from schemas.base import SchemaKeyword

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

MAX_LENGTH = 320
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@cache
def _accept_special_domains() -> None:
    """Domains such as .local and .test: internal networks and tests use them."""
    from email_validator import SPECIAL_USE_DOMAIN_NAMES

    SPECIAL_USE_DOMAIN_NAMES.clear()


def email_address(text: str) -> "ValidatedEmail":
    """The parts of an e-mail address. Raises ValueError for an invalid address, and for one whose local part is not ASCII: not
    every server accepts mail to it."""
    from email_validator import validate_email  # importing it takes a while, and most commands need none

    _accept_special_domains()
    return validate_email(
        text, check_deliverability=False, globally_deliverable=False, allow_quoted_local=True, allow_smtputf8=False
    )


def email_key(address: str) -> str:
    """The same for two addresses that are the same. str.lower() would make more of them the same, such as K and the Kelvin
    sign."""
    return address.translate(_LOWER)


def one_spelling(address: str) -> str:
    """The address with its domain spelled as `Email` stores it, because a domain has two spellings (xn--mnchen-3ya.de and
    münchen.de). For addresses that Slack, Xero, a user pool or a command names. As it is if the domain is not valid."""
    local, at, domain = address.rpartition("@")
    if not at or len(address) > MAX_LENGTH or (domain.isascii() and "xn--" not in domain.lower()):
        return address
    try:
        return f"{local}@{email_address(f'jo@{domain}').domain}"
    except ValueError:
        return address


def in_ascii(address: str) -> str:
    """The address with the other spelling of its domain, if it is not ASCII."""
    try:
        return address if address.isascii() else email_address(address).ascii_email or address
    except ValueError:
        return address


def _normalized(value: str) -> str:
    try:
        return email_address(value).normalized
    except ValueError:
        raise ValueError(_fault(value)) from None


def _fault(text: str) -> str:
    """Which part of an address is not valid, in words that do not depend on the library."""
    local, at, domain = text.rpartition("@")
    if not at:
        return "it has no @"
    if not local or not domain:
        return "something is needed before and after the @"
    try:
        email_address(f"jo@{domain}")
    except ValueError:
        return "what follows the @ is not a domain that mail can be sent to"
    if not local.isascii():
        return "what precedes the @ may have only ASCII characters: not every mail server accepts them"
    return "what precedes the @ is not valid, or the whole address is too long"


# An e-mail address; the domain is normalized to lower case and to Unicode.
Email = Annotated[
    str,
    Field(max_length=MAX_LENGTH, examples=["jo@acme.example"]),
    SchemaKeyword("format", "email"),
    AfterValidator(_normalized),
]

"""E-mail addresses. Apart from the other shapes, since the rules of the Internet's names take a while to import."""

from typing import Annotated

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, ValidatedEmail, validate_email
from pydantic import AfterValidator, Field

from schemas.base import Documented

# Firms have networks with names that the Internet does not know, and everybody tests with such.
SPECIAL_USE_DOMAIN_NAMES.clear()


def email_address(text: str) -> ValidatedEmail:
    """The parts of an e-mail address. Raises EmailNotValidError for what is none, and for one whose local part goes beyond
    ASCII: not every server takes mail to it."""
    return validate_email(
        text, check_deliverability=False, globally_deliverable=False, allow_quoted_local=True, allow_smtputf8=False
    )


def _normalized(value: str) -> str:
    try:
        return email_address(value).normalized
    except EmailNotValidError as error:
        raise ValueError(f"this is no e-mail address: {str(error).rstrip('.')}") from None


# An e-mail address, its domain in lower case.
Email = Annotated[
    str,
    Field(max_length=320, examples=["jo@acme.example"]),
    Documented("format", "email"),
    AfterValidator(_normalized),
]

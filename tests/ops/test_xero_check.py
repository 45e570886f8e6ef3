"""What `./stint xero check` prints for a person."""

from typing import Any

import pytest

from ops.xero import check
from tests.support.installation import CHECKOUT

PAGE = (CHECKOUT / "docs/xero.md").read_text()


def item(day: str, result: str, cause: str, minutes: int | None, in_xero: int | None, bill: str) -> dict[str, Any]:
    people = {"userName": "Jo", "customerName": "Acme"}
    return {"date": day, "result": result, "cause": cause, "minutes": minutes, "xeroMinutes": in_xero, "billId": bill} | people


def total(count: int, minutes: int, in_xero: int) -> dict[str, int]:
    return {"count": count, "minutes": minutes, "xeroMinutes": in_xero}


COMPARED: dict[str, Any] = {
    "items": [
        item("2026-03-03", "too_many", "stray", None, 7, "3f6b…"),
        item("2026-03-02", "differs", "changed", 60, 5, "8c0e…"),
        item("2026-03-01", "missing", "deleted", 60, None, "51d2…"),
        item("2026-02-27", "agrees", "", 60, 60, "77aa…"),
    ],
    "totals": {
        "all": total(122, 7260, 7097),
        "agrees": total(118, 7080, 7080),
        "accepted": total(1, 60, 5),
        "differs": total(1, 60, 5),
        "missing": total(1, 60, 0),
        "tooMany": total(1, 0, 7),
    },
    "projects": [{"readAt": "2026-03-05T09:12:44.120355Z"}] * 4,
    "allAgree": False,
}


def test_docs_xero_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    check._show(COMPARED)
    printed = capsys.readouterr().out
    assert f"```\n{printed}```\n" in PAGE, printed


def test_a_project_that_was_never_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    check._show(COMPARED | {"projects": [{"readAt": None}, {"readAt": "2026-03-05T09:12:44.120355Z"}]})
    assert "projects in Xero: 2; some were never read" in capsys.readouterr().out.splitlines()

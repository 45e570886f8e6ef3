"""Which tests are unit tests."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.support.unit_tests import is_unit


@dataclass(frozen=True)
class Item:
    """Of a test, what decides."""

    marker: str = ""
    fixturenames: tuple[str, ...] = ()

    def get_closest_marker(self, name: str) -> str | None:
        return name if name == self.marker else None


def test_what_needs_all_or_a_server_is_no_unit_test() -> None:
    others: list[Any] = [Item(marker) for marker in ("slow", "browser", "processes")]
    others += [Item(fixturenames=("tmp_path", name)) for name in ("database_url", "servers")]
    assert not any(map(is_unit, others))
    assert is_unit(cast(pytest.Item, Item("exclusive", ("tmp_path",))))

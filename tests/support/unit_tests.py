"""Which tests are unit tests: those that need no server and no process, and are in the common run."""

import pytest

NO_UNIT_TESTS = ("slow", "browser", "processes")  # markers
SERVERS = {"database_url", "servers"}  # fixtures


def is_unit(item: pytest.Item) -> bool:
    marked = any(map(item.get_closest_marker, NO_UNIT_TESTS))
    return not marked and SERVERS.isdisjoint(fixtures_of(item))


def fixtures_of(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))

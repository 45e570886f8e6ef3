"""Which tests are unit tests. `./stint check` runs them, without --all, and `.ci/run` then runs all others with --all. So a
test that needs --all is none of them: neither step would run it."""

import pytest

NO_UNIT_TESTS = ("slow", "browser", "processes")  # markers
SERVERS = {"database_url", "servers"}  # fixtures


def is_unit(item: pytest.Item) -> bool:
    marked = any(map(item.get_closest_marker, NO_UNIT_TESTS))
    return not marked and SERVERS.isdisjoint(fixtures_of(item))


def fixtures_of(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))

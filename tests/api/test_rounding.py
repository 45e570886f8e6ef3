"""Billed minutes: seconds rounded by the customer's rule."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as examples
from hypothesis import strategies as st

from tests.support.given import Given
from tests.support.installation import Installation

INCREMENTS = [1, 5, 6, 10, 15, 30]
MODES = ["nearest", "up"]


def minutes_of(seconds: int, increment: int, mode: str) -> int:
    """The expected minutes, by exact fractions; halves round up."""
    steps = Fraction(seconds, increment * 60)
    return increment * (ceil(steps) if mode == "up" else floor(steps + Fraction(1, 2)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("increment", INCREMENTS)
def test_a_bill_is_rounded_by_its_customers_rule(increment: int, mode: str, given: Given) -> None:
    by = given.person()
    customer = given.customer(by, rounding={"increment": increment, "mode": mode})
    assert customer["rounding"] == {"increment": increment, "mode": mode}
    entry = given.stopped(by, given.task(by, customer))["entry"]
    for seconds in (0, 1, increment * 30 - 1, increment * 30, increment * 60, increment * 60 + 1):
        by.patch(f"/api/time-entries/{entry['id']}", {"duration": seconds})
        given.settled()
        bill = by.get(f"/api/time-bills/{entry['timeBillId']}")
        assert (bill["seconds"], bill["minutes"]) == (seconds, minutes_of(seconds, increment, mode))


def test_the_defaults_of_a_rounding_rule(given: Given) -> None:
    by = given.person()
    assert given.customer(by, rounding={"increment": 15})["rounding"] == {"increment": 15, "mode": "nearest"}
    assert given.customer(by, rounding={"mode": "up"})["rounding"] == {"increment": 1, "mode": "up"}
    assert given.customer(by, rounding={})["rounding"] == {"increment": 1, "mode": "nearest"}


CASES = st.tuples(st.integers(0, 10**9) | st.integers(0, 7200), st.sampled_from(INCREMENTS), st.sampled_from(MODES))


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck), database=None)
@examples(cases=st.lists(CASES, min_size=200, max_size=200))
def test_minutes_agree_with_the_rule_for_any_seconds(stint: Installation, cases: list[tuple[int, int, str]]) -> None:
    columns = [list(column) for column in zip(*cases, strict=True)]
    computed = stint.rows(
        """
        SELECT billed_minutes(s, i, m)
        FROM unnest(%s::bigint[], %s::smallint[], %s::text[]) WITH ORDINALITY AS given (s, i, m, n) ORDER BY n
        """,
        *columns,
    )
    assert [row[0] for row in computed] == [minutes_of(*case) for case in cases]

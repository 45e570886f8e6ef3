"""The list of mutants is valid: each can be applied, and names a test that is there and a promise of docs/guarantees.md."""

from dataclasses import replace

import pytest

from tests.mutants import __main__ as runner
from tests.mutants.catalogue import Mutant, load, problems
from tests.test_guarantees import ROWS

MUTANTS = load()
PROMISES = [row.strip("| ").split(" | ")[0] for row in ROWS]


def test_each_mutant_can_be_applied_and_names_a_test_and_a_promise_that_are_there() -> None:
    assert list(problems(MUTANTS, PROMISES)) == []


EXAMPLE = next(mutant for mutant in MUTANTS if mutant.promise and mutant.test)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (replace(EXAMPLE, text="no such text"), "update the text of mutant .* it does not occur in "),
        (replace(EXAMPLE, text="a"), "update the text of mutant .* it occurs .* times in "),
        (replace(EXAMPLE, becomes=EXAMPLE.text), "it changes nothing"),
        (replace(EXAMPLE, becomes="("), "would not be Python any more"),
        (replace(EXAMPLE, file="schemas/gone.py"), "update the file of mutant .* there is no schemas/gone.py"),
        (replace(EXAMPLE, test="tests/test_imports.py::test_gone"), "update the test of mutant .* there is no test "),
        (replace(EXAMPLE, promise="All is well"), "update the promise of mutant "),
        (replace(EXAMPLE, test=""), "give mutant .* either a test, or `equivalent` with the reason"),
    ],
)
def test_what_is_wrong_with_a_mutant_is_said_with_what_to_do(broken: Mutant, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        assert [broken.name, *problems([broken], PROMISES)] == [broken.name]


def test_two_mutants_have_different_names() -> None:
    assert list(problems([EXAMPLE, EXAMPLE], PROMISES)) == [
        f"two mutants are called {EXAMPLE.name}: rename one in tests/mutants/*.toml"
    ]


def test_after_some_days_the_samples_have_had_each_mutant_whose_test_is_quick() -> None:
    quick = {mutant.name for mutant in MUTANTS if mutant.is_quick}
    days = -(-len(quick) // 6)
    assert {mutant.name for day in range(days) for mutant in runner.sample(MUTANTS, 6, 739_000 + day)} == quick


def test_names_are_selected_also_by_their_beginning() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert [mutant.name for mutant in runner.select(MUTANTS, [names[3], "lease-*"])] == [
        name for name in names if name == names[3] or name.startswith("lease-")
    ]


@pytest.mark.parametrize("promise", PROMISES, ids=[promise[:60] for promise in PROMISES])
def test_each_promise_has_a_mutant_that_breaks_it(promise: str) -> None:
    breaking = [mutant.name for mutant in MUTANTS if mutant.promise and promise.startswith(mutant.promise) and mutant.test]
    assert breaking, (
        f"no mutant breaks the promise {promise!r} of docs/guarantees.md: add one to tests/mutants/*.toml, with a test that "
        "fails with it (CONTRIBUTING.md, Add a mutant)"
    )

"""The mutants: small changes that would cost money, data or privacy, one table for each in the TOML files of this directory.

    [[mutant]]
    name = "approve-ignores-version"       # unique
    file = "schemas/hours/bill_approval.py"
    text = '''AND version = %(version)s'''  # occurs exactly once in the file
    becomes = ''''''
    promise = "Approve-all approves nothing"  # the beginning of a row of docs/guarantees.md, if it breaks one
    test = "tests/api/test_approve_all.py::test_…"  # must fail with the change; the cheapest that does
    why = "…"                               # what goes wrong, where that is not obvious
    long = true                             # the test needs more than 20 seconds to fail: not in the daily sample

A change that no test can notice, because the behaviour stays the same, has `equivalent` with the reason instead of `test`.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FIELDS = {"name", "file", "text", "becomes", "promise", "test", "why", "long", "equivalent"}


@dataclass(frozen=True)
class Mutant:
    """One change. `source`: the file of this directory that has it. Either `test` or `equivalent` is given."""

    source: str
    name: str
    file: str
    text: str
    becomes: str
    promise: str = ""
    test: str = ""
    why: str = ""
    long: bool = False
    equivalent: str = ""

    @property
    def where(self) -> str:
        return f"mutant {self.name} in tests/mutants/{self.source}"

    @property
    def is_slow(self) -> bool:
        """Whether its test runs only with --all."""
        path, _, name = self.test.partition("::")
        return _tests(CHECKOUT / path).get(name.partition("[")[0], False)

    @property
    def is_quick(self) -> bool:
        """Whether the sample may contain it."""
        return not (self.equivalent or self.long or self.is_slow)

    def applied(self, code: str) -> str:
        """The file's text with the change. Raises ValueError, which says what to do."""
        count = code.count(self.text)
        if not self.text or count != 1:
            found = "does not occur" if count == 0 else f"occurs {count} times"
            raise ValueError(
                f"update the text of {self.where}: it {found} in {self.file}. It must occur exactly once. If the code that it "
                "changes was removed, remove the mutant, unless it is the only one of its promise."
            )
        return code.replace(self.text, self.becomes)


def load() -> list[Mutant]:
    """All mutants, in the order of the files. Raises ValueError for a table with unknown or missing fields."""
    return [mutant for path in sorted(HERE.glob("*.toml")) for mutant in _read(path)]


def _read(path: Path) -> Iterator[Mutant]:
    for table in tomllib.loads(path.read_text()).get("mutant", []):
        values: dict[str, Any] = dict(table)
        if unknown := values.keys() - FIELDS:
            raise ValueError(
                f"tests/mutants/{path.name}: {values.get('name')} has unknown fields: {', '.join(sorted(unknown))}"
            )
        if missing := {"name", "file", "text", "becomes"} - values.keys():
            raise ValueError(f"tests/mutants/{path.name}: {values.get('name')} lacks {', '.join(sorted(missing))}")
        yield Mutant(path.name, **values)


def problems(mutants: list[Mutant], promises: list[str]) -> Iterator[str]:
    """What is wrong with the list, each as a sentence that says what to do."""
    names = [mutant.name for mutant in mutants]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two mutants are called {name}: rename one in tests/mutants/*.toml"
    for mutant in mutants:
        yield from _text_problems(mutant)
        yield from _test_problems(mutant)
        if mutant.promise and sum(row.startswith(mutant.promise) for row in promises) != 1:
            yield (
                f"update the promise of {mutant.where}: {mutant.promise!r} is not the beginning of exactly one row of "
                "docs/guarantees.md"
            )


def _text_problems(mutant: Mutant) -> Iterator[str]:
    path = CHECKOUT / mutant.file
    if not path.is_file():
        yield f"update the file of {mutant.where}: there is no {mutant.file}"
        return
    try:
        changed = mutant.applied(path.read_text())
    except ValueError as error:
        yield str(error)
        return
    if mutant.text == mutant.becomes:
        yield f"update {mutant.where}: it changes nothing"
    if path.suffix == ".py":
        try:
            ast.parse(changed)
        except SyntaxError as error:
            yield f"update {mutant.where}: {mutant.file} would not be Python any more: {error}"


def _test_problems(mutant: Mutant) -> Iterator[str]:
    if bool(mutant.test) == bool(mutant.equivalent):
        yield f"give {mutant.where} either a test, or `equivalent` with the reason"
        return
    if mutant.equivalent:
        return
    path, _, name = mutant.test.partition("::")
    if not (CHECKOUT / path).is_file() or name.partition("[")[0] not in _tests(CHECKOUT / path):
        yield f"update the test of {mutant.where}: there is no test {mutant.test}; name the cheapest one that fails with it"


@cache
def _tests(path: Path) -> dict[str, bool]:
    """The names of the tests in a file, and whether each is slow."""
    text = path.read_text()
    slow_module = re.search(r"^pytestmark = .*\bpytest\.mark\.slow\b", text, re.MULTILINE) is not None
    return {
        node.name: slow_module or any("pytest.mark.slow" in ast.unparse(mark) for mark in node.decorator_list)
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }

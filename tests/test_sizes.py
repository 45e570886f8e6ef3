"""Modules and functions stay small enough to read at once (docs/style.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).resolve().parents[1]
MODULE_LINES, MEDIAN_LINES, FUNCTION_LINES = 300, 120, 60
# an empty package has one line: it would make the median smaller than it is for a reader
EMPTY_LINES = 3


def modules() -> Iterator[tuple[Path, str]]:
    for folder in ("api", "actors", "ops", "schemas"):
        for path in sorted((CHECKOUT / folder).rglob("*.py")):
            yield path.relative_to(CHECKOUT), path.read_text()


def test_no_module_is_too_long() -> None:
    long = {str(path): lines for path, text in modules() if (lines := len(text.splitlines())) > MODULE_LINES}
    assert long == {}, f"at most {MODULE_LINES} lines: which subject could have a module of its own?"


def test_the_median_module_is_short() -> None:
    lines = [len(text.splitlines()) for _, text in modules()]
    assert median(length for length in lines if length > EMPTY_LINES) <= MEDIAN_LINES


def test_no_function_is_too_long() -> None:
    long = [
        f"{path}:{node.lineno}: {node.name}"
        for path, text in modules()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert long == [], f"at most {FUNCTION_LINES} lines: which step could have a name of its own?"

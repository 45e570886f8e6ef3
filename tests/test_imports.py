"""The house's rules about who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
DOORS = {
    "api": {"api", "schemas"},
    "actors": {"actors", "schemas"},
    "ops": {"ops", "schemas"},
    "schemas": {"schemas"},
}
ONLY_IN = {"litestar": "api", "uvicorn": "api", "dramatiq": "actors", "pika": "actors"}
MODULES = sorted(path for door in DOORS for path in (CHECKOUT / door).rglob("*.py"))


# each outside client library behind its own window
WINDOWS = {"aiosmtplib": "mail.py", "boto3": "cognito.py", "botocore": "cognito.py", "httpx": "jwks.py"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.lineno, node.module or ""


def test_there_are_modules_behind_every_door() -> None:
    assert {path.relative_to(CHECKOUT).parts[0] for path in MODULES} == set(DOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_door_imports_only_itself_and_the_ground_floor(path: Path) -> None:
    door = path.relative_to(CHECKOUT).parts[0]
    for line, name in imported(path):
        top = name.partition(".")[0]
        assert top not in DOORS or top in DOORS[door], f"{path}:{line}: {door} must not import {name}"
        assert ONLY_IN.get(top, door) == door, f"{path}:{line}: {top} is imported in {ONLY_IN[top]} only"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_client_library_is_imported_in_its_window_only(path: Path) -> None:
    for line, name in imported(path):
        window = WINDOWS.get(name.partition(".")[0])
        if window is not None and path.relative_to(CHECKOUT).parts[0] != "ops":
            assert path == CHECKOUT / "schemas" / "clients" / window, f"{path}:{line}: {name} belongs to {window}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_nothing_is_sent_past_the_ledger(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"send_with_options", "enqueue"}, f"{path}:{node.lineno}: put it into the ledger"
            if node.attr == "send":
                assert path.parts[-2] == "api", f"{path}:{node.lineno}: put it into the ledger"

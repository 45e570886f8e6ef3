"""An `await` in a `finally` may be cancelled itself. So what it gives back is shielded, or it is listed here with a reason why
nothing is lost.
"""

import ast
from collections.abc import Iterator

from tests.support.installation import CHECKOUT

HARMLESS = {  # by module, or by module and what is waited for
    "api/heartbeat.py": "the task is cancelled before; the wait is only for its end",
    "schemas/postgres/liveness.py": "the probe is aborted before; the wait is only for its error",
    "schemas/postgres/pool.py: wait_for_leases()": "gives nothing back; a cancelled request has no answer",
    "schemas/postgres/pool.py: checkouts.return_connection(conn)": "is shielded within, unless it does not suspend",
    "schemas/xero/choices.py": "runs in Database.to_its_end, which is not cancelled",
    "ops/up/api_processes.py": "the command's own end",
    "ops/up/supervisor.py": "the command's own end",
    "ops/up/up.py": "the command's own end",
}


def waits_in_cleanup() -> Iterator[tuple[str, int, str]]:
    """Each `await`, `async with` and `async for` in a `finally` of the product: path, line, and what it waits for."""
    for package in ("api", "actors", "schemas", "ops"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)) if "finally:" in text else ():  # to parse everything takes seconds
                for statement in node.finalbody if isinstance(node, ast.Try) else ():
                    for inner in ast.walk(statement):
                        if isinstance(inner, ast.Await):
                            yield path.relative_to(CHECKOUT).as_posix(), inner.lineno, ast.unparse(inner.value)
                        elif isinstance(inner, ast.AsyncWith | ast.AsyncFor):
                            yield path.relative_to(CHECKOUT).as_posix(), inner.lineno, ast.unparse(inner).splitlines()[0]


def test_an_await_in_a_finally_is_shielded() -> None:
    faults = [
        f"{path}:{line}: {waits_for}"
        for path, line, waits_for in waits_in_cleanup()
        if not (path in HARMLESS or f"{path}: {waits_for}" in HARMLESS or waits_for.startswith("asyncio.shield("))
    ]
    assert faults == []


def test_the_harmless_ones_are_there() -> None:
    waits = list(waits_in_cleanup())
    assert set(HARMLESS) <= {path for path, _, _ in waits} | {f"{path}: {waits_for}" for path, _, waits_for in waits}

"""SQL functions of Stint: each in a file `NAME.sql` beside the module that calls it (docs/decisions/0037-sql-functions.md).

A function is installed under its name and a hash of its text, so the processes of two versions call their own. `migrate`
installs those that a database lacks. A function that no version has needed for KEEP_DAYS is removed.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import AsyncConnection, sql

SCHEMAS = Path(__file__).parents[1]
KEEP_DAYS = 30  # a process of an earlier version that runs longer beside a later one finds its functions removed
_LOCK = 7_474_613  # an advisory lock: two transactions must not change a function's comment at the same time
_UNNEEDED = ", not needed since "  # in the comment of an installed function, before the day


@dataclass(frozen=True)
class SqlFunction:
    """One function. `name`: as it is installed. `text`: its file, with the installed names of itself and of those it calls.
    `path`: of the file, as in `schemas/hours/open_bill.sql`; the function's comment in the database."""

    name: str
    text: str
    path: str


def sql_functions() -> Mapping[str, SqlFunction]:
    """All functions, by the names of their files."""
    return _FUNCTIONS


def named(texts: Mapping[str, str]) -> dict[str, SqlFunction]:
    """The functions of these texts, by the names of their files; `texts` by path. Raises ValueError if functions call each
    other in a circle."""
    paths = {Path(path).stem: path for path in texts}
    call = re.compile(rf"\b({'|'.join(paths)})(?=\()")
    found: dict[str, SqlFunction] = {}

    def resolve(name: str, callers: tuple[str, ...]) -> SqlFunction:
        if name in callers:
            raise ValueError(f"SQL functions call each other in a circle: {' → '.join((*callers, name))}")
        if name not in found:
            text = call.sub(
                lambda match: name if match[0] == name else resolve(match[0], (*callers, name)).name, texts[paths[name]]
            )
            installed = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
            found[name] = SqlFunction(installed, re.sub(rf"\b{name}(?=\()", installed, text), paths[name])
        return found[name]

    return {name: resolve(name, ()) for name in paths}


def installed(name: str) -> str:
    """The name under which the function of the file `name`.sql is installed, for the SQL that calls it."""
    return sql_functions()[name].name


async def install(conn: AsyncConnection[tuple[object, ...]]) -> list[str]:
    """Installs the functions that the database lacks, and returns their names. Removes those that no version has needed for
    KEEP_DAYS. The caller owns the transaction."""
    needed = {function.name: function for function in sql_functions().values()}
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    present = await _present(conn, needed)
    for name in needed.keys() - present.keys():
        await conn.execute(needed[name].text.encode())
        await _comment(conn, name, needed[name].path)
    for name, (comment, days_unneeded) in present.items():
        if name in needed:
            if comment != needed[name].path:  # the version before runs again, or a dump was restored without comments
                await _comment(conn, name, needed[name].path)
        elif days_unneeded is None:
            cursor = await conn.execute("SELECT current_date::text")
            (today,) = await cursor.fetchone() or ("",)
            await _comment(conn, name, f"{comment}{_UNNEEDED}{today}")
        elif days_unneeded >= KEEP_DAYS:
            await conn.execute(sql.SQL("DROP FUNCTION {}").format(sql.Identifier(name)).as_bytes(conn))
    return sorted(needed.keys() - present.keys())


async def keep(conn: AsyncConnection[tuple[object, ...]]) -> None:
    """Notes that the functions of this version are needed, where a later version has noted that they are not: somebody has
    gone back to this one. KEEP_DAYS count again from the next upgrade. `conn` is outside a transaction."""
    needed = {function.name: function for function in sql_functions().values()}
    present = await _present(conn, needed)
    if not any(_UNNEEDED in comment for name, (comment, _) in present.items() if name in needed):
        return
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        for name, (comment, _) in (await _present(conn, needed)).items():
            if name in needed and _UNNEEDED in comment:
                await _comment(conn, name, needed[name].path)


async def _present(conn: AsyncConnection[tuple[object, ...]], needed: Collection[str]) -> dict[str, tuple[str, int | None]]:
    """The comments of the functions that `install` has installed, by name, and for how many days each was not needed. Without
    comments, as in a dump that leaves them out, only those that are needed can be told."""
    cursor = await conn.execute(
        """
        SELECT proname::text, coalesce(comment, ''), current_date - substring(comment FROM %s || '(.*)$')::date
        FROM pg_proc, obj_description(oid, 'pg_proc') AS comment
        WHERE pronamespace = current_schema::regnamespace
          AND (comment ~ '^schemas/[a-z0-9_/]+[.]sql' OR proname = ANY(%s::text[]))
        """,
        (_UNNEEDED, list(needed)),
    )
    return {str(name): (str(comment), days) for name, comment, days in await cursor.fetchall()}  # type: ignore[misc]


async def _comment(conn: AsyncConnection[tuple[object, ...]], name: str, comment: str) -> None:
    await conn.execute(sql.SQL("COMMENT ON FUNCTION {} IS {}").format(sql.Identifier(name), comment).as_bytes(conn))


def _read() -> dict[str, SqlFunction]:
    paths = [path for path in sorted(SCHEMAS.rglob("*.sql")) if path.parent.name != "migrations"]
    return named({f"schemas/{path.relative_to(SCHEMAS)}": path.read_text() for path in paths})


_FUNCTIONS = _read()  # when the process starts: its code calls these, also if its files are replaced later

"""SQL functions in files beside the modules that call them: their names, and how a database gets and loses them."""

import asyncio
import re
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from schemas.messages import StopTimer
from schemas.outbox import outbox
from schemas.postgres import functions
from schemas.postgres.connection import Connection
from schemas.postgres.functions import KEEP_DAYS, keep, named, sql_functions
from schemas.postgres.migrate import migrate, pending
from tests.support.installation import new_database

BODY = "CREATE FUNCTION {name}() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN {value}; END $$;"
INSTALLED = """
    SELECT proname::text, obj_description(oid, 'pg_proc') FROM pg_proc
    WHERE obj_description(oid, 'pg_proc') LIKE 'schemas/%.sql%' ORDER BY 1
"""


@pytest.mark.unit
def test_a_name_changes_with_the_text_of_the_function_and_of_those_that_it_calls() -> None:
    def names(value: str) -> list[str]:
        texts = {
            "a/inner.sql": BODY.format(name="inner", value=value),
            "b/outer.sql": BODY.format(name="outer", value="inner()"),
        }
        return [function.name for function in named(texts | {"c/alone.sql": BODY.format(name="alone", value=3)}).values()]

    one, two = names("1"), names("2")
    assert [first == second for first, second in zip(one, two, strict=True)] == [False, False, True]
    assert [name[:-9] for name in one] == ["inner", "outer", "alone"]


@pytest.mark.unit
def test_a_function_calls_the_others_and_itself_by_the_names_under_which_they_are_installed() -> None:
    found = named(
        {"a/inner.sql": BODY.format(name="inner", value="inner()"), "outer.sql": BODY.format(name="outer", value="inner()")}
    )
    inner, outer = found["inner"], found["outer"]
    assert inner.text.count(f"{inner.name}()") == 2
    assert f"CREATE FUNCTION {outer.name}()" in outer.text and f"RETURN {inner.name}()" in outer.text


@pytest.mark.unit
def test_functions_that_call_each_other_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match="a → b → a"):
        named({"a.sql": BODY.format(name="a", value="b()"), "b.sql": BODY.format(name="b", value="a()")})


@pytest.mark.unit
def test_each_file_has_the_function_of_its_name_and_all_of_them_are_called() -> None:
    called = "\n".join(function.text for function in sql_functions().values())
    modules = "\n".join(path.read_text() for path in functions.SCHEMAS.rglob("*.py"))
    for name, function in sql_functions().items():
        assert function.text.count(f"CREATE FUNCTION {function.name}(") == 1, name
        assert f"{function.name}(" in called.replace(f"CREATE FUNCTION {function.name}(", "") or f'"{name}"' in modules.replace(
            "'", '"'
        )


@pytest.mark.unit
def test_no_function_that_python_calls_plans_again_or_to_read_whole_tables() -> None:
    """PL/pgSQL keeps a plan for as long as its connection is open, also one that was right for nearly empty tables; and it
    makes another one at each call if it expects that to be cheaper, which it is not for rows that are found by an index."""
    modules = "\n".join(path.read_text() for path in functions.SCHEMAS.rglob("*.py"))
    called = set(re.findall(r"""installed\(["'](\w+)["']\)""", modules))
    assert {"start_timer", "stop_timer", "handle_stop"} < called
    settings = "LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan "
    assert [name for name in called if settings not in sql_functions()[name].text] == []


@pytest.mark.unit
def test_what_sql_repeats_of_the_message_and_its_channel_is_the_same() -> None:
    assert f"'{StopTimer.actor}', '{StopTimer.queue}'," in sql_functions()["stop_running"].text
    assert StopTimer.priority_seconds == 0  # stop_running leaves it out
    assert f"pg_notify('{outbox.CHANNEL}', '')" in sql_functions()["enqueue_message"].text
    assert f"'{StopTimer.actor}'" in sql_functions()["handle_stop"].text


def is_pending(url: str) -> bool:
    async def look() -> bool:
        async with await AsyncConnection.connect(url, autocommit=True) as conn:
            return await pending(conn)

    return asyncio.run(look())


def note_unneeded(conn: psycopg.Connection, name: str, path: str, *, days: int) -> None:
    """As `migrate` of a version that does not need the function has noted it, that many days ago."""
    statement = conn.execute(
        "SELECT format('COMMENT ON FUNCTION %%I IS %%L', %s::text, %s || (current_date - %s::int))",
        (name, f"{path}, not needed since ", days),
    ).fetchone() or ("",)
    conn.execute(statement[0].encode())


def test_a_database_gets_the_functions_it_lacks_and_loses_those_that_nobody_has_needed_for_long(database_url: str) -> None:
    url = new_database(database_url)
    needed = {function.name: function.path for function in sql_functions().values()}
    lost, unneeded, old = sorted(needed)[0], "open_bill_00000000", "open_bill_11111111"
    with psycopg.connect(url, autocommit=True) as conn:
        assert dict(conn.execute(INSTALLED).fetchall()) == needed and not is_pending(url)
        # a function of its administrator, one of the version before, one that was needed again, and one that is old
        conn.execute(BODY.format(name="theirs", value=1).encode())
        for name in (unneeded, old):
            conn.execute(BODY.format(name=name, value=1).encode())
            conn.execute(f"COMMENT ON FUNCTION {name} IS 'schemas/hours/open_bill.sql'".encode())
        conn.execute(f"DROP FUNCTION {lost}".encode())
        assert is_pending(url)
        assert asyncio.run(migrate(url)) == [lost]
        assert not is_pending(url)
        today = conn.execute("SELECT current_date").fetchone() or (date.min,)
        after: dict[str, str] = dict(conn.execute(INSTALLED).fetchall())
        marked = f"schemas/hours/open_bill.sql, not needed since {today[0]}"
        assert after == needed | {unneeded: marked, old: marked}

        for name, days in ((unneeded, KEEP_DAYS - 1), (old, KEEP_DAYS), (lost, KEEP_DAYS)):
            note_unneeded(conn, name, needed.get(name, "schemas/hours/open_bill.sql"), days=days)
        assert asyncio.run(migrate(url)) == []
        after = dict(conn.execute(INSTALLED).fetchall())
        assert after.keys() == needed.keys() | {unneeded} and after[lost] == needed[lost]
        assert conn.execute("SELECT theirs()").fetchone() == (1,)


def test_functions_that_a_running_version_needs_are_kept_after_going_back_to_it(database_url: str) -> None:
    url = new_database(database_url)
    needed = {function.name: function.path for function in sql_functions().values()}
    theirs = "open_bill_00000000"

    async def start_two_processes() -> None:
        async with (
            await Connection.connect(url, autocommit=True) as one,
            await Connection.connect(url, autocommit=True) as other,
        ):
            await asyncio.gather(keep(one), keep(other))

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(BODY.format(name=theirs, value=1).encode())
        conn.execute(f"COMMENT ON FUNCTION {theirs} IS 'schemas/v2_1/open_bill.sql'".encode())
        for name, path in needed.items():
            note_unneeded(conn, name, path, days=KEEP_DAYS + 1)  # an upgrade; then somebody went back to this version
        asyncio.run(start_two_processes())
        assert dict(conn.execute(INSTALLED).fetchall()) == needed | {theirs: "schemas/v2_1/open_bill.sql"}
        assert asyncio.run(migrate(url)) == []
        after: dict[str, str] = dict(conn.execute(INSTALLED).fetchall())
        assert after[theirs].startswith("schemas/v2_1/open_bill.sql, not needed since ")


def test_a_dump_without_comments_can_be_migrated(database_url: str) -> None:
    url = new_database(database_url)
    needed = {function.name: function.path for function in sql_functions().values()}
    with psycopg.connect(url, autocommit=True) as conn:
        for name in needed:
            conn.execute(f"COMMENT ON FUNCTION {name} IS NULL".encode())
        assert not is_pending(url)
        assert asyncio.run(migrate(url)) == []
        assert dict(conn.execute(INSTALLED).fetchall()) == needed


def test_a_process_keeps_its_functions_when_the_files_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(sql_functions())
    monkeypatch.setattr(functions, "SCHEMAS", tmp_path)
    (tmp_path / "other.sql").write_text(BODY.format(name="other", value=1))
    assert dict(sql_functions()) == before and functions._read().keys() == {"other"}

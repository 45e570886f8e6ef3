"""The options of selects in Slack, function by function: over rows, without Slack."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from slack_sdk.models.blocks import Option, PlainTextObject

from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.commands import search, task_search
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, new_database

SETTINGS = Settings(database_url="", secret_key=SecretStr(SECRET_KEY))


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def customers(conn: Connection, *names: str) -> list[UUID]:
    """Active customers with these names, which nobody has used."""
    return await conn.values(
        """
        INSERT INTO customers (id, name, created_from, created_by)
        SELECT gen_random_uuid(), name, 'x', %s FROM unnest(%s::text[]) name RETURNING id
        """,
        ((await firm_rows.user(conn)).id, list(names)),
    )


async def names_of(conn: Connection, typed: str, by: User) -> list[str]:
    return [text for _, text in options(await search.suggest_customers(conn, typed, user_id=by.id, only_customer=None))]


def options(found: bytes) -> list[tuple[str, str]]:
    """The values and the texts of options."""
    return [(option["value"], option["text"]["text"]) for option in json.loads(found)["options"]]


def test_options_are_those_of_slacks_sdk(url: str) -> None:
    names = ['Acme & Söhne <1> \\ "x"', "x" * 75, "x" * 76, "y" * 74 + "\U0001f600z"]
    shown = [names[0], names[1], "x" * 74 + "…", "y" * 74 + "…"]

    async def check(conn: Connection) -> tuple[bytes, bytes, list[UUID]]:
        by = await firm_rows.user(conn)
        customer, *_ = await customers(conn, "With pillars")
        ids = await conn.values(
            "INSERT INTO pillars (id, customer_id, name) SELECT gen_random_uuid(), %s, unnest(%s::text[]) RETURNING id",
            (customer, names),
        )
        none = await search.suggest_tasks(conn, "", user_id=by.id, only_customer=None)
        return await search.suggest_pillars(conn, "", customer_id=customer), none, ids

    found, none, ids = over(url, check)
    # to_dict validates the lengths
    expected = [
        Option(text=PlainTextObject(text=text, emoji=False), value=str(id)).to_dict()
        for text, id in zip(shown, ids, strict=True)
    ]
    assert json.loads(found) == {"options": expected}
    assert json.loads(none) == json.loads(search.NO_OPTIONS) == {"options": []}


def test_customers_are_found_by_words_in_any_order(url: str) -> None:
    token = uuid4().hex[:8]
    name, other = f"Müller & Söhne 100% {token} GmbH", f"Other_{token}"

    async def check(conn: Connection) -> dict[str, list[str]]:
        await customers(conn, name, other)
        by = await firm_rows.user(conn)
        typed = [
            token, f"  {token}  ", f"{token} söhne", f"GMBH\u00a0{token.upper()} müll", f"{token} & 100%", f"{token} % 100",
            f"er_{token}", f"{token} Mu\u0308ller", f"{token} nobody", f"{token} _x", "\u200b " + token,
        ]  # fmt: skip
        return {each: await names_of(conn, each, by) for each in typed}

    found = over(url, check)
    both: list[str] = [name, other]
    none: list[str] = []
    assert list(found.values()) == [both, both, [name], [name], [name], [name], [other], [name], none, none, both]


def test_customers_that_a_person_used_last_come_first_and_300_can_be_chosen(url: str) -> None:
    token = uuid4().hex[:8]

    async def check(conn: Connection) -> tuple[list[str], list[str], list[list[str]]]:
        by, colleague = await firm_rows.user(conn), await firm_rows.user(conn)
        numbered = [f"{token} n{number:03}" for number in range(300)]
        ids = dict(zip(numbered, await customers(conn, *numbered), strict=True))

        async def task(name: str, created_at: str, **columns: UUID) -> FirmRows:
            pillar, task_id = uuid4(), uuid4()
            await conn.execute(
                "INSERT INTO pillars (id, customer_id, name) VALUES (%s, %s, %s)", (pillar, ids[name], f"p {pillar}")
            )
            values = {"created_by": colleague.id} | columns
            await conn.execute(
                f"""
                INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_at, {", ".join(values)})
                VALUES (%s, 'T', %s, %s, 'x', %s, {", ".join(["%s"] * len(values))})
                """,
                (task_id, ids[name], pillar, created_at, *values.values()),
            )
            return FirmRows(ids[name], pillar, task_id, by.id)

        worked = await task(f"{token} n250", "2020-01-01")
        await firm_rows.entry(conn, worked, None, start_time="2026-03-02T09:00:00Z", end_time="2026-03-02T10:00:00Z")
        await task(f"{token} n150", "2026-03-03", created_by=by.id)
        await task(f"{token} n100", "2026-03-01", assignee_id=by.id)
        await task(f"{token} n120", "2026-03-09")  # a colleague's
        running = await task(f"{token} n299", "2020-01-01")
        await conn.execute(
            "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, gen_random_uuid(), %s, '2026-03-04')",
            (by.id, running.task),
        )
        every = [await names_of(conn, f"n{number:03} {token}", by) for number in range(300)]
        return await names_of(conn, token, by), await names_of(conn, token, colleague), every

    mine, colleagues, every = over(url, check)
    used = [f"{token} n{number}" for number in (299, 150, 250, 100)]
    assert mine[:6] == [*used, f"{token} n000", f"{token} n001"] and len(mine) == 100
    assert colleagues[0] == f"{token} n120"
    assert every == [[f"{token} n{number:03}"] for number in range(300)], "each can be typed"


def test_tasks_are_found_by_words_of_title_and_customer(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        by = await firm_rows.user(conn)
        rows = await firm_rows.firm(conn, by=by.id, name="Acme Ltd")
        await conn.execute("UPDATE tasks SET title = 'Migrate the mail server' WHERE id = %s", (rows.task,))
        found = []
        for typed in (" server  MAIL", "acme mail", "mail acme ltd", "mail other", "%", ""):
            shown = options(await search.suggest_tasks(conn, typed, user_id=by.id, only_customer=None))
            found.append(shown == [(str(rows.task), "Migrate the mail server · Acme Ltd")])
        return found

    assert over(url, check) == [True, True, True, False, False, True]


def test_ones_own_tasks_come_before_those_of_any_number_of_colleagues(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        by, colleague = await firm_rows.user(conn), await firm_rows.user(conn)
        token = uuid4().hex
        own = await firm_rows.firm(conn, by=by.id, name=f"Acme {token}")
        assigned = await firm_rows.firm(conn, by=colleague.id, name=f"Acme {token}")
        await conn.execute("UPDATE tasks SET title = 'Printer', assignee_id = %s WHERE id = %s", (by.id, assigned.task))
        for number in range(12):
            rows = await firm_rows.firm(conn, by=colleague.id, name=f"Acme {token}")
            assignee = colleague.id if number % 2 else None
            await conn.execute(
                "UPDATE tasks SET title = 'Printer second', assignee_id = %s WHERE id = %s", (assignee, rows.task)
            )
        scope: dict[str, Any] = {"user_id": by.id, "settings": SETTINGS, "only_customer": None}
        found = [
            await task_search.find(conn, f"{token} {typed}", **scope)
            for typed in ("servers", "printer", "second printer", "", "x")
        ]
        noted = await task_search.find_with_note(conn, f"servers acme {token} moved the boxes", **scope)
        return [
            [task.id for task in found[0].tasks] == [own.task] and found[0].only is not None,
            [task.id for task in found[1].tasks] == [assigned.task],
            len(found[2].tasks) == 10 and found[2].more and found[2].only is None,  # everybody's
            {task.id for task in found[3].tasks} == {own.task, assigned.task},
            found[4].tasks == [],
            [task.id for task in noted.tasks] == [own.task] and noted.note == "moved the boxes" and noted.sure,
        ]

    assert over(url, check) == [True] * 6

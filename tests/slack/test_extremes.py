"""What Stint shows in Slack when there is very much of it, with names and titles that get five times as long when they are
escaped: Slack's limits, and the validators of its SDK."""

import json
from typing import Any, cast
from uuid import UUID

import pytest
from slack_sdk.models.blocks import Block

from api.slack import subcommands
from api.slack.responder import Responder
from api.slack.subcommands import Answer, Context
from ops.sandbox.slack.checks import check_message
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import views
from schemas.slack.commands import search
from schemas.slack.commands import views as command_views
from schemas.slack.members import Caller
from schemas.slack.typed import parser
from schemas.slack.typed.parser import NearMiss, Run
from schemas.slack.views import Choice, Draft, TaskSummary
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY, new_database

SETTINGS = Settings(database_url="", secret_key=SECRET_KEY, app_url="https://app.example", _env_file=None)
LONG = "&" * 200  # of a title or a name
MOST_TEXT = 4_000  # Slack's advice; it cuts texts off at 40,000
COMMANDS = ["status", "list", "start", "start &", "switch", "log 1h", f"log 1h && {'<' * 180}", "today", "week", "stop", "help"]


async def fill(conn: Connection) -> tuple[Any, UUID]:
    """300 customers with ten tasks each, and an entry of today for each of 100."""
    by = await firm_rows.user(conn)
    await conn.execute(
        """
        WITH made AS (
            INSERT INTO customers (id, name, created_from, created_by)
            SELECT gen_random_uuid(), %(long)s, 'x', %(by)s FROM generate_series(1, 300) RETURNING id
        )
        INSERT INTO pillars (id, customer_id, name, is_default) SELECT gen_random_uuid(), id, %(long)s, true FROM made
        """,
        {"long": LONG, "by": by.id},
    )
    await conn.execute(
        """
        INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
        SELECT gen_random_uuid(), %s, customer_id, id, 'x', %s FROM pillars, generate_series(1, 10)
        """,
        (LONG, by.id),
    )
    await conn.execute(
        """
        INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date)
        SELECT gen_random_uuid(), id, %s, customer_id, pillar_id, date_trunc('second', now()) - interval '1 second',
               date_trunc('second', now()), current_date
        FROM tasks LIMIT 100
        """,
        (by.id,),
    )
    task = await conn.value("SELECT id FROM tasks LIMIT 1")
    await conn.execute(
        "INSERT INTO timers (id, user_id, task_id, start_time) VALUES (gen_random_uuid(), %s, %s, date_trunc('second', now()))",
        (by.id, task),
    )
    return by, task


def check(answer: Answer) -> None:
    assert 0 < len(answer.text) <= MOST_TEXT, len(answer.text)
    if answer.blocks is not None:
        check_message(answer.blocks)
        for block in Block.parse_all(answer.blocks):
            block.validate_json()


def test_answers_to_commands_fit_into_a_message(database_url: str) -> None:
    async def run(conn: Connection) -> dict[str, Answer]:
        by, _ = await fill(conn)
        caller = Caller("U1", by, None, None, fresh=True, tz="Etc/GMT")
        context = Context(Responder(cast(Any, None), SETTINGS), caller, by, "trigger:1")
        answers = {}
        for text in COMMANDS:
            typed = parser.parse(text)
            assert isinstance(typed, Run), text
            async with conn.transaction():
                answers[text] = await subcommands.run(conn, context, typed)
        for suggested in (
            await search.suggest_customers(conn, "", user_id=by.id, only_customer=None),
            await search.suggest_customers(conn, "&&", user_id=by.id, only_customer=None),
            await search.suggest_tasks(conn, "", user_id=by.id, only_customer=None),
        ):
            options = json.loads(suggested)["options"]
            assert len(options) == 100 and {len(option["text"]["text"]) for option in options} == {75}
        return answers

    answers = over(new_database(database_url), run)
    for answer in answers.values():
        check(answer)
    listed = answers["list"].blocks
    assert listed is not None and "3000" in answers["list"].text and "more" in json.dumps(listed[-1])


@pytest.mark.parametrize("count", [1, 10, 20])
def test_a_list_shows_as_many_tasks_as_fit(count: int) -> None:
    def rows(title: str) -> list[dict[str, Any]]:
        tasks = [TaskSummary(UUID(int=n), title, title, url=f"https://app.example/tasks/{UUID(int=n)}") for n in range(count)]
        return views.task_list(tasks, heading="Which?")

    assert len(rows("Migrate the mail server to the new rack")) == count + 1
    long = rows(LONG)
    check_message(long)
    shown = sum("accessory" in block for block in long)
    assert shown == min(count, shown) and shown >= 1
    if shown < count:
        assert (
            long[-1]["text"]["text"]
            == f"… and {count - shown} more, which do not fit here. Type words of the title to find them."
        )


def test_forms_confirmations_and_questions_fit() -> None:
    task, choice = TaskSummary(UUID(int=1), LONG, LONG, url="https://app.example/tasks/1"), Choice(UUID(int=1), LONG)
    form = views.task_form(Draft("C1", LONG * 3, LONG * 30, choice, choice))
    form.validate_json()
    assert len(form.to_dict()["private_metadata"]) <= 3_000
    text, blocks = views.task_created(task, by="U1")
    check(Answer(text, [block.to_dict() for block in blocks]))
    check(Answer("t", views.with_stop_button(f"Your timer runs on {views.escape(LONG)}.", UUID(int=1))))
    check(Answer("t", views.task_preview(task)["blocks"]))
    near = parser.parse("stpo")
    assert isinstance(near, NearMiss)
    asked = subcommands.ask(NearMiss(near.run, LONG * 15))
    check(asked)
    check(Answer("t", command_views.new_task_button("t", LONG * 15)))

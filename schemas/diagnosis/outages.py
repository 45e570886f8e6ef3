"""Outages. The people on call get one message when an outage has begun, and one when it is over.

- No relay is alive any more, or no worker of a queue is, or RabbitMQ cannot be used.
- A part is lost that others replace: a host of RabbitMQ or of Postgres, a standby, or a process is gone.

Other mail goes through the queue `mail`, which may be what is broken. So the process that has found the outage sends the mail
and the post itself: the API process or the relay that is first. A message is sent a second time only if a process ends between
the answer of the mail server and the next statement.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import psycopg

from schemas.diagnosis import postgres_health
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.postgres_health import PostgresHealth
from schemas.diagnosis.servers import with_reports
from schemas.diagnosis.status import InstallationStatus
from schemas.mail import templates
from schemas.messages import QUEUES
from schemas.outbox import heartbeats
from schemas.outbox.metrics import QueueDepth
from schemas.postgres.connection import Connection, connect, is_unreachable
from schemas.settings import Settings

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
# An outage is reported when it has lasted for this time, and its end when that has. So a restart is not reported.
LASTING_SECONDS = 20.0
TRY_AGAIN_SECONDS = 60.0  # for how long no other process reports it: a mail and a post together take less
MAIL_SECONDS, SLACK_SECONDS = 40.0, 10.0
# by loss that others replace: how the finding about it begins
LOSSES = {
    "a host of RabbitMQ": "A host of RabbitMQ cannot be used",
    "a host of Postgres": "A host of Postgres cannot be used",
    "a part of the cluster of RabbitMQ": "RabbitMQ is partitioned",
    "a standby of Postgres": "A standby of Postgres is gone",
    "a process": "Processes are gone",
}


async def watch(settings: Settings) -> None:
    """Finds and reports outages in a loop, if a setting names somebody to report them to. Otherwise it returns at once.

    It survives outages of Postgres, and any other error, because a relay ends when one of its tasks fails.
    """
    while settings.ops_email is not None or settings.ops_slack_channel is not None:
        try:
            async with await connect(settings) as conn:
                while True:
                    await look(conn, settings)
                    await asyncio.sleep(EVERY_SECONDS)
        except Exception as error:
            if not (isinstance(error, psycopg.Error | TimeoutError | OSError) and is_unreachable(error)):
                logger.error("looking for outages failed: %s", type(error).__name__, exc_info=error)
        await asyncio.sleep(EVERY_SECONDS)


async def look(conn: Connection, settings: Settings) -> None:
    """One round: records which outages have begun and which are over, and reports those that have lasted."""
    down, up = await _find(conn)
    async with conn.transaction():
        for what, words in down.items():
            await conn.execute(
                """
                INSERT INTO outages AS o (what, words) VALUES (%s, %s)
                ON CONFLICT (what) DO UPDATE SET words = excluded.words, over_at = NULL
                """,
                (what, words),
            )
        await conn.execute("DELETE FROM outages WHERE what = ANY(%s) AND NOT is_told", (list(up),))
        await conn.execute(
            "UPDATE outages SET over_at = clock_timestamp() WHERE what = ANY(%s) AND over_at IS NULL", (list(up),)
        )
    for _ in range(len(QUEUES) + 2 + len(LOSSES)):
        row = await _claim(conn)
        if row is None:
            return
        what, words, is_over = row
        if not await _tell(conn, settings, what, words, is_over=is_over):
            continue
        if is_over:
            await conn.execute("DELETE FROM outages WHERE what = %s", (what,))
        else:
            # inserted again if it ended in the meantime, so that its end is told, too
            await conn.execute(
                """
                INSERT INTO outages (what, words, is_told) VALUES (%s, %s, true)
                ON CONFLICT (what) DO UPDATE SET is_told = true, try_at = clock_timestamp()
                """,
                (what, words),
            )


async def _find(conn: Connection) -> tuple[dict[str, str], set[str]]:
    """What is down, each with the text of its finding; and what is up. What never ran, or ended a day ago, is neither."""
    processes = await heartbeats.processes(conn)
    health = PostgresHealth(slots=await postgres_health.slots(conn))
    status = InstallationStatus(servers={"Postgres": "ok"}, processes=processes, postgres=health)
    status.queues = [QueueDepth(name=queue) for queue in QUEUES]
    findings = diagnose(status)

    def words(beginning: str) -> str:
        """The text of the finding that begins so; without one, the beginning itself."""
        for finding in findings:
            if finding.what.startswith(beginning):
                return f"{finding.what} What to do: {finding.do}"
        return beginning

    down: dict[str, str] = {}
    up: set[str] = set()
    expected: list[tuple[str, str, str | None, str]] = [("relay", "relay", None, "No relay is alive.")]
    for queue in QUEUES:
        expected.append((f"worker for {queue}", "work", queue, f"No worker is alive for the queue {queue}."))
    for what, kind, queue_name, beginning in expected:
        if status.alive(kind, queue_name):
            up.add(what)
        elif queue_name is not None and (waiting := status.waiting(queue_name)):
            # why they cannot use RabbitMQ is told below, and that no relay declares their queues is told above
            if "relay" in up and all("queues" in process.problems for process in waiting):
                down[what] = words(f"No worker takes messages of the queue {queue_name}:")
        elif any(process.kind == kind and (queue_name is None or queue_name in process.queues) for process in processes):
            down[what] = words(beginning)
    if "RabbitMQ" in with_reports(status):
        down["RabbitMQ"] = words("RabbitMQ ")
    elif "relay" in up:
        up.add("RabbitMQ")
    for what, beginning in LOSSES.items():
        if (found := words(beginning)) != beginning:
            down[what] = found
        elif "relay" in up:  # relays watch the hosts
            up.add(what)
    return down, up


async def _claim(conn: Connection) -> tuple[str, str, bool] | None:
    """An outage to report, or whose end is to be reported: its name, its words, and whether it is over. None: there is none.

    No other process gets it for TRY_AGAIN_SECONDS.
    """
    return await conn.maybe(
        """
        UPDATE outages SET try_at = clock_timestamp() + make_interval(secs => %(again)s) WHERE what = (
            SELECT what FROM outages
            WHERE try_at <= clock_timestamp()
              AND CASE WHEN is_told THEN over_at ELSE since END < clock_timestamp() - make_interval(secs => %(lasting)s)
            ORDER BY since LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING what, words, is_told
        """,
        {"again": TRY_AGAIN_SECONDS, "lasting": LASTING_SECONDS},
    )


async def _tell(conn: Connection, settings: Settings, what: str, words: str, *, is_over: bool) -> bool:
    """Reports it by mail and in Slack. False: neither worked, so it is tried again."""
    logger.error("%s", f"Outage over: {what}" if is_over else f"Outage: {what}: {words}")
    told = [await _mail(settings, what, words, is_over=is_over), await _post(conn, settings, what, words, is_over=is_over)]
    return any(told)


async def _mail(settings: Settings, what: str, words: str, *, is_over: bool) -> bool:
    if settings.ops_email is None:
        return False
    from schemas.mail import smtp  # importing it takes a while

    mail = templates.outage(to=settings.ops_email, queue=what, cure=words, is_over=is_over)
    try:
        async with asyncio.timeout(MAIL_SECONDS):
            await smtp.deliver(mail, message_id=uuid4(), settings=settings)
    except Exception as error:  # whatever it is: it is logged, and tried again
        logger.error("the mail about an outage could not be sent: %s", type(error).__name__)
        return False
    return True


async def _post(conn: Connection, settings: Settings, what: str, words: str, *, is_over: bool) -> bool:
    """Reports it in Slack, and returns whether that worked. It also records for `doctor` whether Slack gives access."""
    if settings.ops_slack_channel is None or settings.slack_bot_token is None:
        return False
    from schemas.slack.access import loss, ops_channel
    from schemas.slack.client import SlackAccessLost, SlackRefused, open_client
    from schemas.slack.views import MAX_SECTION_LENGTH, escape

    text = f"Stint: {what} is back." if is_over else f"Stint: {words}"
    # plain text: in mrkdwn, Slack would show what is between two asterisks of a command in bold
    shown = {"type": "section", "text": {"type": "plain_text", "text": text[:MAX_SECTION_LENGTH], "emoji": False}}
    try:
        async with open_client(settings) as slack:
            await slack.post(settings.ops_slack_channel, escape(text), [shown], message_id=uuid4(), seconds=SLACK_SECONDS)
    except Exception as error:
        # a code of Slack's, such as channel_not_found, is no secret
        logger.error("the post about an outage could not be sent: %s", getattr(error, "code", type(error).__name__))
        if isinstance(error, SlackAccessLost):
            await _record(conn, partial(loss.record_loss, conn, error, settings))
        elif isinstance(error, SlackRefused):
            await _record(conn, partial(ops_channel.record_refused, conn, error.code, settings))
        return False
    await _record(conn, partial(loss.record_found, conn, "chat.postMessage", settings))
    await _record(conn, partial(ops_channel.record_posted, conn))
    return True


async def _record(conn: Connection, record: Callable[[], Awaitable[None]]) -> None:
    """Calls `record` in a transaction. An error is only logged, so that the outage is not reported a second time."""
    try:
        async with conn.transaction():
            await record()
    except psycopg.Error as error:
        logger.error("whether Slack gives access could not be recorded: %s", type(error).__name__)

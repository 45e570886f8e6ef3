"""What the relay sends and the rescuer finds again, each function alone: no other process runs meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pika
import psycopg
import pytest
from pika.frame import Method
from pika.spec import Basic

from actors.runtime import relay, rescuer
from actors.runtime.broker import declare_queues, queue_arguments, xq_arguments
from actors.runtime.relay import Outgoing
from schemas.diagnosis.finding import Finding
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.messages import QUEUES, RecomputeBills
from schemas.outbox import heartbeats, outbox
from schemas.outbox.claims import BATCH, FULL_SECONDS, IN_FLIGHT, Claimed, claim, requeue_refused
from schemas.outbox.dead_letters import replays
from schemas.outbox.dead_letters.replays import NewReplay
from schemas.postgres.connection import Connection
from schemas.rabbitmq.amqp import Amqp
from schemas.rabbitmq.problems import ConnectionLost, describe_difference
from schemas.settings import Settings
from tests.outbox.rows import QUEUE, connected, message, over, states
from tests.support.installation import SECRET_KEY, emptied, new_database
from tests.support.servers import addresses

MY_RELAY, OTHER_RELAY = 11, 12


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


@pytest.fixture
def queues(amqp_url: str, worker_id: str) -> str:
    """A virtual host without queues."""
    return emptied(addresses().amqp_urls[f"{worker_id}-own"])


def settings(url: str, amqp_url: str = "amqp://127.0.0.1/", *, queue_type: Any = "classic") -> Settings:
    return Settings(database_url=url, amqp_url=amqp_url, secret_key=SECRET_KEY, stint_queue_type=queue_type)


def test_a_long_backlog_is_sent_five_hundred_at_a_time(url: str) -> None:
    async def claim_often(conn: Connection) -> tuple[int, int]:
        for _ in range(600):
            await message(conn)
        claims = [await claim(conn, relay=MY_RELAY) for _ in range(8)]
        # claim on at once, then look often whether workers have handled some, since they wake nobody
        assert [one.pause_seconds for one in claims] == [0] * 5 + [FULL_SECONDS] * 3
        return (
            await conn.value("SELECT count(*) FROM messages WHERE state = 'sent'"),
            await conn.value("SELECT count(*) FROM messages WHERE state = 'ready'"),
        )

    assert IN_FLIGHT == 500 and BATCH <= 100
    assert over(url, claim_often) == (500, 100)


def test_a_claim_takes_what_is_due_and_not_claimed_by_another_relay(url: str) -> None:
    async def claims(conn: Connection) -> tuple[list[UUID], list[Claimed]]:
        first, second = await message(conn), await message(conn)
        await message(conn, available_at="now() + interval '1 minute'")
        for state in ("sent", "calling", "done", "dead", "discarded"):
            await message(conn, state)
        async with connected(url) as other, other.transaction():
            await other.execute("SELECT FROM messages WHERE id = %s FOR UPDATE", (first,))
            claimed = (await claim(conn, relay=MY_RELAY)).rows
        return [second], claimed

    expected, claimed = over(url, claims)
    assert [row.id for row in claimed] == expected
    assert claimed[0].delivery_number == 1


def test_a_claim_says_whether_more_may_be_due(url: str) -> None:
    async def claims(conn: Connection) -> list[bool]:
        for _ in range(BATCH + 1):
            await message(conn)
        return [(await claim(conn, relay=MY_RELAY)).more_due for _ in range(2)]

    assert over(url, claims) == [True, False]


def test_only_what_an_ended_relay_had_claimed_is_requeued(url: str) -> None:
    async def rescue(conn: Connection) -> list[str]:
        mine = await message(conn)
        await claim(conn, relay=MY_RELAY)
        theirs = await message(conn)
        await claim(conn, relay=OTHER_RELAY)
        async with connected(url) as other:
            await other.execute("SELECT pg_advisory_lock(%s)", (OTHER_RELAY,))  # it still runs
            assert await rescuer.requeue_unpublished(conn) == 1
        return await states(conn, mine, theirs)

    assert over(url, rescue) == ["ready", "sent"]


@asynccontextmanager
async def running(known: Settings) -> AsyncIterator[None]:
    """A relay runs meanwhile, in this process."""
    job = asyncio.ensure_future(relay.Relay(known).run())
    try:
        yield
        assert not job.done(), job
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(0.2)  # pika closes its sockets only after the loop has run again


async def becomes(conn: Connection, expected: Any, query: str, *parameters: Any) -> None:
    """Waits until the query's value is the expected one."""
    async with asyncio.timeout(15):
        while await conn.value(query, parameters) != expected:  # noqa: ASYNC110 - a row has no event
            await asyncio.sleep(0.05)


STATE = "SELECT state FROM messages WHERE id = %s"


def test_a_running_relay_has_the_lock_of_its_claims(url: str, queues: str) -> None:
    async def claim_of_a_running_relay(conn: Connection) -> bool:
        message_id = await message(conn)
        async with running(settings(url, queues)):
            await becomes(conn, "sent", STATE, message_id)
            key = await conn.value("SELECT sent_by FROM messages WHERE id = %s", (message_id,))
            return bool(await conn.value("SELECT pg_try_advisory_lock(%s)", (key,)))

    assert over(url, claim_of_a_running_relay) is False


def test_a_relay_runs_all_of_its_jobs(url: str, queues: str) -> None:
    async def work(conn: Connection) -> None:
        dead = await message(conn, "dead", fingerprint="'g'")
        await conn.execute("INSERT INTO failure_groups (fingerprint, actor, error_class, frame) VALUES ('g', 'a', 'b', '')")
        await replays.start_replay(conn, NewReplay.model_validate({"select": {"all": True}, "reason": "fixed"}), who="ann")
        expired = await message(conn, "calling", lease_until="now() - interval '1 second'")
        async with running(settings(url, queues)):
            # claimed once more, so that each of them was made ready before
            await becomes(conn, "sent", STATE, dead)
            await becomes(conn, 1, "SELECT attempts FROM messages WHERE id = %s", expired)
            await becomes(conn, 1, "SELECT count(*) FROM heartbeats WHERE kind = 'relay'")
            await becomes(conn, 1, "SELECT count(*) FROM failure_groups WHERE alerted_at IS NOT NULL")
            with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
                connection.channel().basic_publish("", f"{QUEUE}.XQ", b"of unknown origin")
            await becomes(conn, 1, "SELECT count(*) FROM unrecognized_messages WHERE body = 'of unknown origin'")

    over(url, work)


def test_a_relay_is_woken_by_each_commit(url: str, queues: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "POLL_SECONDS", 30)  # then only a notification is fast enough

    async def work(conn: Connection) -> None:
        async with running(settings(url, queues)):
            await becomes(conn, "sent", STATE, await message(conn))
            listening = (
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'LISTEN %%' AND datname = current_database()"
            )
            await becomes(conn, True, listening)
            for seconds in (0, -1):
                await becomes(conn, "sent", STATE, await outbox.enqueue(conn, RecomputeBills(bill_ids=(UUID(int=1),))))
                later = await message(conn, available_at="now() + interval '1 hour'")
                await outbox.reschedule(conn, later, seconds=seconds)
                await becomes(conn, "sent", STATE, later)

    over(url, work)


def test_a_second_delivery_has_another_number(url: str) -> None:
    async def claim_twice(conn: Connection) -> list[int]:
        message_id = await message(conn)
        numbers = []
        for _ in range(2):
            numbers += [row.delivery_number for row in (await claim(conn, relay=MY_RELAY)).rows]
            await conn.execute("UPDATE messages SET state = 'ready' WHERE id = %s", (message_id,))
        return numbers

    assert over(url, claim_twice) == [1, 2]


@pytest.mark.parametrize(("deliveries", "seconds"), [(1, 60), (2, 120), (4, 480), (9, 60 * 128)])
def test_what_was_sent_too_long_ago_is_requeued_and_later_each_time(deliveries: int, seconds: int, url: str) -> None:
    async def rescue(conn: Connection) -> list[str]:
        number = str(deliveries)
        late = await message(conn, "sent", delivery_number=number, sent_at=f"now() - interval '{seconds + 5} seconds'")
        fresh = await message(conn, "sent", delivery_number=number, sent_at=f"now() - interval '{seconds - 20} seconds'")
        assert await rescuer.requeue_stale(conn, seconds=60) == 1
        return await states(conn, late, fresh)

    assert over(url, rescue) == ["ready", "sent"]


def test_only_a_lease_that_has_expired_is_a_failed_attempt(url: str) -> None:
    async def rescue(conn: Connection) -> tuple[list[str], list[tuple[int, str]]]:
        expired = await message(conn, "calling", lease_until="now() - interval '1 second'")
        valid = await message(conn, "calling")
        assert await rescuer.expire_leases(conn, base_seconds=1) == 1
        attempts = await conn.all("SELECT n, error_class FROM message_attempts")
        return await states(conn, expired, valid), attempts

    assert over(url, rescue) == (["ready", "calling"], [(1, "LeaseExpired")])


def test_a_round_of_the_rescuer_does_all_of_it(url: str) -> None:
    async def rescue(conn: Connection) -> tuple[list[str], int, bool, bool]:
        stuck = [
            await message(conn, "sent", sent_by="7"),
            await message(conn, "sent", sent_at="now() - interval '1 year'"),
            await message(conn, "calling", lease_until="now() - interval '1 second'"),
        ]
        await conn.execute(
            """
            UPDATE xero_connection SET tenant_id = 't', connection_id = 'c', access_token = 'a', refresh_token = 'r',
                expires_at = now()
            """
        )
        await message(conn, "done", done_at="now() - interval '99 days'")
        await conn.execute(
            "INSERT INTO replays (who, reason, state, ended_at) VALUES ('a', 'b', 'done', now() - interval '99 days')"
        )
        await rescuer.rescue_once(conn, settings(url))
        left = "SELECT (SELECT count(*) FROM messages WHERE state = 'done') + (SELECT count(*) FROM replays)"
        checks = "SELECT count(*) > 0 FROM messages WHERE actor = 'check_invoiced'"
        has_epoch = await conn.value("SELECT sync_epoch() IS NOT NULL")
        return await states(conn, *stuck), await conn.value(left), await conn.value(checks), has_epoch

    assert over(url, rescue) == (["ready"] * 3, 0, True, True)


def test_a_round_without_pruning_deletes_nothing_and_one_that_has_reached_its_limit_says_so(url: str) -> None:
    async def rescue(conn: Connection) -> tuple[list[bool], list[int]]:
        await conn.execute("INSERT INTO recompute_jobs (dry_run, finished_at) SELECT true, now() - interval '99 days'")
        await conn.execute(
            "INSERT INTO replays (who, reason, state, ended_at)"
            " SELECT 'a', 'b', 'done', now() - interval '99 days' FROM generate_series(1, 2)"
        )
        said, left = [], []
        for prunes in (False, True, True, True):
            said.append(await rescuer.rescue_once(conn, settings(url), prunes=prunes))
            left.append(await conn.value("SELECT (SELECT count(*) FROM recompute_jobs) + (SELECT count(*) FROM replays)"))
        return said, left

    # one job and one replay in a round; the last round finds nothing
    assert over(url, rescue) == ([False, True, True, False], [3, 1, 0, 0])


def test_a_job_of_the_rescuer_that_fails_is_logged_and_keeps_no_other_from_running(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = Settings(database_url=url, secret_key=SECRET_KEY, slack_bot_token="xoxb-1")

    async def rescue(conn: Connection) -> tuple[list[str], int]:
        stuck = await message(conn, "sent", sent_at="now() - interval '1 year'")
        await message(conn, "done", done_at="now() - interval '99 days'")
        for broken in ("slack_nudges", "xero_connection"):
            await conn.execute(f"ALTER TABLE {broken} RENAME TO {broken}_away")
        await rescuer.rescue_once(conn, known)
        done = await states(conn, stuck), await conn.value("SELECT count(*) FROM messages WHERE state = 'done'")
        await conn.close()
        with pytest.raises(psycopg.OperationalError):
            await rescuer.rescue_once(conn, known)
        return done

    rescuer._logged_at.clear()
    assert over(url, rescue) == (["ready"], 0)
    failed = [record.getMessage() for record in caplog.records if "a job of the rescuer failed" in record.getMessage()]
    assert [line.partition(": ")[2] for line in failed] == [
        "job=checks error=UndefinedTable sqlstate=42P01", "job=nudges error=UndefinedTable sqlstate=42P01",
    ]  # fmt: skip


def test_a_replay_is_kept_for_thirty_days_after_its_end_and_its_outcomes_for_longer(url: str) -> None:
    async def prune(conn: Connection) -> tuple[int, list[tuple[str, int]]]:
        for ended in ("now() - interval '31 days'", "now() - interval '29 days'"):
            replay = await conn.value(
                f"INSERT INTO replays (who, reason, state, ended_at) VALUES ('a', 'b', 'done', {ended}) RETURNING id"
            )
            insert = (
                "INSERT INTO replay_messages (replay_id, n, message_id, outcome) VALUES (%s, 1, gen_random_uuid(), 'failed')"
            )
            await conn.execute(insert, (replay,))
        for _ in range(3):  # one in each round
            await rescuer.prune(conn, days=30)
        return (
            await conn.value("SELECT count(*) FROM replays"),
            await conn.all("SELECT outcome, messages FROM replay_totals"),
        )

    assert over(url, prune) == (1, [("failed", 1)])


def test_what_rabbitmq_refused_is_requeued_unless_it_was_handled_or_sent_again(url: str) -> None:
    async def requeue(conn: Connection) -> list[str]:
        one = {"delivery_number": "1"}
        ids = [await message(conn, state, **one) for state in ("sent", "calling", "done", "dead")]
        ids.append(await message(conn, "sent", delivery_number="2"))
        await requeue_refused(conn, [Claimed(message_id, 1, "recompute_bills", QUEUE) for message_id in ids])
        return await states(conn, *ids)

    assert over(url, requeue) == ["ready", "calling", "done", "dead", "sent"]


def test_what_had_been_in_a_queue_that_is_gone_is_sent_again(url: str, queues: str) -> None:
    async def declare(conn: Connection) -> list[str]:
        ids = [await message(conn, "sent"), await message(conn, "done"), await message(conn, "calling")]
        async with await Amqp.open(queues) as amqp:
            await declare_queues(amqp, conn, settings(url, queues))
            later = await message(conn, "sent")  # now the queue is there
            await declare_queues(amqp, conn, settings(url, queues))
        return await states(conn, *ids, later)

    assert over(url, declare) == ["ready", "done", "calling", "sent"]


@pytest.mark.parametrize(("declared", "there"), [("classic", "quorum"), ("quorum", "classic")])
def test_queues_of_another_type_are_used_as_they_are_until_they_are_deleted(
    declared: str, there: str, url: str, queues: str, caplog: pytest.LogCaptureFixture
) -> None:
    def arguments_of(name: str, known: Settings) -> dict[str, Any]:
        return xq_arguments(known) if name.endswith(".XQ") else queue_arguments(name, known)

    known = settings(url, queues, queue_type=declared)
    every = [name for queue in QUEUES for name in (queue, f"{queue}.XQ")]
    reported = "SELECT cardinality(other_queues) FROM heartbeats WHERE kind = 'relay'"
    with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
        for name in every:
            connection.channel().queue_declare(
                name, durable=True, arguments=arguments_of(name, settings(url, queue_type=there))
            )

    async def use(conn: Connection) -> list[Finding]:
        message_id = await message(conn)
        async with running(known):
            await becomes(conn, "sent", STATE, message_id)
            with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
                connection.channel().basic_publish("", f"{QUEUE}.XQ", b"of unknown origin")
            await becomes(conn, 1, "SELECT count(*) FROM unrecognized_messages")
            await becomes(conn, len(every), reported)
            found = diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=await heartbeats.processes(conn)))
        with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
            assert connection.channel().basic_get(QUEUE)[0], "the message is in the queue"
        emptied(queues)
        async with running(known):  # what had been in the deleted queue is sent again
            await becomes(conn, 2, "SELECT delivery_number FROM messages WHERE id = %s", message_id)
            await becomes(conn, 0, reported)
        return found

    differences = {f"The queue {name} is of the type {there}, and STINT_QUEUE_TYPE says {declared}." for name in every}
    assert differences == {finding.what for finding in over(url, use)} - {"No worker is alive for the queue bills."}
    [warning] = [record.getMessage() for record in caplog.records if "A queue differs" in record.getMessage()]
    assert set(warning.partition(". See")[0].split("; ")) == {difference.rstrip(".") for difference in differences}


def test_a_queue_with_other_arguments_is_described() -> None:
    ttl = (
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'timers.XQ' in vhost '/': "
        "received none but current is the value '1000' of type 'signedint'"
    )
    assert describe_difference("timers.XQ", ttl) == ("The queue timers.XQ has x-message-ttl=1000, and Stint would declare none")
    assert describe_difference("timers", "PRECONDITION_FAILED - other words").endswith(" - other words")


def test_a_queue_with_other_arguments_is_used_and_doctor_says_what_they_may_do(url: str, queues: str) -> None:
    known = settings(url, queues)
    with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
        connection.channel().queue_declare(
            QUEUE, durable=True, arguments=queue_arguments(QUEUE, known) | {"x-max-length": 1_000_000}
        )

    async def use(conn: Connection) -> list[Finding]:
        message_id = await message(conn)
        async with running(known):
            await becomes(conn, "sent", STATE, message_id)
            await becomes(conn, 1, "SELECT cardinality(other_queues) FROM heartbeats WHERE kind = 'relay'")
            return diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=await heartbeats.processes(conn)))

    [finding] = [finding for finding in over(url, use) if "x-max-length" in finding.what]
    assert finding.what == f"The queue {QUEUE} has x-max-length=1000000, and Stint would declare none."
    assert "refuse them" in finding.why and "STINT_QUEUE_TYPE" not in finding.do


def test_a_queue_that_cannot_be_used_is_reported_and_the_others_go_on(
    url: str, queues: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its node is down. Here another connection uses it exclusively, until it is closed."""
    monkeypatch.setattr(relay, "UNUSABLE_SECONDS", 0.1)
    reported = "SELECT other_queues FROM heartbeats WHERE kind = 'relay'"

    async def use(conn: Connection) -> None:
        of_timers = {"queue": "'timers'", "actor": "'stop_timer'"}
        with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
            connection.channel().queue_declare("timers", exclusive=True)
            there = await message(conn, "sent", **of_timers)
            waiting, other = await message(conn, **of_timers), await message(conn)
            async with running(settings(url, queues)):
                await becomes(conn, "sent", STATE, other)
                await becomes(conn, 1, "SELECT cardinality(other_queues) FROM heartbeats WHERE kind = 'relay'")
                assert (await conn.value(reported))[0].startswith("The queue timers cannot be used: RESOURCE_LOCKED")
                assert await states(conn, there, waiting) == ["sent", "ready"], "the queue is not lost, and gets nothing"
                findings = diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=await heartbeats.processes(conn)))
                assert any("node" in finding.do for finding in findings if "cannot be used" in finding.what)
                connection.close()
                await becomes(conn, "sent", STATE, waiting)
                await becomes(conn, [], reported)

    over(url, use)


def test_a_connection_is_given_up_when_a_queue_has_no_confirm_and_not_when_confirms_are_slow(
    url: str, queues: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    confirm = Amqp._on_confirm
    monkeypatch.setattr(relay, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Amqp, "_on_confirm", lambda *_: None)  # those that RabbitMQ sends; the test makes its own

    async def work(conn: Connection) -> None:
        async with await Amqp.open(queues) as amqp:
            await declare_queues(amqp, conn, settings(url, queues))
            outgoing = Outgoing(amqp, asyncio.Event())

            def publish(queue: str, actor: str) -> None:
                outgoing.publish(Claimed(uuid4(), 1, actor, queue))

            for _ in range(3):
                publish(QUEUE, "recompute_bills")
            for tag in (1, 2, 3):
                clock[0] += relay.CONFIRM_SECONDS - 1
                assert outgoing.take_settled()[1] == [] and not amqp.lost.done(), "the oldest waits long, and others come"
                confirm(amqp, Method(1, Basic.Ack(tag)))  # type: ignore[no-untyped-call]
            publish("timers", "stop_timer")
            clock[0] += relay.CONFIRM_SECONDS + 1
            publish(QUEUE, "recompute_bills")  # this queue has waited for nothing meanwhile
            assert not amqp.lost.done()
            assert len(outgoing.take_settled()[1]) == 2 and amqp.lost.done()

    over(url, work)


def test_a_message_that_rabbitmq_cannot_route_is_not_taken_for_sent(url: str, queues: str) -> None:
    async def publish(conn: Connection) -> list[str]:
        message_id = await message(conn)
        publisher = relay.Relay(settings(url, queues))
        async with asyncio.timeout(20), await Amqp.open(queues) as amqp:
            outgoing = Outgoing(amqp, asyncio.Event())

            async def publish_due() -> None:
                await publisher._publish_due(conn, MY_RELAY, outgoing)
                while not await publisher._check_confirms(conn, outgoing):  # noqa: ASYNC110 - a confirm sets no event
                    await asyncio.sleep(0.01)

            with pytest.raises(ConnectionLost, match="refused"):
                await publish_due()
            refused = await states(conn, message_id)
            await declare_queues(amqp, conn, settings(url, queues))
            await publish_due()
        return [*refused, *await states(conn, message_id)]

    assert over(url, publish) == ["ready", "sent"]
    with pika.BlockingConnection(pika.URLParameters(queues)) as connection:
        method, properties, _ = connection.channel().basic_get(QUEUE)
    assert method and properties and properties.delivery_mode == 2, "it outlives a restart of RabbitMQ"


def test_a_claim_does_not_wait_for_confirms_and_what_is_not_confirmed_is_sent_again(
    url: str, queues: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirms: list[Any] = []
    monkeypatch.setattr(Amqp, "_on_confirm", lambda _, frame: confirms.append(frame))

    async def work(conn: Connection) -> None:
        async with running(settings(url, queues)):
            first = await message(conn)
            await becomes(conn, "sent", STATE, first)
            second = await message(conn)
            await becomes(conn, "sent", STATE, second)
            assert await conn.values("SELECT delivery_number FROM messages") == [1, 1]
            monkeypatch.setattr(relay, "CONFIRM_SECONDS", 0)
            await becomes(conn, True, "SELECT min(delivery_number) > 1 FROM messages")

    over(url, work)
    assert confirms


def test_relays_do_not_wait_for_each_others_rows(url: str) -> None:
    """A row that another transaction has locked is left to it."""

    async def beside(conn: Connection) -> list[str]:
        ids = [
            await message(conn, "sent", sent_at="now() - interval '1 year'", sent_by="7"),
            await message(conn, "calling", lease_until="now() - interval '1 second'"),
        ]
        async with connected(url) as other, other.transaction():
            await other.execute("SELECT FROM messages FOR UPDATE")
            try:
                await rescuer.requeue_unpublished(conn)
                await rescuer.requeue_stale(conn, seconds=60)
                await rescuer.expire_leases(conn, base_seconds=1)
            except psycopg.errors.LockNotAvailable:
                return ["waited"]
        return await states(conn, *ids)

    assert over(url, beside) == ["sent", "calling"]

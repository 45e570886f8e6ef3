"""The faults of a run: processes killed and frozen, servers stopped, networks cut, messages repeated.

Each fault lasts for a while and is then repaired. The seed decides which faults come, in which order, and for how long.
"""

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import pika
import pika.exceptions

from tests.faults.firm import WholeFirm

Strike = Callable[[WholeFirm, random.Random], None]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill(*kinds: str, all_of_them: bool = False) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        pids = firm.pids(*kinds)
        _signal(pids if all_of_them or not pids else [chance.choice(pids)], signal.SIGKILL)

    return strike


def _freeze(kind: str, *, seconds: float) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        pids = firm.pids(kind)
        if not pids:
            return  # it is just starting again
        pid = chance.choice(pids)
        _signal([pid], signal.SIGSTOP)
        time.sleep(chance.uniform(0.2, seconds))
        _signal([pid], signal.SIGCONT)

    return strike


def _restart_rabbitmq(how: str) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        rabbitmq = firm.servers.rabbitmq
        rabbitmq.stop() if how == "stop" else rabbitmq.kill()
        if how == "empty":
            rabbitmq.empty()
        time.sleep(chance.uniform(0, 5))
        rabbitmq.start()

    return strike


def _restart_postgres(how: str) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        postgres = firm.servers.postgres
        if how == "fast":
            postgres.ask_to_stop()
            assert postgres.process is not None
            postgres.process.wait(30)
        else:
            postgres.kill()
        time.sleep(chance.uniform(0, 3))
        postgres.start()

    return strike


def _end_sessions(firm: WholeFirm, _: random.Random) -> None:
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'firm'"
    firm.stint.rows(query)


def _freeze_server(name: str, *, seconds: float) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        if name == "rabbitmq":
            pids = list(firm.servers.rabbitmq.pids)
        else:
            pids = [*firm.servers.postgres.pids, *(row[0] for row in firm.stint.rows("SELECT pid FROM pg_stat_activity"))]
        _signal(pids, signal.SIGSTOP)
        time.sleep(chance.uniform(0.5, seconds))
        _signal(pids, signal.SIGCONT)

    return strike


def _network(name: str, how: str) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        proxy = firm.proxies[name]
        match how:
            case "cut":
                proxy.cut()
            case "half_close":
                proxy.half_close()
            case "delay":
                proxy.delay(chance.uniform(0.05, 0.5))
            case "torn":
                proxy.cut_after(chance.randrange(1, 4000))
            case "blackhole":
                proxy.blackhole()
            case "refuse":
                proxy.refuse()
        time.sleep(0 if how in ("cut", "half_close") else chance.uniform(1, 8))
        proxy.heal()

    return strike


def _stand_in(name: str) -> Strike:
    def strike(firm: WholeFirm, chance: random.Random) -> None:
        seed = chance.randrange(10**6)
        match name:
            case "xero":
                firm.xero.inject_random_faults(seed=seed, probability=0.4, seconds=1)
            case "slack":
                firm.slack.inject_fault("any", path="/api/", probability=0.4, seed=seed, seconds=1)
            case "smtp":
                firm.mail.answers |= {"DATA": [chance.choice(["451 later", "keep and drop", "drop"]) for _ in range(5)]}
        time.sleep(chance.uniform(2, 8))
        firm.heal_stand_ins()

    return strike


def _repeat_deliveries(firm: WholeFirm, chance: random.Random) -> None:
    """References that were delivered, in another order, some of older publications: duplicates, which change nothing."""
    rows = firm.stint.rows("SELECT id::text, queue, actor, delivery_number FROM messages WHERE delivery_number > 0 LIMIT 2000")
    chosen = chance.sample(rows, min(len(rows), 300))
    with contextlib.suppress(pika.exceptions.AMQPError), pika.BlockingConnection(_past_the_proxy(firm)) as connection:
        channel = connection.channel()
        for message_id, queue, actor, delivery_number in chosen:
            reference = {
                "queue_name": queue,
                "actor_name": actor,
                "args": [],
                "kwargs": {"id": message_id, "delivery_number": chance.randint(1, delivery_number)},
                "options": {},
                "message_id": str(uuid4()),
                "message_timestamp": 0,
            }
            channel.basic_publish("", queue, json.dumps(reference).encode())


def _past_the_proxy(firm: WholeFirm) -> pika.URLParameters:
    return pika.URLParameters(firm.servers.amqp_url)


PROCESSES: dict[str, tuple[int, Strike]] = {  # by name: how often it comes, next to the others, and what it does
    "kill a worker": (6, _kill("work")),
    "kill the relay": (4, _kill("relay")),
    "kill the API": (4, _kill("api")),
    "kill all of Stint's processes": (1, _kill(all_of_them=True)),
    "freeze a worker": (3, _freeze("work", seconds=5)),
    "freeze the relay": (2, _freeze("relay", seconds=5)),
    "freeze the API": (1, _freeze("api", seconds=3)),
}
SERVERS: dict[str, tuple[int, Strike]] = {
    "RabbitMQ stops": (2, _restart_rabbitmq("stop")),
    "RabbitMQ is killed": (2, _restart_rabbitmq("kill")),
    "RabbitMQ loses its data": (1, _restart_rabbitmq("empty")),
    "RabbitMQ freezes": (1, _freeze_server("rabbitmq", seconds=5)),
    "Postgres restarts": (2, _restart_postgres("fast")),
    "Postgres is killed": (2, _restart_postgres("kill")),
    "Postgres freezes": (1, _freeze_server("postgres", seconds=4)),
    "Postgres ends all sessions": (2, _end_sessions),
    "deliveries are repeated": (3, _repeat_deliveries),
    "Xero is faulty": (3, _stand_in("xero")),
    "Slack is faulty": (2, _stand_in("slack")),
    "the mail server is faulty": (2, _stand_in("smtp")),
    **{
        f"network to {name}: {how}": (1, _network(name, how))
        for name in ("postgres", "rabbitmq", "xero", "slack", "smtp")
        for how in ("cut", "half_close", "delay", "torn", "blackhole", "refuse")
    },
}


@dataclass
class Weather:
    """One thread's worth of faults, one after another."""

    faults: dict[str, tuple[int, Strike]]
    seed: str
    pause_seconds: float  # at most, between two
    struck: Counter[str] = field(default_factory=Counter)
    now: str = ""
    events: list[str] = field(default_factory=list)  # what began when, and ended
    failed: BaseException | None = None

    def rage(self, firm: WholeFirm, over: threading.Event) -> None:
        """Until it is over; each fault is healed when this returns."""
        chance = random.Random(self.seed)
        names = list(self.faults)
        weights = [self.faults[name][0] for name in names]
        try:
            while not over.wait(chance.uniform(0.2, self.pause_seconds)):
                self.now = chance.choices(names, weights)[0]
                started_at = datetime.now(UTC)
                self.faults[self.now][1](firm, chance)
                self.events.append(f"{started_at:%H:%M:%S.%f} to {datetime.now(UTC):%H:%M:%S.%f}: {self.now}")
                self.struck[self.now] += 1
                self.now = ""
        except BaseException as error:
            self.failed = error
            over.set()

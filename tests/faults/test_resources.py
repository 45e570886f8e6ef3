"""The leak check finds each kind of leak, and none where there is none."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from tests.faults.resources import Allowances, Held, Snapshot, after_rest, compare, snapshot

pytestmark = pytest.mark.processes

EXACT = Allowances(private_kib=4 * 1024, fds=0, threads=0, sockets=0, postgres=0, rabbitmq=0)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_process_that_does_nothing_more_holds_nothing_more() -> None:
    assert compare(snapshot([os.getpid()]), snapshot([os.getpid()]), EXACT) == []


def test_files_sockets_threads_and_memory_are_each_seen(held: ExitStack) -> None:
    before = snapshot({"api": [os.getpid()]})
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    held.callback(thread.join)
    held.callback(over.set)
    held.enter_context(socket.socket())
    held.enter_context(open("/dev/null"))
    kept = b"x" * 64 * 1024 * 1024

    said = compare(before, snapshot({"api": [os.getpid()]}), EXACT)

    assert [text.split(" has ")[0] for text in said] == [f"api {os.getpid()}"] * 4
    assert (
        said[1].endswith("open files, 2 more") and said[2].endswith("threads, 1 more") and said[3].endswith("sockets, 1 more")
    )
    assert int(said[0].rpartition(", ")[2].split()[0]) > len(kept) / 1024 / 2


def test_connections_to_postgres_are_counted_by_who_has_them(database_url: str, held: ExitStack) -> None:
    before = snapshot([], database_url=database_url)
    name = "somebody who leaks"
    for _ in range(3):
        held.enter_context(psycopg.connect(database_url, application_name=name))

    said = compare(before, snapshot([], database_url=database_url), EXACT)

    assert f"Postgres has 3 connections of {name}, 3 more" in said


def test_a_process_started_since_is_held_against_the_largest_of_its_name() -> None:
    before = Snapshot({"work": {1: Held(9, 50_000, 10, 5, 3), 2: Held(9, 60_000, 12, 4, 2)}})
    assert compare(before, Snapshot({"work": {3: Held(9, 60_000, 12, 5, 3)}}), EXACT) == []
    assert compare(before, Snapshot({"work": {3: Held(9, 90_000, 12, 5, 4)}}), EXACT) == [
        "work 3 has 90000 KiB of its own, 30000 more",
        "work 3 has 4 sockets, 1 more",
    ]


def test_one_that_has_ended_is_left_out() -> None:
    assert snapshot({"work": [2**22 + 1]}).processes == {"work": {}}


def test_what_lapses_by_itself_is_waited_for(held: ExitStack) -> None:
    before = snapshot([os.getpid()])
    extra = held.enter_context(socket.socket())
    looks = iter([lambda: None, extra.close])

    def look() -> Snapshot:
        next(looks)()
        return snapshot([os.getpid()])

    assert after_rest(before, look, EXACT, seconds=10) == []

"""How large a test is: small in `./stint test`, larger with `--all`, and what the guarantees say with STINT_TEST_FULL=1."""

import os
from collections.abc import Sequence
from typing import TypeVar

FULL = os.environ.get("STINT_TEST_FULL") == "1"
ALL = FULL or os.environ.get("STINT_TEST_ALL") == "1"  # set by tests/conftest.py and .ci/run

T = TypeVar("T")


def examples(of_full: int) -> int:
    """How many random examples a test makes: an eighth of `of_full` without STINT_TEST_FULL=1."""
    return of_full if FULL else max(5, of_full // 8)


def sample(values: Sequence[T], start: int) -> Sequence[T]:
    """All values with STINT_TEST_FULL=1, otherwise every eighth one, from `start`: with another start for each route, every
    value is tested on some routes, and every route with some values."""
    step = 1 if FULL else 8
    return values[start % min(step, len(values) or 1) :: step]


BACKLOG = 100_000 if FULL else 2_000  # messages, half of them bills and half mail

STOPS_WITHOUT_RABBITMQ = 1_000 if FULL else 200
OUTAGE_SECONDS = 40 if FULL else 5  # of Postgres: longer than two requests in a row that get their 503 after 2 s

STOPS, KILLS = (1_000, 50) if FULL else (200, 12)  # of workers and relay
APPROVALS, APPROVAL_KILLS = (500, 50) if FULL else (100, 6)
STORM_BILLS, STORM_KILLS = (500, 50) if FULL else (40, 4)  # while Xero fails often
STORM_LAG, STORM_LATE = (10, 20) if FULL else (1, 4)  # seconds that Xero's lists are behind, and that it executes requests late
MODEL_HISTORIES = 10_000 if FULL else 400 if ALL else 200  # of one bill and its entry in Xero
API_KILLS = 30 if FULL else 6
MAIL_KILLS = 5 if FULL else 3
CRASHES = 4 if FULL else 1  # at each crash point

# approved at Xero's own limits of 60 calls a minute, and how many of them the test waits for
LIMITED_BILLS, LIMITED_ENTRIES = (191, 191) if FULL else (120, 71)

BILLS = 1_000 if FULL else 200  # approved by one request

OPERATIONS = 500 if FULL else 50  # different ones among the 500 of one sync

CONTENTION_SECONDS = 4 if FULL else 1.5  # of concurrent changes by several clients

REMOVALS = 1_000 if FULL else 100 if ALL else 50  # of users who send requests all the time, 50 at once

STREAMS = 1_000 if FULL else 200  # of live events, open at the same time

REPLAYED = 20_000 if FULL else 500  # dead letters, while timers stop
DEAD_LETTERS = 200 if FULL else 10  # of each of five kinds
JUNK_LEADS = 10_000 if FULL else 800
PLANNED_ENTRIES = 1_000_000 if FULL else 300_000  # in the tables whose plans are looked at
PLANNED_DEAD_LETTERS = 100_000 if FULL else 10_000  # and ten times as many messages that are done
PLANNED_ROWS = 100_000 if FULL else 30_000  # of each kind, in the tables whose plans of a sync are looked at
WAITING_BILLS = 1_000 if FULL else 520  # for Xero: more than one chunk of 500
CRASH_HISTORIES = 40 if FULL else 4  # in each, Postgres crashes or is restored five times
HISTORIES = 500 if FULL else 12  # of two desktops
SLACK_REQUESTS = 1_000 if FULL else 150  # a hundred at a time
MUTATIONS = 10_000 if FULL else 500  # of what Slack sends
UPGRADED_ENTRIES, UPGRADED_MESSAGES = (1_000_000, 500_000) if FULL else (20_000, 10_000)

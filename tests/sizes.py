"""How large a test is: small in `./stint test --all`, and what is promised with STINT_TEST_FULL=1."""

import os

FULL = os.environ.get("STINT_TEST_FULL") == "1"

BACKLOG = 100_000 if FULL else 2_000  # messages, half of them bills and half mail

STOPS_WITHOUT_RABBITMQ = 1_000 if FULL else 500
OUTAGE_SECONDS = 40 if FULL else 5  # of Postgres: longer than two requests in a row that get their 503 after 2 s

STOPS, KILLS = (1_000, 50) if FULL else (200, 12)  # of workers and relay
APPROVALS, APPROVAL_KILLS = (500, 50) if FULL else (100, 6)
STORM_BILLS, STORM_KILLS = (500, 50) if FULL else (90, 6)  # with a Xero at its worst
API_KILLS = 30 if FULL else 6
MAIL_KILLS = 5 if FULL else 3
DEATHS = 4 if FULL else 2  # at each point of a message's way

LETTERS = 200 if FULL else 60  # of each of five kinds
JUNK_LEADS = 10_000 if FULL else 2_000
PLANNED_ENTRIES = 1_000_000 if FULL else 300_000  # in the tables whose plans are looked at
HISTORIES = 500 if FULL else 50  # of two desktops
SLACK_ASKED = 1_000 if FULL else 300  # times, a hundred at once
MUTATIONS = 10_000 if FULL else 4_000  # of what Slack sends

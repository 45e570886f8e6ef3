"""Why no connection to Postgres can be made, and what to do about it."""

from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict

AWAY = "start it, or fix DATABASE_URL and restart Stint"


@dataclass(frozen=True)
class Failure:
    """What keeps Stint from Postgres. `state` continues a sentence whose subject is Postgres."""

    state: str
    cure: str


NO_URL = Failure(
    "does not answer: DATABASE_URL is not the URL of a Postgres",
    "write postgresql://user:password@host/name, and in the password %40 for @, %2F for /, %3A for :",
)
# By what the text of the error contains, the first that fits. libpq passes no SQLSTATE on for a connection that fails. A server
# with messages in another language is shown by its own text.
_REFUSALS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("password authentication failed", "no password supplied"),
        "does not let Stint in: the password of the user {user} is wrong",
        "write the right password into DATABASE_URL and restart Stint; or set it in Postgres: ALTER ROLE {user} PASSWORD '…'",
    ),
    (
        ("role ",),
        "does not let Stint in: it has no user {user}, or not one that may log in",
        "fix the user in DATABASE_URL and restart Stint; or create it in Postgres: CREATE ROLE {user} LOGIN PASSWORD '…'",
    ),
    (
        ("database ",),
        "does not let Stint in: it has no database {dbname}, or the user {user} may not use it",
        "fix the name in DATABASE_URL and restart Stint; or create it (createdb {dbname}), then ./stint migrate",
    ),
    (
        ("pg_hba.conf", "authentication failed"),
        "does not let Stint in: its pg_hba.conf admits no user {user} from this machine",
        "add a line for this user, database and address to pg_hba.conf, then SELECT pg_reload_conf()",
    ),
    (
        ("too many clients", "remaining connection slots", "too many connections"),
        "does not let Stint in: all its connections are in use",
        "end those that nobody needs (SELECT application_name, count(*) FROM pg_stat_activity GROUP BY 1), run fewer "
        "processes, or raise max_connections and restart Postgres",
    ),
    (
        ("starting up", "not yet accepting", "recovery mode", "shutting down", "not accepting connections"),
        "does not answer: it is starting or stopping",
        "wait a minute; if it lasts, the log of Postgres says why",
    ),
    (
        ("session is read-only", "session is not read-only", "server is in hot standby"),
        "is read-only: none of the hosts in DATABASE_URL accepts writes",
        "if the primary runs, its default_transaction_read_only is on: find out why, and set it to off there. Only if the "
        "primary is lost, promote a standby (pg_ctl promote). Stint finds the one that accepts writes",
    ),
    (
        ("failed to resolve", "could not translate host name"),
        "does not answer: no machine has the name {host}",
        "fix the host in DATABASE_URL and restart Stint, or fix the name server",
    ),
    (("Connection refused", "No such file or directory"), "does not answer: none runs at {host}", AWAY),
    (
        ("timeout", "timed out", "No route to host", "unreachable"),
        "does not answer: {host} does not react",
        "look whether that machine runs, and whether the network and its firewalls let this one through",
    ),
)


def explain(error: BaseException, database_url: str) -> Failure:
    """What an error of connecting means. Never contains the password of DATABASE_URL."""
    try:
        url = conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:
        return NO_URL
    # what a password with an unescaped / or @ leaves in the parts after it
    if any("@" in name[1:] for name in str(url.get("host", "")).split(",")) or any(
        port and not port.isdecimal() for port in str(url.get("port", "")).split(",")
    ):
        return NO_URL
    text = " ".join(f"{error}".split()) if not isinstance(error, TimeoutError) else "timeout"
    names = {name: str(url.get(name) or "") for name in ("user", "dbname", "host")}
    names["user"] = names["user"] or "of this account"
    port = str(url.get("port") or "").strip(",")  # "," of two hosts without one
    names["host"] = f"{names['host'] or 'the local socket'}{':' + port if port else ''}"
    names["dbname"] = names["dbname"] or names["user"]
    for parts, state, cure in _REFUSALS:
        if any(_contains(text, part) for part in parts):
            return Failure(state.format(**names), cure.format(**names))
    return Failure(f"does not answer: {text[:300] or type(error).__name__}", AWAY)


def _contains(text: str, part: str) -> bool:
    """A word at the beginning of a refusal of the server counts there only."""
    return f"FATAL: {part}" in text if part in ("role ", "database ") else part in text

"""Finds all rows of a customer: every row of any table that can be reached from the customer's row by ids. New tables need no
change here."""

import secrets
from typing import Any

import psycopg

Conn = psycopg.Connection[Any]
MIN_LENGTH = 6  # characters; shorter texts may occur anywhere by chance

Columns = dict[str, dict[str, str]]


def fill_in(conn: Conn, ids: set[str]) -> None:
    """Writes a random text into every empty text column of these rows, so that a leak of any column is found. By SQL, because
    through the API some columns cannot be written."""
    for table, columns in _free_texts(conn).items():
        keys = [name for name, kind in _columns(conn)[table].items() if kind == "uuid"]
        for column in columns:
            conn.execute(
                f"UPDATE {table} SET {column} = %s WHERE coalesce({column}, '') = '' AND {_any(keys)}".encode(),
                [f"canary {secrets.token_hex(6)}", *[list(ids)] * len(keys)],
            )


def touch(conn: Conn, ids: set[str]) -> None:
    """Updates each of these rows without a change, which sends a live event."""
    for table, columns in _columns(conn).items():
        keys = [name for name, kind in columns.items() if kind == "uuid"]
        if keys and "changed_xid" in columns:
            conn.execute(f"UPDATE {table} SET {keys[0]} = {keys[0]} WHERE {_any(keys)}".encode(), [list(ids)] * len(keys))


def ids_of(conn: Conn, customer_id: str) -> set[str]:
    """Every id in a row that can be reached from the customer."""
    found: set[str] = set()
    reached = {customer_id}
    while reached - found:
        found |= reached
        reached = {
            str(value)
            for columns, row in _rows(conn, found)
            for kind, value in zip(columns.values(), row, strict=True)
            if kind == "uuid" and value is not None
        }
    return found


def texts_of(conn: Conn, ids: set[str]) -> set[str]:
    """Every text and every id in the rows that contain one of these ids."""
    return {
        text
        for columns, row in _rows(conn, ids)
        for kind, value in zip(columns.values(), row, strict=True)
        if kind in ("uuid", "text", "jsonb")
        for text in _texts(value)
        if len(text) >= MIN_LENGTH
    }


def _texts(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
        case None | bool() | int() | float():
            return []
        case _:
            return [str(value)]


def _rows(conn: Conn, ids: set[str]) -> list[tuple[dict[str, str], tuple[Any, ...]]]:
    found = []
    for table, columns in _columns(conn).items():
        keys = [name for name, kind in columns.items() if kind == "uuid"]
        if keys:
            query = f"SELECT {', '.join(columns)} FROM {table} WHERE {_any(keys)}"
            found += [(columns, row) for row in conn.execute(query.encode(), [list(ids)] * len(keys))]
    return found


def _any(keys: list[str]) -> str:
    return "(" + " OR ".join(f"{key} = ANY(%s::uuid[])" for key in keys) + ")"


def _columns(conn: Conn) -> Columns:
    """The columns of every table, with their types."""
    found: Columns = {}
    for table, column, kind in conn.execute(
        """
        SELECT c.relname, a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
        """
    ):
        found.setdefault(table, {})[column] = kind
    return found


def _free_texts(conn: Conn) -> dict[str, list[str]]:
    """The text columns without a constraint."""
    found: dict[str, list[str]] = {}
    for table, column in conn.execute(
        """
        SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.atttypid = 'text'::regtype
          AND EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = c.oid AND k.atttypid = 'uuid'::regtype)
          AND NOT EXISTS (
              SELECT FROM pg_constraint n WHERE n.conrelid = c.oid AND n.contype <> 'n' AND a.attnum = ANY(n.conkey))
        """
    ):
        found.setdefault(table, []).append(column)
    return found

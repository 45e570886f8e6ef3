"""What an error of connecting means, by its text."""

import psycopg
import pytest

from schemas.postgres.server.failures import NO_URL, explain


def test_several_hosts_that_refuse_writes_are_not_all_taken_for_standbys() -> None:
    """A standby that is promoted while the primary runs, and only refuses writes, would be a second primary."""
    text = "one: connection failed: session is read-only; two: connection failed: session is read-only"
    shown = explain(psycopg.OperationalError(text), "postgresql://stint@one,two/stint")
    assert shown.state == "is read-only: none of the hosts in DATABASE_URL accepts writes"
    assert "default_transaction_read_only is on" in shown.cure and "Only if the primary is lost, promote" in shown.cure


@pytest.mark.parametrize("password", ["left/right", "left@right", "left/ri@ght", "le:ft/right"])
def test_no_part_of_a_password_is_shown_that_is_not_written_as_a_url_has_it(password: str) -> None:
    error = psycopg.OperationalError("failed to resolve host 'right@db': Name or service not known")
    assert explain(error, f"postgresql://stint:{password}@db/stint") == NO_URL


@pytest.mark.parametrize("host", ["db", "a,b:5433", "%40abstract", "[::1]:5432", "%2Fvar%2Frun", ""])
def test_what_is_a_url_is_explained_by_the_error(host: str) -> None:
    assert "may not use it" in explain(psycopg.OperationalError('FATAL:  database "x"'), f"postgresql://{host}/x").state


@pytest.mark.parametrize("space", [" ", "  "])
def test_a_refusal_is_explained_for_one_host_and_for_several(space: str) -> None:
    """Of several, the text has each host with what it said, on one line; so also of `localhost` with two addresses."""
    for text, state in (
        ('role "nobody" does not exist', "it has no user nobody"),
        ('database "x" does not exist', "no database x"),
    ):
        refusal = f"connection failed: FATAL:{space}{text}"
        for url, said in (("h", refusal), ("one,two", f"one (10.0.0.1): {refusal}; two (10.0.0.2): {refusal}")):
            assert state in explain(psycopg.OperationalError(said), f"postgresql://nobody@{url}/x").state

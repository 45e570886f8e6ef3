"""The metrics of a Postgres."""

from schemas.diagnosis.postgres_health import PostgresHealth, Standby, lines


def test_of_several_standbys_with_one_name_the_metric_is_of_the_one_that_is_behind_most() -> None:
    """A standby without a name of its own is called walreceiver."""
    standbys = [Standby("walreceiver", count, 1.0) for count in (5, 700, 6)]
    assert 'stint_postgres_standby_behind_bytes{standby="walreceiver"} 700' in lines(PostgresHealth(standbys=standbys))

"""Commands about SECRET_KEY, which encrypts the secrets in Postgres."""

"""What the tests do with the user pool."""

from tests.support.given import Given, Person
from tests.support.user_pool import Mode, UserPool


def signed_in(people: Given, pool: UserPool, email: str) -> Person:
    return people.with_token(pool.tokens(email)["IdToken"], email)


def set_mode(pool: UserPool, mode: Mode) -> None:
    pool.line.mode = mode
    pool.line.cut()

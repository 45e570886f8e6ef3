"""The window to the identity provider: who gives people their accounts, and signs the tokens that speak for them.

Two providers, chosen by IDENTITY. `local` keeps people in Postgres, with the rest of Stint; `cognito` asks a user pool at AWS,
and its client library is imported only then.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from schemas import keys
from schemas.database import Database
from schemas.settings import Settings, SettingsMissing

Jwk = dict[str, Any]


@dataclass(frozen=True)
class Person:
    """Whom a provider is to give an account, or has given one. `role` is the raw custom:userRole, None without one."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None


@dataclass(frozen=True)
class Subject:
    """Somebody who has an account: `id` is the `sub` of their tokens, `username` what the provider calls them, None where that
    is the id."""

    id: UUID
    username: str | None
    person: Person


class Taken(Exception):
    """The address has an account already."""

    def __init__(self, holder: Subject) -> None:
        super().__init__("the address has an account already")
        self.holder = holder


class Identity(ABC):
    """A provider. What asks it raises Unavailable when it does not answer: then nothing was done, or it is found again when the
    same is asked once more."""

    @abstractmethod
    async def create(self, person: Person) -> Subject:
        """A new account, whose owner is written to by a provider outside Postgres. Raises Taken."""

    @abstractmethod
    async def correct(self, username: str, person: Person) -> None:
        """Gives an account that is there this name and role."""

    @abstractmethod
    async def remind(self, email: str) -> None:
        """Writes once more to somebody who was invited and has not come yet."""

    @abstractmethod
    async def remove(self, username: str) -> None:
        """Takes the account away; one that is gone already is no error."""

    @abstractmethod
    async def internal_people(self) -> list[Subject] | None:
        """The firm's own people, at most a minute old. None: they are those in Postgres."""

    @abstractmethod
    async def public_keys(self) -> list[Jwk]:
        """What tokens are signed with now, or were while some of them are still good."""


class Local(Identity):
    """People and keys in Postgres. Rows of `users` are the accounts, so there is nothing to be done elsewhere."""

    def __init__(self, database: Database | None) -> None:
        self._database = database

    async def create(self, person: Person) -> Subject:
        return Subject(uuid4(), None, person)

    async def correct(self, username: str, person: Person) -> None:
        return

    async def remind(self, email: str) -> None:
        return

    async def remove(self, username: str) -> None:
        return

    async def internal_people(self) -> list[Subject] | None:
        return None

    async def public_keys(self) -> list[Jwk]:
        assert self._database is not None, "only the API verifies tokens"
        async with self._database.connection() as conn:
            return [key.jwk for key in await keys.public_keys(conn)]


def identity(settings: Settings, database: Database | None = None) -> Identity:
    """The provider that is chosen. Raises SettingsMissing when its library is not there."""
    if settings.identity == "local":
        return Local(database)
    return _cognito(settings)


@cache
def _cognito(settings: Settings) -> Identity:
    try:
        from schemas.clients.cognito import Cognito
    except ModuleNotFoundError as error:
        raise SettingsMissing(
            f"IDENTITY=cognito needs the package {error.name}: install Stint with its extra, stint[cognito]."
        ) from error
    return Cognito(settings)

"""The interface of an identity provider: users' accounts, and the keys that their tokens are signed with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any
from uuid import UUID

Jwk = dict[str, Any]


@dataclass(frozen=True)
class Profile:
    """What an account says of its owner. `role` is the raw claim custom:userRole, None if there is none."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None


@dataclass(frozen=True)
class Account:
    """An account at the provider. `id` is the `sub` of its tokens; `username` is the provider's own name for it, None if that
    is `id`."""

    id: UUID
    username: str | None
    profile: Profile


@dataclass(frozen=True)
class AccountList:
    """Accounts that can sign in, as of `age_seconds` ago."""

    accounts: list[Account]
    age_seconds: float


class EmailTaken(Exception):
    """The address has an account already: `account`."""

    def __init__(self, account: Account) -> None:
        super().__init__("the address has an account already")
        self.account = account


class IdentityProvider(ABC):
    """A provider of accounts. Every method raises Unavailable when the provider does not answer; the call is then safe to
    repeat."""

    @abstractmethod
    async def create(self, profile: Profile) -> Account:
        """Creates an account; a provider outside Postgres then sends the invitation itself. Raises EmailTaken."""

    @abstractmethod
    async def update(self, username: str, profile: Profile) -> None:
        """Sets the name and the role of an existing account."""

    @abstractmethod
    async def resend_invitation(self, email: str) -> None:
        """Sends the invitation again to a user who has not signed in yet."""

    @abstractmethod
    async def delete(self, username: str) -> None:
        """Deletes the account. An account that does not exist is no error."""

    @abstractmethod
    async def get_account(self, user_id: UUID) -> Account | None:
        """The account as it is now. None if there is none, or if it is disabled."""

    @abstractmethod
    async def list_accounts(self) -> list[Account]:
        """All accounts that are enabled, the firm's and the customers'."""

    @abstractmethod
    async def list_internal_users(self) -> AccountList | None:
        """The firm's own people, at most a minute old. None: the table `users` has them."""

    @abstractmethod
    async def public_keys(self) -> list[Jwk]:
        """The keys that sign tokens now, and retired ones while tokens that they signed are still valid."""

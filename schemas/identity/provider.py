"""Chooses the identity provider by the setting IDENTITY.

`local` keeps accounts in Postgres; `cognito` uses a user pool at AWS, and its client library is imported only then.
"""

from functools import cache
from uuid import UUID, uuid4

from schemas.identity import signing_keys
from schemas.identity.accounts import Account, AccountList, IdentityProvider, Jwk, Profile
from schemas.postgres.pool import Database
from schemas.settings import Settings, SettingsMissing


class LocalProvider(IdentityProvider):
    """Accounts and keys in Postgres. The rows of `users` are the accounts, so most methods have nothing to do."""

    def __init__(self, database: Database | None) -> None:
        self._database = database

    async def create(self, profile: Profile) -> Account:
        return Account(uuid4(), None, profile)

    async def update(self, username: str, profile: Profile) -> None:
        return

    async def resend_invitation(self, email: str) -> None:
        return

    async def delete(self, username: str) -> None:
        return

    async def get_account(self, user_id: UUID) -> Account | None:
        raise NotImplementedError("the rows of `users` are the accounts")

    async def list_accounts(self) -> list[Account]:
        raise NotImplementedError("the rows of `users` are the accounts")

    async def list_internal_users(self) -> AccountList | None:
        return None

    async def public_keys(self) -> list[Jwk]:
        assert self._database is not None, "only the API verifies tokens"
        async with self._database.connection() as conn:
            return [key.jwk for key in await signing_keys.public_keys(conn)]


def identity_provider(settings: Settings, database: Database | None = None) -> IdentityProvider:
    """The provider that IDENTITY names. Raises SettingsMissing when its library is not installed."""
    if settings.identity == "local":
        return LocalProvider(database)
    return _cognito(settings)


@cache
def _cognito(settings: Settings) -> IdentityProvider:
    try:
        from schemas.identity.cognito import CognitoProvider
    except ModuleNotFoundError as error:
        raise SettingsMissing(
            f"IDENTITY=cognito needs the package {error.name}: install Stint with its extra, stint[cognito]."
        ) from error
    return CognitoProvider(settings)

"""The identity provider at AWS: a Cognito user pool (IDENTITY=cognito), through boto3.

boto3 blocks, and a blocked call cannot be interrupted: calls run in a thread pool of this module, with socket timeouts and
without boto3's own retries. Users sign in by e-mail address: the pool's UsernameAttributes are [email], so the username of an
account is its sub, which is never used again.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from schemas.email_addresses import one_spelling
from schemas.errors import Invalid, Unavailable
from schemas.identity import jwks, users
from schemas.identity.accounts import Account, AccountList, EmailTaken, IdentityProvider, Profile
from schemas.names import clean_name_of_account
from schemas.settings import Settings

logger = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 1, 3
CALL_SECONDS = 5.0  # for a whole call: READ_SECONDS start again with each byte
MAX_CONCURRENT_CALLS = 8
PAGE_SIZE = 60  # the maximum of ListUsers
CACHE_SECONDS = 60.0
NO_CREDENTIALS = (NoCredentialsError, CredentialRetrievalError)
UNUSABLE_CREDENTIALS = (PartialCredentialsError, ProfileNotFound, ConfigParseError)


class CognitoProvider(IdentityProvider):
    """One user pool."""

    def __init__(self, settings: Settings) -> None:
        assert settings.cognito_user_pool_id is not None and settings.auth_jwks_url is not None  # the settings check it
        self._pool_id, self._jwks_url = settings.cognito_user_pool_id, settings.auth_jwks_url
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_CALLS, thread_name_prefix="cognito")
        self._settings = settings
        self._client: Any = None
        self._client_lock = threading.Lock()
        with suppress(BotoCoreError):  # each call says it, and tries again
            self._connected()
        self._internal_users: list[Account] = []
        self._fetched_at = float("-inf")
        self._fetch_lock = asyncio.Lock()

    async def create(self, profile: Profile) -> Account:
        customer_id = str(profile.customer_id)
        attributes = _attributes(profile, email=profile.email, email_verified="true", **{"custom:customerId": customer_id})
        try:
            response = await self._call(
                "admin_create_user",
                Username=profile.email,
                UserAttributes=attributes,
                DesiredDeliveryMediums=["EMAIL"],  # the default is SMS
            )
        except ClientError as error:
            if _code(error) not in ("UsernameExistsException", "AliasExistsException"):
                raise _domain_error(error) from error
            raise EmailTaken(await self._get(profile.email)) from None
        return _account(response["User"]["Username"], response["User"]["Attributes"])

    async def _get(self, email: str) -> Account:
        try:
            response = await self._call("admin_get_user", Username=email)
        except ClientError as error:  # for example, the account has been deleted since
            raise _domain_error(error) from error
        return _account(response["Username"], response["UserAttributes"])

    async def get_account(self, user_id: UUID) -> Account | None:
        try:
            response = await self._call("admin_get_user", Username=str(user_id))
        except ClientError as error:
            if _code(error) == "UserNotFoundException":
                return None
            raise _domain_error(error) from error
        return _account(response["Username"], response["UserAttributes"]) if response.get("Enabled", True) else None

    async def update(self, username: str, profile: Profile) -> None:
        try:
            await self._call("admin_update_user_attributes", Username=username, UserAttributes=_attributes(profile))
        except ClientError as error:
            raise _domain_error(error) from error

    async def resend_invitation(self, email: str) -> None:
        try:
            await self._call("admin_create_user", Username=email, MessageAction="RESEND", DesiredDeliveryMediums=["EMAIL"])
        except ClientError as error:
            # the user has signed in or was removed meanwhile: nothing to do
            if _code(error) not in ("UnsupportedUserStateException", "UserNotFoundException"):
                raise _domain_error(error) from error

    async def delete(self, username: str) -> None:
        try:
            # refresh tokens end with the account; users.revoked_at refuses tokens that were issued before
            await self._call("admin_delete_user", Username=username)
        except ClientError as error:
            if _code(error) != "UserNotFoundException":
                raise _domain_error(error) from error

    async def list_internal_users(self) -> AccountList | None:
        async with self._fetch_lock:
            if time.monotonic() - self._fetched_at > CACHE_SECONDS:
                started = time.monotonic()
                try:
                    self._internal_users = await self._fetch_internal_users()
                except ClientError as error:
                    raise _domain_error(error) from error
                self._fetched_at = started
            return AccountList(self._internal_users, time.monotonic() - self._fetched_at)

    async def list_accounts(self) -> list[Account]:
        try:
            return [_account(user["Username"], user["Attributes"]) async for user in self._enabled_users()]
        except ClientError as error:
            raise _domain_error(error) from error

    async def _fetch_internal_users(self) -> list[Account]:
        """ListUsers cannot filter by custom attributes, so this fetches all pages."""
        return [
            _account(user["Username"], user["Attributes"])
            async for user in self._enabled_users()
            if _is_internal(user["Attributes"])
        ]

    async def _enabled_users(self) -> AsyncIterator[dict[str, Any]]:
        """Any page may be short or empty. One call after the other: AWS allows 30 a second."""
        position: dict[str, Any] = {}
        while True:
            page = await self._call("list_users", Limit=PAGE_SIZE, **position)
            for user in page["Users"]:
                if user.get("Enabled", True):
                    yield user
            if not (token := page.get("PaginationToken")):
                return
            position = {"PaginationToken": token}

    async def public_keys(self) -> list[dict[str, Any]]:
        return await jwks.fetch(self._jwks_url)

    def _connected(self) -> Any:
        """The client of the pool. Raises BotoCoreError for credentials that are not complete, or whose file cannot be read."""
        with self._client_lock:
            if self._client is None:
                self._client = boto3.client(
                    "cognito-idp",
                    region_name=self._settings.cognito_region,
                    endpoint_url=self._settings.cognito_endpoint_url,
                    config=Config(
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=READ_SECONDS,
                        retries={"total_max_attempts": 1},
                        max_pool_connections=MAX_CONCURRENT_CALLS,
                    ),
                )
            return self._client

    async def _call(self, operation: str, **parameters: Any) -> Any:
        """Calls the user pool. Raises ClientError when it refuses, Unavailable when it does not answer."""

        def call() -> Any:
            return getattr(self._connected(), operation)(UserPoolId=self._pool_id, **parameters)

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await loop.run_in_executor(self._threads, call)
        except ParamValidationError as error:
            raise Invalid("email", "The user pool does not accept this address.") from error
        except (BotoCoreError, TimeoutError) as error:
            name = type(error).__name__
            if isinstance(error, UNUSABLE_CREDENTIALS):
                name = f"{name}: {error}"  # of the environment or the file, without values of it
            if isinstance(error, NO_CREDENTIALS + UNUSABLE_CREDENTIALS):
                logger.warning("no credentials for the user pool operation=%s error=%s", operation, name)
                raise _unavailable(f"Stint has no credentials of AWS for it ({name})") from error
            logger.warning("user pool does not answer operation=%s error=%s", operation, name)
            raise _unavailable(f"it does not answer ({name})") from error


def _attributes(profile: Profile, **more: str) -> list[dict[str, str]]:
    values = {"name": profile.name, "custom:userRole": profile.role or ""} | more
    return [{"Name": name, "Value": value} for name, value in values.items()]


def _account(username: str, attributes: list[dict[str, str]]) -> Account:
    values = _as_dict(attributes)
    email = one_spelling(values.get("email", ""))
    customer_id = _uuid(values.get("custom:customerId"))
    name = clean_name_of_account(values.get("name", ""))
    profile = Profile(email, name or email, values.get("custom:userRole"), customer_id)
    return Account(UUID(values["sub"]), username, profile)


def _is_internal(attributes: list[dict[str, str]]) -> bool:
    """Whether the user is internal, or has neither role nor customer: only tokens decide who is a legacy admin."""
    values = _as_dict(attributes)
    role = values.get("custom:userRole")
    if role is None:
        return "custom:customerId" not in values
    return users.parse_role(role) in (users.Role.admin, users.Role.internal)


def _as_dict(attributes: list[dict[str, str]]) -> dict[str, str]:
    return {attribute["Name"]: attribute["Value"] for attribute in attributes}


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _domain_error(error: ClientError) -> Exception:
    """The domain's error for a refusal of the user pool."""
    code = _code(error)
    if code == "InvalidParameterException":
        return Invalid("email", "The user pool does not accept this address or this name.")
    logger.warning("user pool refuses the call code=%s", code)
    return _unavailable(f"it refuses the call ({code})")


def _unavailable(reason: str) -> Unavailable:
    return Unavailable("The user pool does not answer right now; try again in a moment.", reason=reason)

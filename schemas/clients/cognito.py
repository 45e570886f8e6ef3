"""The window to a user pool at AWS (IDENTITY=cognito), through boto3.

boto3 blocks, and nothing can interrupt it: each call runs in a thread of its own pool, with deadlines on its socket and without
retries of its own. People sign in by their address: the pool's UsernameAttributes are [email], so the username of an account is
its sub, which never comes again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from schemas import users
from schemas.clients import jwks
from schemas.clients.identity import Identity, Person, Subject, Taken
from schemas.errors import Invalid, Unavailable
from schemas.settings import Settings

logger = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 1, 3
CALLS_AT_ONCE = 8
PAGE = 60  # the most that ListUsers gives
CACHED_SECONDS = 60.0

Attributes = dict[str, str]


class Cognito(Identity):
    """One user pool."""

    def __init__(self, settings: Settings) -> None:
        assert settings.cognito_user_pool_id is not None and settings.auth_jwks_url is not None  # the settings see to it
        self._pool, self._jwks_url = settings.cognito_user_pool_id, settings.auth_jwks_url
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="cognito")
        self._client: Any = boto3.client(
            "cognito-idp",
            region_name=settings.cognito_region,
            endpoint_url=settings.cognito_endpoint_url,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 1},
                max_pool_connections=CALLS_AT_ONCE,
            ),
        )
        self._people: list[Subject] = []
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def create(self, person: Person) -> Subject:
        try:
            # Cognito would send an SMS if it were not told to write
            answer = await self._ask(
                "admin_create_user",
                Username=person.email,
                UserAttributes=_attributes(
                    person, email=person.email, email_verified="true", **{"custom:customerId": str(person.customer_id)}
                ),
                DesiredDeliveryMediums=["EMAIL"],
            )
        except ClientError as error:
            if _code(error) not in ("UsernameExistsException", "AliasExistsException"):
                raise _refusal(error) from error
            raise Taken(await self._holder(person.email)) from None
        return _subject(answer["User"]["Username"], answer["User"]["Attributes"])

    async def _holder(self, email: str) -> Subject:
        try:
            answer = await self._ask("admin_get_user", Username=email)
        except ClientError as error:  # removed at this very moment, perhaps
            raise _refusal(error) from error
        return _subject(answer["Username"], answer["UserAttributes"])

    async def correct(self, username: str, person: Person) -> None:
        try:
            await self._ask("admin_update_user_attributes", Username=username, UserAttributes=_attributes(person))
        except ClientError as error:
            raise _refusal(error) from error

    async def remind(self, email: str) -> None:
        try:
            await self._ask("admin_create_user", Username=email, MessageAction="RESEND", DesiredDeliveryMediums=["EMAIL"])
        except ClientError as error:
            # they have come meanwhile, or were removed: nothing is left to remind them of
            if _code(error) not in ("UnsupportedUserStateException", "UserNotFoundException"):
                raise _refusal(error) from error

    async def remove(self, username: str) -> None:
        try:
            # refresh tokens end with the account; tokens that are out already are refused by users.revoked_at
            await self._ask("admin_delete_user", Username=username)
        except ClientError as error:
            if _code(error) != "UserNotFoundException":
                raise _refusal(error) from error

    async def internal_people(self) -> list[Subject] | None:
        async with self._reading:
            if time.monotonic() - self._read_at > CACHED_SECONDS:
                try:
                    self._people = await self._read_people()
                except ClientError as error:
                    raise _refusal(error) from error
                self._read_at = time.monotonic()
        return self._people

    async def _read_people(self) -> list[Subject]:
        """Custom attributes can't be searched for: everybody is read, a page at a time, of which any may be short or empty."""
        people: list[Subject] = []
        where: dict[str, Any] = {}
        while True:
            page = await self._ask("list_users", UserPoolId=self._pool, Limit=PAGE, **where)
            for user in page["Users"]:
                if user.get("Enabled", True) and _is_internal(user["Attributes"]):
                    people.append(_subject(user["Username"], user["Attributes"]))
            if not (token := page.get("PaginationToken")):
                return people
            where = {"PaginationToken": token}

    async def public_keys(self) -> list[dict[str, Any]]:
        return await jwks.fetch(self._jwks_url)

    async def _ask(self, operation: str, **parameters: Any) -> Any:
        call: Callable[..., Any] = getattr(self._client, operation)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: call(**{"UserPoolId": self._pool} | parameters))
        except ParamValidationError as error:
            raise Invalid("email", "The user pool does not take this address.") from error
        except BotoCoreError as error:  # no connection, no answer in time, no credentials
            logger.warning("the user pool does not answer to %s: %s", operation, type(error).__name__)
            raise _unavailable() from error


def _attributes(person: Person, **more: str) -> list[dict[str, str]]:
    values = {"name": person.name, "custom:userRole": person.role or ""} | more
    return [{"Name": name, "Value": value} for name, value in values.items()]


def _subject(username: str, attributes: list[dict[str, str]]) -> Subject:
    said = _said(attributes)
    person = Person(said.get("email", ""), _name(said), said.get("custom:userRole"), _uuid(said.get("custom:customerId")))
    return Subject(UUID(said["sub"]), username, person)


def _name(said: Attributes) -> str:
    return said.get("name") or said.get("email", "")


def _is_internal(attributes: list[dict[str, str]]) -> bool:
    """Of the firm, or nobody's: whether one without role and customer is a legacy admin is not for the pool to say."""
    said = _said(attributes)
    role = said.get("custom:userRole")
    if role is None:
        return "custom:customerId" not in said
    return users.role_of(role) in (users.Role.admin, users.Role.internal)


def _said(attributes: list[dict[str, str]]) -> Attributes:
    return {attribute["Name"]: attribute["Value"] for attribute in attributes}


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: ClientError) -> Exception:
    """What the pool's refusal means to whoever asked."""
    code = _code(error)
    if code == "InvalidParameterException":
        return Invalid("email", "The user pool does not take this address or this name.")
    logger.warning("the user pool refuses: %s", code)
    return _unavailable()


def _unavailable() -> Unavailable:
    return Unavailable("The user pool does not answer right now; try again in a moment.")

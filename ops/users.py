"""`./stint token`, `./stint user` and `./stint rotate-signing-key`: people, tokens and keys of the local identity provider."""

import argparse
import asyncio
import json
from collections.abc import Coroutine
from typing import Any
from uuid import UUID, uuid4

from ops.errors import CommandError
from schemas import customers, keys, sign_in, users
from schemas.database import Connection, connect
from schemas.keys import Claims
from schemas.settings import settings
from schemas.users import Account


def run_token(args: argparse.Namespace) -> int:
    """Prints a token for `--role`, `--email` and perhaps `--customer`, and nothing else."""
    return _run(_token(args.role, args.email, args.customer))


def run_user(args: argparse.Namespace) -> int:
    """`add`, `list` or `remove`, by `args.action`."""
    match args.action:
        case "add":
            return _run(_add(args.email, args.name, args.role))
        case "list":
            return _run(_list(as_json=args.json))
        case _:
            return _run(_remove(args.email))


def run_rotate(args: argparse.Namespace) -> int:
    """Makes a new key to sign with; with `args.distrust` nothing is believed that was signed before."""
    return _run(_rotate(distrust=args.distrust))


def _run(command: Coroutine[Any, Any, str]) -> int:
    if settings().people_are_outside:
        command.close()
        raise CommandError(
            f"This is for the local identity provider, and IDENTITY is {settings().identity}: people, tokens and keys are "
            "those of its user pool; see to them there."
        )
    print(asyncio.run(command))
    return 0


async def make_token(*, role: str, email: str, customer_id: UUID | None = None) -> str:
    """A token valid for 12 hours. The same address gets the same user each time; a new one is made on the way.

    `role` is any `custom:userRole`, or `none` to leave it out. Raises CommandError for a removed user.
    """
    given = settings()
    claim = None if role == "none" else role
    async with await connect(given) as conn, conn.transaction():
        account = await _account(conn, email)
        if account is None:
            account = await _create(conn, email=email, name=_name_of(email), role=claim, customer_id=customer_id)
        elif account.revoked:
            raise CommandError(f"{email} was removed; ./stint user add {email} lets them in again.")
        claims = Claims(account.id, account.email, account.name, claim, customer_id)
        return await keys.sign(
            conn,
            claims,
            secret_key=given.secret_key.get_secret_value(),
            issuer=given.auth_issuer,
            client_id=given.own_client_id,
        )


async def _token(role: str, email: str, customer: str | None) -> str:
    is_a_customers = users.is_a_customers(role)
    if is_a_customers != (customer is not None):
        raise CommandError(
            f"The role {role} needs --customer ID: whose data it may see."
            if is_a_customers
            else f"--customer goes with the roles customer_admin and customer_user only, not with {role}."
        )
    try:
        customer_id = UUID(customer) if customer is not None else None
    except ValueError:
        raise CommandError(f"{customer} is no customer's id; GET /api/customers lists them.") from None
    if role != "none" and users.role_of(role) is None:
        raise CommandError(
            f"{role} is no role; take internal_admin, internal_user (or another that begins with internal_), customer_admin, "
            "customer_user, or none to leave it out."
        )
    _check(email)
    if customer_id is not None:
        async with await connect(settings()) as conn:
            if not await customers.exists(conn, customer_id):
                raise CommandError(f"There is no customer {customer_id}, or no longer; GET /api/customers lists them.")
    return await make_token(role=role, email=email, customer_id=customer_id)


async def _add(email: str, name: str | None, role: str) -> str:
    _check(email)
    async with await connect(settings()) as conn, conn.transaction():
        account = await _account(conn, email)
        if account is None:
            account = await _create(conn, email=email, name=name or _name_of(email), role=role, customer_id=None)
            return f"Added {account.email} ({role}), id {account.id}."
        await users.remember(conn, account.id, email=account.email, name=name or account.name, role=role, customer_id=None)
        await users.set_revoked(conn, account.id, False)
        return f"{account.email} may sign in ({role}), id {account.id}."


async def _list(*, as_json: bool) -> str:
    async with await connect(settings()) as conn:
        accounts = await users.accounts(conn)
    if as_json:
        return json.dumps([account.model_dump(mode="json") for account in accounts], indent=2)
    if not accounts:
        return "Nobody yet; ./stint user add EMAIL adds a consultant."
    width = max(len(account.email) for account in accounts)
    return "\n".join(
        f"{account.email:<{width}}  {account.role or 'no role':<16}  {account.id}{'  removed' if account.revoked else ''}"
        for account in accounts
    )


async def _remove(email: str) -> str:
    async with await connect(settings()) as conn, conn.transaction():
        account = await _account(conn, email)
        if account is None:
            raise CommandError(f"Nobody has the address {email}; ./stint user list shows who is there.")
        await users.set_revoked(conn, account.id, True)
        await sign_in.forget(conn, account.id)
        return f"Removed {account.email}: every request of theirs is refused from now on. Their hours stay."


async def _rotate(*, distrust: bool) -> str:
    async with await connect(settings()) as conn:
        kid = await keys.rotate(conn, settings().secret_key.get_secret_value(), distrust=distrust)
    if distrust:
        return f"The key {kid} signs from now on. Older tokens are refused within two minutes: everybody has to sign in again."
    return f"The key {kid} signs from now on. Tokens signed before stay good until they expire, 12 hours at most."


async def _account(conn: Connection, email: str) -> Account | None:
    """The user with that address. Two commands at once for a new address queue up here, so that only one makes it."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(lower(%s), 0))", (email,))
    return next(iter(await users.accounts(conn, email)), None)


async def _create(conn: Connection, *, email: str, name: str, role: str | None, customer_id: UUID | None) -> Account:
    user_id = uuid4()
    await users.remember(conn, user_id, email=email, name=name, role=role, customer_id=customer_id)
    return Account(id=user_id, email=email, name=name, role=role, customer_id=customer_id, revoked=False)


def _name_of(email: str) -> str:
    return email.partition("@")[0].replace(".", " ").replace("_", " ").title()


def _check(email: str) -> None:
    local, at, domain = email.partition("@")
    if not (local and at and domain) or any(character.isspace() for character in email):
        raise CommandError(f"{email!r} is no e-mail address.")

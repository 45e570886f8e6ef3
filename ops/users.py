"""`./stint token`, `./stint user` and `./stint rotate-signing-key`: users, tokens and keys of the local identity provider."""

import argparse
import asyncio
import json
from collections.abc import Coroutine
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from ops.errors import CommandError, explains_itself
from ops.state import State
from schemas.base import Name
from schemas.errors import Conflict, Invalid, NotFound
from schemas.identity import console_sessions, local_accounts, signing_keys, users
from schemas.identity.local_accounts import AccountRemoved, NewAccount
from schemas.identity.users import LocalUser
from schemas.postgres.connection import Connection, connect
from schemas.settings import settings


def run_token(args: argparse.Namespace) -> int:
    """Prints only a token, for `--role`, `--email` and `--customer`."""
    return _run(_token(args.role, args.email, args.customer))


async def answer_token(*, role: str, email: str, customer: str | None) -> dict[str, str]:
    """What `./stint up` answers when it is asked for a token (ops/running/token.py): `token`, or `error`, a sentence."""
    try:
        _refuse_external_identity()
        return {"token": await _token(role, email, customer)}
    except Exception as error:
        if not (isinstance(error, CommandError) or explains_itself(error)):
            raise
        return {"error": str(error)}


def run_console(args: argparse.Namespace) -> int:
    """Prints a link that signs the user in to the console of the running `./stint up`, once."""
    run = State(args.state).own_run()
    if run is None:
        raise CommandError("No ./stint up runs here, and the link works only on its machine. Sign in at /console with a code.")
    return _run(make_link(args.email, run.url))


def run_user(args: argparse.Namespace) -> int:
    """Runs `add`, `list`, `remove` or `sign-out`."""
    match args.action:
        case "add":
            return _run(_add(args.email, args.name, args.role))
        case "list":
            return _run(_list(as_json=args.json))
        case "remove":
            if args.end_time is not None and not args.stop_timer:
                raise CommandError("--end-time needs --stop-timer.")
            return _run(_remove(args.email, stop_timer=args.stop_timer, end_time=args.end_time))
        case _:
            return _run(_sign_out(args.email), any_provider=True)


def run_rotate(args: argparse.Namespace) -> int:
    """Creates a new signing key. With `--distrust` all tokens that older keys signed become invalid."""
    return _run(_rotate(revoke_old=args.distrust))


def _run(command: Coroutine[Any, Any, str], *, any_provider: bool = False) -> int:
    if not any_provider:
        try:
            _refuse_external_identity()
        except CommandError:
            command.close()
            raise
    print(asyncio.run(command))
    return 0


def _refuse_external_identity() -> None:
    if settings().uses_external_identity:
        raise CommandError(
            f"This command is for the local identity provider, and IDENTITY is {settings().identity}: manage users, tokens and "
            "keys in its user pool."
        )


async def make_token(*, role: str, email: str, customer_id: UUID | None = None) -> str:
    """A token that is valid for 12 hours. A user is created for a new address; a known user gets this role and customer.

    `role` is any `custom:userRole`, or `none` for a token without one. Raises CommandError for a removed user, and for a new
    address that mail cannot be sent to.
    """
    async with await connect(settings()) as conn, conn.transaction():
        if await local_accounts.find(conn, email) is None:  # what is stored was checked, and that takes 30 ms
            email = _checked(email)
        new = NewAccount(email, _name_of(email), None if role == "none" else role, customer_id)
        try:
            return await local_accounts.issue_token(conn, new, settings())
        except AccountRemoved as error:
            raise CommandError(str(error)) from None


async def ensure_first_admin(email: str) -> bool:
    """Creates the admin of a new installation. False if somebody has removed that user or given them another role since, and if
    the users are in a user pool."""
    if settings().uses_external_identity:
        return False
    async with await connect(settings()) as conn, conn.transaction():
        account = await local_accounts.find(conn, email)
        if account is None:
            account = await local_accounts.create(conn, NewAccount(email, _name_of(email), "internal_admin"))
        return not account.revoked and account.role == "internal_admin"


async def make_link(email: str, url: str) -> str:
    """A link that signs the user in to the console at that URL, once. Raises CommandError for a user without access."""
    async with await connect(settings()) as conn, conn.transaction():
        account = await local_accounts.find(conn, _checked(email))
        if account is None or account.revoked or users.parse_role(account.role) is None:
            raise CommandError(f"{email} has no account, or no access; ./stint user add {email} --role internal_admin adds it.")
        return f"{url}/console/link?token={await console_sessions.create_link(conn, account.id)}"


async def _token(role: str, email: str, customer: str | None) -> str:
    is_a_customers = users.is_customer_role(role)
    if is_a_customers != (customer is not None):
        raise CommandError(
            f"The role {role} needs --customer ID: the customer whose data it may see."
            if is_a_customers
            else f"--customer is only for the roles customer_admin and customer_user, not for {role}."
        )
    try:
        customer_id = UUID(customer) if customer is not None else None
    except ValueError:
        raise CommandError(f"{customer} is not a customer's id; GET /api/customers lists them.") from None
    if role != "none" and users.parse_role(role) is None:
        raise CommandError(
            f"{role} is not a role; use internal_admin, internal_user (or another that begins with internal_), customer_admin, "
            "customer_user, or none for a token without a role."
        )
    if customer_id is not None:
        from schemas.customers import customers

        async with await connect(settings()) as conn:
            if not await customers.exists(conn, customer_id):
                raise CommandError(f"There is no customer {customer_id}; GET /api/customers lists them.")
    return await make_token(role=role, email=email, customer_id=customer_id)


async def _add(email: str, name: str | None, role: str | None) -> str:
    email, name = _checked(email), _checked_name(name)
    async with await connect(settings()) as conn, conn.transaction():
        account = await local_accounts.find(conn, email)
        if account is None:
            account = await local_accounts.create(conn, NewAccount(email, name or _name_of(email), role or "internal_user"))
            return f"Added {account.email} ({account.role}), id {account.id}."
        role = role or _present_role(account)
        await local_accounts.change(conn, account, name=name, role=role)
        return f"{account.email} can sign in ({role}), id {account.id}."


def _present_role(account: LocalUser) -> str:
    """The role that a known user has after `user add` without `--role`. Raises CommandError for a customer's user, who must not
    become one of the firm's own people by the way."""
    if account.customer_id is not None or users.is_customer_role(account.role):
        raise CommandError(
            f"{account.email} is a customer's user. --role internal_user makes them one of the firm's own people; an "
            "invitation (POST /api/customers/ID/users/invite) gives a removed one access to their customer again."
        )
    return "internal_user" if account.revoked or account.role is None else account.role


async def _list(*, as_json: bool) -> str:
    async with await connect(settings()) as conn:
        accounts = await users.list_local_users(conn)
    if as_json:
        return json.dumps([account.model_dump(mode="json") for account in accounts], indent=2)
    if not accounts:
        return "No users yet; ./stint user add EMAIL adds a consultant."
    width = max(len(account.email) for account in accounts)
    return "\n".join(
        f"{account.email:<{width}}  {account.role or 'no role':<16}  {account.id}{'  removed' if account.revoked else ''}"
        for account in accounts
    )


async def _remove(email: str, *, stop_timer: bool, end_time: datetime | None) -> str:
    from schemas.identity import leftovers

    async with await connect(settings()) as conn, conn.transaction():
        account = await _find(conn, email)
        await local_accounts.remove(conn, account.id)
        said = [f"Removed {account.email}: all their requests are refused from now on. Their hours stay."]
        if stop_timer:
            said.append(await _stop_timer(conn, account, end_time))
        return "\n".join([*said, *(await leftovers.find(conn, account.id)).sentences(account.id, account.email)])


async def _stop_timer(conn: Connection, account: LocalUser, end_time: datetime | None) -> str:
    from schemas import wording
    from schemas.hours import timer_stops
    from schemas.hours.timer_stops import TimerStop

    try:
        receipt = await timer_stops.stop_any(conn, TimerStop.model_validate({"endTime": end_time}), user_id=account.id, by=None)
    except NotFound:
        return "No timer of theirs is running."
    except ValidationError as error:
        raise CommandError(f"Nothing was changed: {wording.problems(TimerStop, error)[0].message}") from None
    except (Conflict, Invalid) as error:
        raise CommandError(f"Nothing was changed: {error.detail}") from None
    stop = receipt.stop
    return f"Their timer ended at {stop.end_time:%Y-%m-%dT%H:%M:%SZ}, after {stop.duration:,} s: time entry {stop.entry_id}."


async def _sign_out(email: str) -> str:
    async with await connect(settings()) as conn, conn.transaction():
        account = await _find(conn, email)
        # the pool's clock may be ahead of Postgres's
        wait_seconds = users.CLOCK_SECONDS if settings().uses_external_identity else 0
        await users.end_sessions(conn, account.id, ahead_seconds=wait_seconds)
        again = "in a minute" if wait_seconds else "again"
        return f"Signed out {account.email}: every token that they have is refused from now on. They can sign in {again}."


async def _find(conn: Connection, email: str) -> LocalUser:
    from schemas.email_addresses import one_spelling

    for spelling in dict.fromkeys((email, one_spelling(email))) if email else ():  # users without an address have ""
        if (account := await local_accounts.find(conn, spelling)) is not None:
            return account
    raise CommandError(f"No user has the address {email!a}; ./stint user list shows all of them.")


async def _rotate(*, revoke_old: bool) -> str:
    async with await connect(settings()) as conn:
        kid = await signing_keys.rotate_keys(conn, settings().secret_key.get_secret_value(), revoke_old=revoke_old)
    if revoke_old:
        return f"The key {kid} signs from now on. Older tokens are refused within two minutes: all users have to sign in again."
    return f"The key {kid} signs from now on. Older tokens remain valid until they expire, after 12 hours at most."


def _name_of(email: str) -> str:
    return email.partition("@")[0].replace(".", " ").replace("_", " ").title()


def _checked_name(name: str | None) -> str | None:
    """The name as it is stored. Raises CommandError for one that nobody can read."""
    try:
        return TypeAdapter(Name).validate_python(name) if name else None
    except ValidationError:
        raise CommandError(f"{name!a} is not a name: it needs 1 to 200 characters that can be seen.") from None


def _checked(email: str) -> str:
    """The address as it is stored. Raises CommandError for one that mail cannot be sent to."""
    from schemas.email_addresses import MAX_LENGTH, Email

    try:
        return TypeAdapter(Email).validate_python(email)
    except ValidationError as error:
        why = error.errors()[0].get("ctx", {}).get("error") or f"it has more than {MAX_LENGTH} characters"
        raise CommandError(f"{email!a} is not an e-mail address: {why}.") from None

"""Checks of access, after Xero has refused a call: does Stint still have access to the connected organisation?

A check renews the access token. Then it requests from Xero the organisations that the token gives access to, and the projects
of the connected one.

One CheckAccess message at a time makes the check. Its id is in the connection's row. While access is lost, each enqueues the
next one. The rescuer enqueues one if there is none.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import oauth, rate_limits, tokens
from schemas.xero.access import loss
from schemas.xero.access.problems import AccessProblem
from schemas.xero.client import XeroClient
from schemas.xero.client_errors import NotSent, Offline, OutcomeUnknown, RateLimited, Refused, Unauthorized, XeroError
from schemas.xero.rate_limits import NoSlot

IDENTITY_SECONDS = 5  # the timeout of each call to Xero's identity service and of the list of organisations
# While one bill's calls fail without an answer of Xero's (5xx, silence), every sixth failure has access checked, the first one
# after half a minute. So an outage does not use up the attempts of all bills.
FAILURES = 6


@dataclass(frozen=True)
class AccessCheck:
    """A check that may be made now: the organisation, and the slot for its call."""

    tenant_id: str
    slot: UUID


async def after_failure(
    conn: Connection, error: XeroError, settings: Settings, *, token: str | None = None, failures: int = 0
) -> bool:
    """Starts a check of access, if the failure of a call may mean that access is lost.

    `token`: the access token of the call. `failures`: how often the call has failed, for one that is repeated.

    Returns whether the failure may be due to lost access: then the caller repeats the call later, and counts no attempt. False:
    a check has found access lately. So the reason is another one, such as a project that the person who connected Stint cannot
    see.
    """
    is_refusal = isinstance(error, Unauthorized | Offline)
    is_silence = type(error) in (XeroError, NotSent, OutcomeUnknown) and failures > 0 and failures % FAILURES == 0
    if not is_refusal and not is_silence:
        return False
    current = await tokens.lock_state(conn, settings, found_seconds=loss.LONGEST * settings.stint_xero_access_seconds)
    if current is None or current.is_lost or current.is_suspected:
        return True
    if is_refusal and token is not None and token != current.token:
        return True  # renewed, or connected again, since then: a refusal of the old token says nothing about the new one
    if current.was_found:
        if isinstance(error, Unauthorized) and error.is_token_invalid:
            await tokens.expire(conn)
        return False
    if isinstance(error, Unauthorized):
        await tokens.expire(conn)  # so that the check begins with a new one
    await conn.execute("UPDATE xero_connection SET access_suspected_at = clock_timestamp()")
    await loss.enqueue_check(conn, seconds=0)
    return True


async def plan(conn: Connection, *, message_id: UUID, settings: Settings) -> AccessCheck | NoSlot | None:
    """The check to make now. NoSlot: make it later. None: there is nothing to check, or another message makes the check."""
    tenant_id = await conn.value(
        "SELECT tenant_id FROM xero_connection WHERE access_check_id = %s AND tenant_id IS NOT NULL FOR NO KEY UPDATE",
        (message_id,),
    )
    if tenant_id is None:
        return None
    seconds = 2.0 * IDENTITY_SECONDS + 2.0 * settings.stint_xero_call_seconds
    slot = await rate_limits.acquire(conn, tenant_id, settings, seconds=seconds, skip_queue=True)
    if isinstance(slot, NoSlot):
        await conn.execute(
            "UPDATE xero_connection SET access_check_at = clock_timestamp() + make_interval(secs => %s)", (slot.seconds,)
        )
        return slot
    return AccessCheck(tenant_id, slot)


async def ask_xero(conn: Connection, check: AccessCheck, settings: Settings) -> AccessProblem | XeroError | None:
    """Why there is no access; None: there is. An error: Xero has not answered that."""
    try:
        await tokens.renew(conn, settings, seconds=IDENTITY_SECONDS)
        token = await tokens.valid_token(conn, settings)
        if token is None:
            return NotSent("Xero has refused to renew the token")  # `renew` has recorded that, and enqueued the next check
        if not await _is_linked(check, token, settings):
            return AccessProblem.unlinked
        seconds = settings.stint_xero_call_seconds
        xero = XeroClient(settings, access_token=token, tenant_id=check.tenant_id, seconds=seconds)
        await xero.list_projects(1)
    except Unauthorized as error:
        if error.is_token_invalid:  # it expired before its time, and says nothing about the next one
            await tokens.expire(conn)
            return error
        return error.problem or AccessProblem.forbidden
    except Offline:
        return AccessProblem.offline
    except XeroError as error:
        return error
    return None


async def _is_linked(check: AccessCheck, token: str, settings: Settings) -> bool:
    """Whether Xero lists the organisation. It is also true if Xero does not answer that: then its projects are requested."""
    try:
        organisations = await oauth.list_organisations(settings, token, seconds=IDENTITY_SECONDS)
    except Refused:
        return True
    return any(organisation.tenant_id == check.tenant_id for organisation in organisations)


async def record(
    conn: Connection, check: AccessCheck, answer: AccessProblem | XeroError | None, *, message_id: UUID, settings: Settings
) -> None:
    """Records what the check has found. If access is still lost, it enqueues the next check.

    It does nothing if Xero was connected again, or disconnected, since the check began.
    """
    await rate_limits.release(conn, check.slot, succeeded=answer is None)
    row = await conn.maybe(
        """
        SELECT needs_reconnect_at IS NOT NULL, access_problem,
               access_suspected_at < clock_timestamp() - make_interval(secs => %s)
        FROM xero_connection WHERE access_check_id = %s FOR UPDATE
        """,
        (settings.stint_xero_access_seconds, message_id),
    )
    if row is None:
        return
    is_lost, problem, is_old = row
    if answer is None:
        await loss.mark_found(conn)
    elif isinstance(answer, AccessProblem):
        await loss.mark_lost(conn, answer, settings)
    elif is_lost:
        await loss.mark_lost(conn, AccessProblem(problem or AccessProblem.revoked), settings)
    elif is_old and not isinstance(answer, RateLimited):
        is_refused = isinstance(answer, Unauthorized)
        await loss.mark_lost(conn, AccessProblem.forbidden if is_refused else AccessProblem.unavailable, settings)
    else:
        await loss.enqueue_check(conn, seconds=settings.stint_xero_access_seconds / 10)
    if isinstance(answer, RateLimited):
        await rate_limits.pause(conn, check.tenant_id, answer)

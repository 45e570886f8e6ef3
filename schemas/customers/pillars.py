"""Pillars: the areas of work agreed with a customer.

A transaction that changes a pillar locks the customer's row (`customers.lock`). One that adds a task to a pillar locks it FOR
SHARE. So no task can be added to a pillar that is being deleted or made inactive at the same time.

The default pillar is created with its customer. It may be renamed, but it always exists and is always active. It gets tasks
without a pillar, and the tasks of a pillar that is deleted.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field

from schemas.base import Body, Flag, Name, Row, Version, json_object
from schemas.customers import customers
from schemas.customers.customers import XeroId
from schemas.customers.deletion import DeletionScope, lock_tasks, tombstone_empty_bills
from schemas.customers.tasks import move_tasks
from schemas.errors import Conflict, NotFound
from schemas.identity.users import CONSULTANT, INTERNAL, User
from schemas.mail import templates
from schemas.messages import QueueBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.postgres.versioned_table import NewRow, VersionedTable, sent_values


class Pillar(Row):
    """A pillar, as the API returns it."""

    id: UUID
    customer_id: UUID
    name: Annotated[str, Field(examples=["Hosting"])]
    active: Annotated[bool, Field(description="an inactive pillar takes no new tasks; existing ones stay")]
    is_default: Annotated[bool, Field(description="whether tasks without a pillar go here")]
    xero_task_id: str | None
    slack_channel_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int


SlackId = Annotated[str, Field(max_length=100)]


class NewPillar(NewRow):
    """A pillar to create. If you choose the `id`, the request can be repeated safely."""

    name: Annotated[
        Name, Field(description="unique for the customer, in any case and any form of Unicode", examples=["Hosting"])
    ]
    active: Flag = True
    xero_task_id: XeroId | None = None
    slack_channel_id: SlackId | None = None


class PillarChange(Body):
    """Fields that are left out keep their values; null clears the ids in Xero and Slack."""

    name: Annotated[Name | None, Field(examples=["Hosting"])] = None
    active: Flag | None = None
    xero_task_id: XeroId | None = None
    slack_channel_id: SlackId | None = None
    version: Version | None = None


PILLARS = VersionedTable("pillar", Pillar, "pillars")


async def create(conn: Connection, customer_id: UUID, body: NewPillar) -> Pillar:
    """Creates the pillar. A request with the same id and the same body returns the same pillar.

    Raises NotFound for an unknown customer. Raises Conflict for a name that another of its pillars has, and for an id that is
    taken.
    """
    await customers.lock(conn, customer_id)
    before = await PILLARS.created_before(conn, body, condition="customer_id = %(customer)s", customer=customer_id)
    if before is not None:
        return before
    await _check_name_is_free(conn, customer_id, body.name)
    row = await conn.value(
        f"""
        INSERT INTO pillars AS p (id, customer_id, name, active, xero_task_id, xero_tenant_id, slack_channel_id, created_from)
        VALUES (%(id)s, %(customer)s, %(name)s, %(active)s, %(xero_task_id)s, %(tenant)s, %(slack_channel_id)s, %(fingerprint)s)
        ON CONFLICT (id) DO NOTHING RETURNING {json_object(Pillar, "p")}::text
        """,
        body.model_dump()
        | {"id": body.id or uuid4(), "customer": customer_id, "fingerprint": body.fingerprint()}
        | {"tenant": await customers.tenant_of(conn, body.xero_task_id)},
    )
    if row is None:  # a concurrent request created it for another customer
        raise PILLARS.id_is_taken()
    return Pillar.from_json(row)


async def change(
    conn: Connection, customer_id: UUID, pillar_id: UUID, patch: PillarChange, *, by: User, include_legacy_admins: bool
) -> Pillar:
    """Writes the fields that were sent. If the pillar becomes inactive, each of the firm's own people gets a mail.

    `include_legacy_admins`: users without a role get it, too. In some installations they are admins.

    Raises NotFound for an unknown pillar. Raises Conflict for a stale version, for a name that another of the customer's
    pillars has, and if the default pillar is to become inactive.
    """
    await customers.lock(conn, customer_id)
    pillar = await _get_current(conn, customer_id, pillar_id, patch.version)
    values = sent_values(patch, nullable=("xero_task_id", "slack_channel_id"))
    if patch.name is not None:
        await _check_name_is_free(conn, customer_id, patch.name, except_pillar=pillar_id)
    is_inactivation = pillar.active and patch.active is False
    if is_inactivation and pillar.is_default:
        raise Conflict("This is the default pillar, which takes tasks without a pillar, so it stays active.")
    if values.get("xero_task_id", pillar.xero_task_id) != pillar.xero_task_id:
        values["xero_tenant_id"] = await customers.tenant_of(conn, values["xero_task_id"])
    changed = await PILLARS.update(conn, pillar_id, values)
    if is_inactivation:
        await _enqueue_mails(conn, changed, by=by, include_legacy_admins=include_legacy_admins)
    if values.get("xero_task_id"):  # approved bills may have waited for it
        await outbox.enqueue(conn, QueueBills(because="mapped", customer_id=customer_id))
    return changed


async def _enqueue_mails(conn: Connection, pillar: Pillar, *, by: User, include_legacy_admins: bool) -> None:
    """Enqueues a mail for each of the firm's own people with access, also for the one who has made the change.

    This happens once for each time that a pillar becomes inactive. The reason is the lock of the customer: of two concurrent
    requests, only one finds the pillar active.
    """
    recipients = await conn.all(
        f"""
        SELECT min(u.email), c.name FROM users u, customers c
        WHERE c.id = %s AND {CONSULTANT if include_legacy_admins else INTERNAL} AND u.email <> '' AND u.revoked_at IS NULL
        GROUP BY email_key(u.email), c.name ORDER BY email_key(u.email)
        """,
        (pillar.customer_id,),
    )
    mails = [
        templates.pillar_inactivated(to=email, pillar=pillar.name, customer=customer, by=by.name or by.email)
        for email, customer in recipients
    ]
    await outbox.enqueue_many(conn, mails, created_by=by.id)


async def delete(conn: Connection, customer_id: UUID, pillar_id: UUID, *, version: int | None, by: User) -> None:
    """Leaves a tombstone, and moves the pillar's tasks to the customer's default pillar.

    Raises NotFound for an unknown pillar. Raises Conflict for a stale version, for the default pillar, and while recorded or
    pending hours refer to the pillar.
    """
    await customers.lock(conn, customer_id)
    pillar = await _get_current(conn, customer_id, pillar_id, version)
    if pillar.is_default:
        raise Conflict("This is the default pillar, which takes tasks without a pillar, so it can't be deleted; rename it.")
    scope = DeletionScope(customer_id, pillar_id)
    task_ids = await lock_tasks(conn, scope)
    await tombstone_empty_bills(conn, scope)
    default_id = await conn.value("SELECT id FROM pillars WHERE customer_id = %s AND is_default", (customer_id,))
    await move_tasks(conn, task_ids, to=default_id, by=by.id)
    await conn.execute(
        """
        UPDATE slack_channel_mappings SET pillar_id = NULL, version = version + 1 WHERE pillar_id = %s AND customer_id = %s
        """,
        (pillar_id, customer_id),
    )
    await conn.execute("UPDATE pillars SET deleted_at = now(), version = version + 1 WHERE id = %s", (pillar_id,))


async def _get_current(conn: Connection, customer_id: UUID, pillar_id: UUID, version: int | None) -> Pillar:
    """The pillar. The lock on its customer protects it, too."""
    row = await conn.value(
        f"""
        SELECT {json_object(Pillar, "p")}::text FROM pillars p WHERE id = %s AND customer_id = %s AND deleted_at IS NULL
        """,
        (pillar_id, customer_id),
    )
    if row is None:
        raise NotFound("The customer has no such pillar.")
    pillar = Pillar.from_json(row)
    PILLARS.check_version(version, pillar)
    return pillar


async def _check_name_is_free(conn: Connection, customer_id: UUID, name: str, *, except_pillar: UUID | None = None) -> None:
    pillar_id = await conn.value(
        """
        SELECT id FROM pillars
        WHERE customer_id = %s AND name_key(name) = name_key(%s) AND deleted_at IS NULL AND id IS DISTINCT FROM %s
        """,
        (customer_id, name, except_pillar),
    )
    if pillar_id is not None:
        raise Conflict("Another pillar of this customer has this name.", pillarId=str(pillar_id))


def _select(customer_id: UUID) -> Selection:
    selection = Selection("pillar", Pillar, "pillars", "p", Order("created_at", "timestamptz"))
    selection.where("p.deleted_at IS NULL AND p.customer_id = %(customer)s", customer=customer_id)
    return selection


async def get(conn: Connection, customer_id: UUID, pillar_id: UUID, *, user: User) -> bytes:
    """The pillar as JSON. Raises NotFound if the customer has no such pillar, or this user may not see the customer."""
    selection = _select(customer_id)
    if not user.is_internal:
        selection.where("p.customer_id = %(own_customer)s", own_customer=user.customer_id)
    return await selection.one(conn, pillar_id)


async def list_page(conn: Connection, customer_id: UUID, page: Page, *, user: User) -> bytes:
    """The customer's pillars, newest first.

    Raises Invalid for an unknown cursor, and NotFound if the customer does not exist or this user may not see it.
    """
    answer = await _select(customer_id).page(conn, page)
    await customers.get(conn, customer_id, user=user)
    return answer

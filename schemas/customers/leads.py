"""Leads: messages from the contact form of the firm's site."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from schemas import rate_limits
from schemas.base import Body, Name, Row, Text
from schemas.email_addresses import Email
from schemas.mail import templates
from schemas.names import on_one_line
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.rate_limits import Limit

LEADS_PER_CLIENT = Limit("lead-from", burst=5, seconds=300)
# The same for an IPv6 /48. No limit is over all clients, so nobody can keep the leads of others out of the list.
LEADS_PER_SITE = Limit("lead-from-site", burst=50, seconds=30)
# Leads beyond these limits are stored without a mail: a flood from many addresses fills the list, which can be cleared, but not
# the firm's mailbox. One client, or one /48, cannot use up the mails of all.
MAILS_PER_SITE = Limit("lead-mails-of-site", burst=10, seconds=300)
MAILS = Limit("lead-mails", burst=50, seconds=60)

Short = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(on_one_line)]


class NewLead(Body):
    """The contact form. Unknown fields are stored unchanged."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[Name, Field(examples=["Ada Park"])]
    email: Email
    company: Short | None = None
    phone: Short | None = None
    message: Annotated[Text | None, Field(examples=["Our mail server is slow."])] = None
    website: Annotated[Any, Field(description="a hidden field: only machines fill it in")] = None


class LeadReceived(Row):
    """The receipt."""

    id: UUID


class Lead(Row):
    """A lead, as the API returns it."""

    id: UUID
    name: str
    email: str
    company: str | None
    phone: str | None
    message: str | None
    extra: Annotated[dict[str, Any], Field(description="the unknown fields of the form")]
    created_at: datetime


async def receive(conn: Connection, body: NewLead, *, client: str, firm_email: str | None) -> LeadReceived:
    """Stores the lead, and enqueues a mail to the firm. A lead from a machine gets the same answer, but is not stored. Raises
    RateLimited for too many leads from one client, or from one /48."""
    await rate_limits.consume(conn, LEADS_PER_CLIENT, client)
    if (site := rate_limits.site_of(client)) is not None:
        await rate_limits.consume(conn, LEADS_PER_SITE, site)
    if body.website:
        return LeadReceived(id=uuid4())
    lead_id = uuid4()
    await conn.execute(
        """
        INSERT INTO leads (id, name, email, company, phone, message, extra) VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (lead_id, body.name, body.email, body.company, body.phone, body.message, Jsonb(body.model_extra or {})),
    )
    if firm_email is not None and await _may_mail(conn, site):
        facts = {"Company": body.company, "Phone": body.phone, "Message": body.message, **(body.model_extra or {})}
        filled_in = {key: str(value) for key, value in facts.items() if value not in (None, "")}
        await outbox.enqueue(
            conn, templates.lead(to=firm_email, name=body.name, email=body.email, reply_to=body.email, facts=filled_in)
        )
    return LeadReceived(id=lead_id)


async def _may_mail(conn: Connection, site: str | None) -> bool:
    if site is not None and not await rate_limits.try_consume(conn, MAILS_PER_SITE, site):
        return False
    return await rate_limits.try_consume(conn, MAILS)


async def list_page(conn: Connection, page: Page) -> bytes:
    """All leads, newest first."""
    return await Selection("lead", Lead, "leads", "l", Order("created_at", "timestamptz")).page(conn, page)

"""Leads: what strangers write into the contact form of the firm's site."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from pydantic import ConfigDict, Field, StringConstraints

from schemas import ledger, limits, mails
from schemas.addresses import Email
from schemas.base import Body, Name, Row, Text
from schemas.database import Connection
from schemas.limits import Limit
from schemas.listing import Order, Page, Selection

LEADS_FROM = Limit("lead-from", burst=5, seconds=300)
LEADS_IN_ALL = Limit("leads", burst=1000, seconds=2)
# Past this a lead is kept without a mail of its own: who floods the form from many addresses fills the list, which can be
# cleared, but neither the firm's mailbox nor the way of an honest lead into the list.
MAILS = Limit("lead-mails", burst=50, seconds=60)

Short = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


class NewLead(Body):
    """The contact form. Fields that we do not know are kept as they are."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[Name, Field(examples=["Ada Park"])]
    email: Email
    company: Short | None = None
    phone: Short | None = None
    message: Annotated[Text | None, Field(examples=["Our mail server is slow."])] = None
    website: Annotated[Any, Field(description="for machines that fill in every field; people never see it")] = None


class LeadReceived(Row):
    """The receipt."""

    id: UUID


class Lead(Row):
    """A lead, as answered to the firm's own people."""

    id: UUID
    name: str
    email: str
    company: str | None
    phone: str | None
    message: str | None
    extra: Annotated[dict[str, Any], Field(description="what else the form had")]
    created_at: datetime


async def receive(conn: Connection, new: NewLead, *, client: str, firm_email: str | None) -> LeadReceived:
    """Keeps the lead, and promises a mail to the firm. One from a machine gets the same answer and is forgotten. Raises
    TooMany for an address that asks too often, or when all of them together do."""
    await limits.take(conn, LEADS_FROM, client)
    if new.website:
        return LeadReceived(id=uuid4())
    await limits.take(conn, LEADS_IN_ALL)
    lead_id = uuid4()
    await conn.execute(
        """
        INSERT INTO leads (id, name, email, company, phone, message, extra) VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (lead_id, new.name, new.email, new.company, new.phone, new.message, Jsonb(new.model_extra or {})),
    )
    if firm_email is not None and await limits.has_room(conn, MAILS):
        facts = {"Company": new.company, "Phone": new.phone, "Message": new.message, **(new.model_extra or {})}
        told = {key: str(value) for key, value in facts.items() if value not in (None, "")}
        await ledger.put(conn, mails.lead(to=firm_email, name=new.name, email=new.email, facts=told))
    return LeadReceived(id=lead_id)


async def list_page(conn: Connection, page: Page) -> bytes:
    """All leads, newest first."""
    return await Selection("lead", Lead, "leads", "l", Order("created_at", "timestamptz")).page(conn, page)

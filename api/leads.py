"""Leads: the contact form of the firm's site."""

from litestar import Response, get, post
from litestar.params import JSONBody

from api.answers import Cursor, Limit, Listed, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheSettings
from api.requests import StrictRequest, client_of
from schemas import leads
from schemas.leads import Lead, LeadReceived, NewLead
from schemas.listing import Page

MAX_LEAD_BYTES = 16 * 1024


@post("/api/leads", summary="Send the contact form", opt={"exclude_from_auth": True}, request_max_body_size=MAX_LEAD_BYTES)
async def receive_lead(
    request: StrictRequest, database: TheDatabase, settings: TheSettings, data: JSONBody[NewLead]
) -> LeadReceived:
    """Takes in a lead, without a token, and tells the firm by mail. How often is limited: 429 says when to try again."""
    async with database.transaction() as conn:
        return await leads.receive(conn, data, client=client_of(request), firm_email=settings.firm_email)


@get("/api/leads", summary="List leads", guards=[internal])
async def list_leads(database: TheDatabase, limit: Limit = 200, page_cursor: Cursor = None) -> Response[Listed[Lead]]:
    """What came in through the contact form, newest first."""
    async with database.connection() as conn:
        return json_answer(await leads.list_page(conn, Page(limit, page_cursor)))

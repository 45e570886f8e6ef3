"""Routes for leads: messages from the contact form of the firm's site."""

from litestar import Response, get, post
from litestar.params import JSONBody

from api.auth.auth import require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.limits.clients import COUNT_CLIENT
from api.http.limits.json_text import JSON_BOUNDS, Bounds
from api.http.requests import client_key
from api.http.responses import Listed, json_response
from schemas.customers import leads
from schemas.customers.leads import Lead, LeadReceived, NewLead

MAX_LEAD_BYTES = 16 * 1024
LEAD = {"exclude_from_auth": True, COUNT_CLIENT: True, JSON_BOUNDS: Bounds(values=300, fields=100)}


@post("/api/leads", summary="Send the contact form", opt=LEAD, request_max_body_size=MAX_LEAD_BYTES)
async def receive_lead(request: ApiRequest, data: JSONBody[NewLead]) -> LeadReceived:
    """Stores a lead and sends it to the firm by mail. Needs no token. Requests are limited: 429 says when to try again."""
    async with request.database.transaction() as conn:
        return await leads.receive(conn, data, client=client_key(request), firm_email=request.settings.firm_email)


@get("/api/leads", summary="List leads", guards=[require_internal])
async def list_leads(request: ApiRequest, page: ThePage) -> Response[Listed[Lead]]:
    """The messages from the contact form, newest first."""
    async with request.database.connection() as conn:
        return json_response(await leads.list_page(conn, page))

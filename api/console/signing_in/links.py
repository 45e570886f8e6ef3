"""A link that signs a person in to the console once: `./stint up` and `./stint console` print it.

Opening it shows a page with a button, and only the button uses the link: browsers and terminals open addresses without being
asked, to show previews or to be faster, and would use it up. The token is in the query, which no log has.
"""

from typing import Annotated

from litestar import Response, get, post
from pydantic import Field

from api.console.forms import FormModel, read_form, read_query
from api.console.pages import page
from api.console.sessions import PUBLIC
from api.console.signing_in.codes import signed_in
from api.dependencies import ApiRequest
from api.http.requests import is_behind_a_proxy, is_local
from schemas.errors import Forbidden, NotFound
from schemas.identity import console_sessions

LINK = "/console/link"
MAX_LINK_BYTES = 2 * 1024
NOT_LOCAL = "A link like this works only in a browser on the machine on which Stint runs. Sign in with a code instead."
USED = "This link was used already, or is older than ten minutes. ./stint console EMAIL prints a new one."


class LinkForm(FormModel):
    """The token of a link."""

    token: Annotated[str, Field(max_length=100)]


@get(LINK, opt=PUBLIC)
async def show_link(request: ApiRequest) -> Response[bytes]:
    """The page of the link. It uses nothing."""
    _require_local(request)
    link = read_query(request, LinkForm).value
    async with request.database.connection() as conn:
        email = await console_sessions.find_link(conn, link.token) if link is not None else None
    if link is None or email is None:
        raise NotFound(USED)
    return page(request, "link.html", email=email, token=link.token)


@post(LINK, opt=PUBLIC, status_code=303, request_max_body_size=MAX_LINK_BYTES)
async def use_link(request: ApiRequest) -> Response[bytes]:
    """Begins a session. Of several requests with the same link, one does."""
    _require_local(request)
    link = (await read_form(request, LinkForm)).value
    async with request.database.transaction() as conn:
        token = await console_sessions.use_link(conn, link.token) if link is not None else None
    if token is None:
        raise NotFound(USED)
    return await signed_in(request, token, "/console")


def _require_local(request: ApiRequest) -> None:
    if not is_local(request) or is_behind_a_proxy(request.settings):
        raise Forbidden(NOT_LOCAL)

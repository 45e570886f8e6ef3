"""The console's first page: what is going on now, and what needs a decision."""

from litestar import Response, get

from api.console.pages import page, redirect
from api.dependencies import ApiRequest


@get("/console")
async def show_now(request: ApiRequest) -> Response[bytes]:
    """The firm's own people see what is going on; a customer's users are led to their hours."""
    if not request.user.is_internal:
        return redirect("/console/my-hours")
    return page(request, "now.html")

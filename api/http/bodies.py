"""Routes without a body refuse one, so that nothing that a client sends is silently ignored."""

from typing import Any

from litestar import Request

from schemas.errors import Invalid

RAW_BODY = "raw_body"  # in a handler's `opt`: it reads the body itself


async def refuse_body(request: Request[Any, Any, Any]) -> None:
    """Raises Invalid for a body that the route does not take. An empty object is accepted: some clients always send one."""
    handler = request.route_handler
    if "data" in handler.parsed_fn_signature.parameters or handler.opt.get(RAW_BODY):
        return
    if b"".join((await request.body()).split()) not in (b"", b"{}"):
        raise Invalid("", "This route takes no body; send the request without one. Nothing was changed.")

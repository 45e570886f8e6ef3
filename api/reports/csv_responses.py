"""CSV for a spreadsheet, sent in parts, so that a long table neither blocks the event loop nor fills the memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

from litestar import Response
from pydantic.alias_generators import to_camel

from api.dependencies import ApiRequest
from api.http.cors import Receive, Scope, Send
from api.http.server import CONNECTION
from schemas.reports.spreadsheets import BYTE_ORDER_MARK, as_csv

PART = 500  # rows


class CsvResponse(Response[Any]):
    """A table as CSV. A client that does not read the next part for `slow_seconds` is disconnected."""

    def __init__(self, head: str, rows: Sequence[Sequence[object]], filename: str, slow_seconds: float) -> None:
        self._head, self._rows, self._filename, self._slow_seconds = head, rows, filename, slow_seconds

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", f'attachment; filename="{self._filename}"'.encode("ascii")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for start in range(-PART, len(self._rows), PART):
                text = self._head if start < 0 else as_csv(self._rows[start : start + PART])
                async with asyncio.timeout(self._slow_seconds):
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                await asyncio.sleep(0)  # `send` returns at once while the client reads
        except TimeoutError:
            scope["extensions"][CONNECTION].transport.abort()
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def csv_response(request: ApiRequest, fields: Sequence[str], rows: Sequence[Sequence[object]], filename: str) -> Response[Any]:
    """A response with the rows below the names of their fields, as a file."""
    head = BYTE_ORDER_MARK + as_csv([[to_camel(name) for name in fields]])
    return CsvResponse(head, rows, filename, request.settings.stint_slow_seconds)

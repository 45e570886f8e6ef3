"""The status of the installation and what is wrong with it, as this process finds it: one look at a time, however many ask."""

import asyncio
from typing import Any

from api.processes import metrics
from api.readiness import Readiness
from schemas.diagnosis.report import api
from schemas.diagnosis.report.collect import report
from schemas.masking import Redactor
from schemas.settings import Settings


class Reports:
    """Looks at the installation. Requests that come during a look share it."""

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._settings, self._readiness = settings, readiness
        self._redactor = Redactor(settings)
        self._look: asyncio.Task[dict[str, Any]] | None = None

    async def current(self) -> dict[str, Any]:
        """`status` and `findings`, with secrets masked. It needs no server to answer, and no connection of the pools, so it
        also works while all of them are in use. Concurrent callers share a look; one that is cancelled does not end it."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._find())
        return await asyncio.shield(self._look)

    async def _find(self) -> dict[str, Any]:
        found = await report(self._settings, api_state=self._own_state())
        masked: dict[str, Any] = self._redactor.json(found)
        return masked

    async def _own_state(self) -> str:
        state = api.state_of(await self._readiness.problems())
        serving, expected = metrics.serving()
        return api.too_few(serving, expected) if state == "ok" and serving < expected else state

"""The window to Xero's Projects API: one client for each call, in a thread, with a deadline on the socket.

xero-python is used with care. It would refresh tokens itself, sleep on 429, and follow redirects with the token: none of that
may happen here. Its exceptions print an answer's headers and body: they are translated, and dropped.
"""

import asyncio
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import urllib3
from pydantic import BaseModel, ConfigDict, Field
from xero_python.api_client import ApiClient
from xero_python.api_client.configuration import Configuration
from xero_python.api_client.oauth2 import OAuth2Token
from xero_python.exceptions import ApiException
from xero_python.project import ProjectApi, TimeEntryCreateOrUpdate

from schemas.clients.xero_errors import Gone, NotSent, Refused, Throttled, Unanswered, Unauthorized
from schemas.settings import Settings

Result = TypeVar("Result")

PAGE_SIZE = 500  # Xero's most
CONNECT_SECONDS = 3


class Time(BaseModel):
    """A time entry as it is written: `minutes` of a user for a task, at a moment of the day that it is for."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    task_id: str
    date_utc: datetime
    minutes: int = Field(ge=1, le=59940)  # Xero's bounds
    description: str


@dataclass(frozen=True)
class Entry:
    """A time entry as Xero has it; `status` is ACTIVE, LOCKED or INVOICED."""

    id: str
    time: Time
    status: str


@dataclass(frozen=True)
class EntryPage:
    """A page of a project's time entries, and whether it is the last."""

    entries: list[Entry]
    last: bool


class Xero:
    """One organisation, as the holder of an access token sees it. Every call ends within `seconds`, and a little."""

    def __init__(self, settings: Settings, *, access_token: str, tenant_id: str, seconds: int) -> None:
        self._base_url = f"{settings.xero_api_url.rstrip('/')}/projects.xro/2.0"
        self._token, self._tenant_id, self._seconds = access_token, tenant_id, seconds

    async def create(self, project_id: str, time: Time, *, key: str) -> Entry:
        """Creates the entry. The same key within about 6 minutes gives the same entry, not another."""
        entry = await self._call(lambda api, more: api.create_time_entry(
            self._tenant_id, project_id, _body(time), idempotency_key=key, **more
        ))  # fmt: skip
        return _entry(entry)

    async def update(self, project_id: str, entry_id: str, time: Time) -> None:
        """Replaces all of the entry. Raises Refused unless it is ACTIVE."""
        await self._call(lambda api, more: api.update_time_entry(self._tenant_id, project_id, entry_id, _body(time), **more))

    async def delete(self, project_id: str, entry_id: str) -> None:
        """Deletes the entry. Raises Refused unless it is ACTIVE, Gone when there is none."""
        await self._call(lambda api, more: api.delete_time_entry(self._tenant_id, project_id, entry_id, **more))

    async def read(self, project_id: str, entry_id: str) -> Entry:
        """Raises Gone when there is none."""
        return _entry(await self._call(lambda api, more: api.get_time_entry(self._tenant_id, project_id, entry_id, **more)))

    async def entries(self, project_id: str, *, page: int, **chosen: Any) -> EntryPage:
        """A page of the project's entries; `chosen` is any of user_id, states, date_after_utc, date_before_utc."""
        found = await self._call(lambda api, more: api.get_time_entries(
            self._tenant_id, project_id, page=page, page_size=PAGE_SIZE, **chosen, **more
        ))  # fmt: skip
        items = found.items or []
        return EntryPage([_entry(item) for item in items], last=len(items) < PAGE_SIZE)

    async def users(self) -> list[tuple[str, str]]:
        """Those who can be named on time, up to 500: (id, e-mail address in lower case)."""
        found = await self._call(lambda api, more: api.get_project_users(self._tenant_id, page=1, page_size=PAGE_SIZE, **more))
        return [(user.user_id, (user.email or "").lower()) for user in found.items or [] if user.user_id]

    async def projects(self, page: int) -> list[Any]:
        """A page of the projects that go on, as Xero's client gives them."""
        found = await self._call(lambda api, more: api.get_projects(
            self._tenant_id, states="INPROGRESS", page=page, page_size=PAGE_SIZE, **more
        ))  # fmt: skip
        return list(found.items or [])

    async def tasks(self, project_id: str, page: int) -> list[Any]:
        """A page of the project's tasks, as Xero's client gives them."""
        found = await self._call(lambda api, more: api.get_tasks(
            self._tenant_id, project_id, page=page, page_size=PAGE_SIZE, **more
        ))  # fmt: skip
        return list(found.items or [])

    async def _call(self, ask: Callable[[Any, dict[str, Any]], Result]) -> Result:
        return await asyncio.to_thread(self._ask, ask)

    def _ask(self, ask: Callable[[Any, dict[str, Any]], Result]) -> Result:
        configuration = Configuration()  # a copy of one that all share: what is ours is set on the copy
        configuration.oauth2_token = OAuth2Token()
        # without expires_at it never refreshes by itself
        token = {"access_token": self._token, "token_type": "Bearer", "expires_in": 0, "scope": []}
        client = ApiClient(configuration, oauth2_token_getter=lambda: token, oauth2_token_saver=_never)
        client.rest_client.pool_manager = _Deadline(self._seconds)
        timeout = (min(CONNECT_SECONDS, self._seconds), self._seconds)
        try:
            return ask(ProjectApi(client, base_url=self._base_url), {"_request_timeout": timeout})
        except ApiException as error:
            raise _translated(error) from None
        except urllib3.exceptions.NewConnectionError:
            raise NotSent("Xero can't be reached") from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise Unanswered("the connection to Xero broke before its answer was complete") from None
        except Exception as error:  # what the client makes of an answer that is none: it can be any of many
            raise Unanswered(f"Xero's answer can't be read ({type(error).__name__})") from None
        finally:
            client.rest_client.pool_manager.clear()


class _Deadline(urllib3.PoolManager):
    """Requests that end: a socket's timeout begins anew with each byte, this one doesn't. No retries, no redirects."""

    def __init__(self, seconds: float) -> None:
        super().__init__(retries=False)
        self._seconds = seconds

    def request(self, method: str, url: str, *args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        ends = time.monotonic() + self._seconds
        response = super().request(method, url, *args, **options | {"preload_content": False, "redirect": False})
        body = io.BytesIO()
        while chunk := response.read1():
            body.write(chunk)
            if time.monotonic() > ends:
                response.close()
                raise urllib3.exceptions.TimeoutError
        return urllib3.HTTPResponse(io.BytesIO(body.getvalue()), response.headers, response.status, reason=response.reason)


def _never(token: Any) -> None:
    raise AssertionError("tokens are renewed by schemas/xero_tokens.py only")


def _body(time: Time) -> Any:
    return TimeEntryCreateOrUpdate(
        user_id=time.user_id,
        task_id=time.task_id,
        date_utc=time.date_utc,
        duration=time.minutes,
        description=time.description,
    )


def _entry(item: Any) -> Entry:
    time = Time.model_construct(
        user_id=item.user_id,
        task_id=item.task_id,
        date_utc=item.date_utc,
        minutes=item.duration,
        description=item.description or "",
    )
    return Entry(str(item.time_entry_id), time, item.status)


def _translated(error: ApiException) -> Exception:
    status = int(error.status or 0)
    if status == 429:
        headers = error.http_resp.urllib3_response.headers
        kind = {"minute": "minute", "day": "day", "concurrent": "calls at once"}.get(headers.get("x-rate-limit-problem", ""))
        return Throttled(f"Xero's limit is used up{f' ({kind})' if kind else ''}", seconds=_seconds(headers.get("retry-after")))
    if status == 0 or status >= 500 or status == 408:
        return Unanswered(f"Xero answered {status}" if status else "Xero can't be reached safely")
    if status in (401, 403):
        return Unauthorized(f"Xero does not let Stint into the organisation ({status})", status=status)
    return (Gone if status == 404 else Refused)(_reason(error, status), status=status)


def _seconds(retry_after: str | None) -> float:
    try:
        return min(max(1.0, float(retry_after or "")), 86_400.0)
    except ValueError:
        return 60.0


def _reason(error: ApiException, status: int) -> str:
    """What Xero says is wrong, on one short line."""
    try:
        body = json.loads(error.body or b"")
        faults = (body.get("modelState") or {}).values()
        texts = [text for fault in faults for text in (fault if isinstance(fault, list) else [fault])]
        said = "; ".join(str(text) for text in [body.get("message"), *texts] if text)
    except (ValueError, AttributeError, TypeError):
        said = ""
    return f"Xero refuses it: {' '.join(said.split())[:300]}" if said else f"Xero refuses it ({status})"

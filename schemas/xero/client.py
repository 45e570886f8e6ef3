"""The client of Xero's Projects API: one xero-python client for each call, in a thread, with a deadline for the whole answer.

By default xero-python would refresh tokens itself, sleep on 429, and follow redirects with the token in them. All of that is
switched off here. The text of its exceptions contains the answer's headers and body, so they are replaced by our own errors.
Its models are used for requests only: for an answer with one value that their enumerations lack, such as a new currency, they
fail as a whole. Here answers are read as JSON, and each field as the text that Xero sends.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import urllib3
from xero_python.api_client import ApiClient
from xero_python.api_client.configuration import Configuration
from xero_python.api_client.oauth2 import OAuth2Token
from xero_python.exceptions import ApiException
from xero_python.project import ProjectApi, TimeEntryCreateOrUpdate

from schemas.servers.http_deadline import DeadlinePoolManager
from schemas.settings import Settings
from schemas.xero.access import problems
from schemas.xero.client_errors import (
    DoesNotExist,
    NotSent,
    Offline,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unauthorized,
    XeroError,
)
from schemas.xero.entries.entry import PAGE_SIZE, Entry, EntryContent, EntryPage
from schemas.xero.users import UsersPage, address_key

Result = TypeVar("Result")

CONNECT_SECONDS = 3
THREAD_SECONDS = 0.5  # the caller waits that much longer for the thread of a call than for Xero
# seconds that a rate limit lasts if Xero does not send Retry-After
PAUSE_SECONDS = {"concurrent": 1.0, "day": 600.0}
OTHER_PAUSE_SECONDS = 60.0
# Xero's names of its rate limits
LIMITS = {
    "minute": "minute",
    "day": "day",
    "concurrent": "concurrent calls",
    "appminute": "minute, of all organisations together",
}
MAX_EXPLANATION = 2_000  # characters of a refusal that are looked at


class XeroClient:
    """Calls to one organisation. Each ends within `seconds`, and none starts after `start_by` (of `time.monotonic`). All raise
    XeroError."""

    def __init__(
        self, settings: Settings, *, access_token: str, tenant_id: str, seconds: float, start_by: float | None = None
    ) -> None:
        self._base_url = f"{settings.xero_api_url.rstrip('/')}/projects.xro/2.0"
        self._token, self._tenant_id, self._seconds, self._start_by = access_token, tenant_id, seconds, start_by

    async def create(self, project_id: str, content: EntryContent, *, key: str) -> Entry:
        """Creates the entry. The same Idempotency-Key within about 6 minutes returns the same entry instead of a second one."""
        return await self._call(lambda api, options: api.create_time_entry(
            self._tenant_id, project_id, _body(content), idempotency_key=key, **options
        ), _entry)  # fmt: skip

    async def update(self, project_id: str, entry_id: str, content: EntryContent) -> None:
        """Replaces the whole content of the entry. Raises Refused unless it is ACTIVE."""
        await self._call(
            lambda api, options: api.update_time_entry(self._tenant_id, project_id, entry_id, _body(content), **options),
            _nothing,
        )

    async def delete(self, project_id: str, entry_id: str) -> None:
        """Deletes the entry. Raises Refused unless it is ACTIVE, DoesNotExist when there is none."""
        await self._call(lambda api, options: api.delete_time_entry(self._tenant_id, project_id, entry_id, **options), _nothing)

    async def get(self, project_id: str, entry_id: str) -> Entry:
        """Reads the entry. Raises DoesNotExist when there is none."""
        return await self._call(
            lambda api, options: api.get_time_entry(self._tenant_id, project_id, entry_id, **options), _entry
        )

    async def list_entries(self, project_id: str, *, page: int, **filters: Any) -> EntryPage:
        """A page of the project's entries; `filters` is any of user_id, states, date_after_utc, date_before_utc."""
        entries = await self._call(lambda api, options: api.get_time_entries(
            self._tenant_id, project_id, page=page, page_size=PAGE_SIZE, **filters, **options
        ), lambda answer: [_entry(item) for item in _items(answer)])  # fmt: skip
        return EntryPage(entries, last=len(entries) < PAGE_SIZE)

    async def list_users(self, page: int) -> UsersPage:
        """A page of the users whom a time entry can name."""
        return await self._call(
            lambda api, options: api.get_project_users(self._tenant_id, page=page, page_size=PAGE_SIZE, **options), _users
        )

    async def list_projects(self, page: int) -> list[dict[str, Any]]:
        """A page of the projects in progress, as Xero describes each."""
        return await self._call(lambda api, options: api.get_projects(
            self._tenant_id, states="INPROGRESS", page=page, page_size=PAGE_SIZE, **options
        ), _items)  # fmt: skip

    async def get_project(self, project_id: str) -> dict[str, Any]:
        """The project, as Xero describes it. Raises Refused when there is none."""
        return await self._call(lambda api, options: api.get_project(self._tenant_id, project_id, **options), dict)

    async def list_tasks(self, project_id: str, page: int) -> list[dict[str, Any]]:
        """A page of the project's tasks, as Xero describes each."""
        return await self._call(lambda api, options: api.get_tasks(
            self._tenant_id, project_id, page=page, page_size=PAGE_SIZE, **options
        ), _items)  # fmt: skip

    async def _call(self, request: Callable[[Any, dict[str, Any]], Any], read: Callable[[Any], Result]) -> Result:
        """Makes the request, and reads its answer. An answer that cannot be read is OutcomeUnknown."""
        try:
            # the thread's own deadline cannot interrupt the resolution of a name
            async with asyncio.timeout(self._seconds + THREAD_SECONDS):
                return await asyncio.to_thread(self._call_in_thread, request, read)
        except TimeoutError:
            raise OutcomeUnknown("Xero did not answer in time") from None

    def _call_in_thread(self, request: Callable[[Any, dict[str, Any]], Any], read: Callable[[Any], Result]) -> Result:
        if self._start_by is not None and time.monotonic() > self._start_by:  # the process was suspended, or is overloaded
            raise NotSent("the call to Xero was not made in time")
        configuration = Configuration()  # a copy of the shared default, so the settings below are this call's only
        configuration.oauth2_token = OAuth2Token()
        # without expires_at, xero-python does not refresh the token
        token = {"access_token": self._token, "token_type": "Bearer", "expires_in": 0, "scope": []}
        client = _JsonClient(configuration, oauth2_token_getter=lambda: token, oauth2_token_saver=_refuse_token_save)
        client.rest_client.pool_manager = DeadlinePoolManager(self._seconds)
        timeout = (min(CONNECT_SECONDS, self._seconds), self._seconds)
        try:
            return read(request(ProjectApi(client, base_url=self._base_url), {"_request_timeout": timeout}))
        except ApiException as error:
            raise _as_xero_error(error) from None
        except urllib3.exceptions.NewConnectionError:
            raise NotSent("Xero cannot be reached") from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise OutcomeUnknown("the connection to Xero broke before its answer was complete") from None
        except Exception as error:  # of many types, for an answer that is not as Xero documents it
            raise OutcomeUnknown(f"Xero's answer cannot be read ({type(error).__name__})") from None
        finally:
            client.rest_client.pool_manager.clear()


class _JsonClient(ApiClient):  # type: ignore[misc]
    """Returns answers as JSON, instead of xero-python's models."""

    def deserialize(self, response: Any, response_type: Any, response_model_finder: Any) -> Any:
        """Raises ValueError for an answer that is not JSON."""
        return json.loads(response.data, parse_float=Decimal)


def _refuse_token_save(token: Any) -> None:
    raise AssertionError("only schemas/xero/tokens.py renews tokens")


def _body(content: EntryContent) -> Any:
    return TimeEntryCreateOrUpdate(
        user_id=content.user_id,
        task_id=content.task_id,
        date_utc=content.date_utc,
        duration=content.minutes,
        description=content.description,
    )


def _nothing(answer: Any) -> None:
    """Reads the answer of a call that returns nothing."""


def _items(page: Any) -> list[dict[str, Any]]:
    """The rows of one page of a list. Raises a TypeError or KeyError for an answer that is none."""
    return [dict(item) for item in page["items"] or []]


def _users(answer: Any) -> UsersPage:
    items = _items(answer)
    users = [(str(user["userId"]), address_key(user.get("email"))) for user in items if user.get("userId")]
    total = (answer.get("pagination") or {}).get("itemCount")
    return UsersPage(users, None if total is None else int(total), is_last=len(items) < PAGE_SIZE)


def _entry(item: dict[str, Any]) -> Entry:
    """An entry as Xero describes it."""
    time = datetime.fromisoformat(item["dateUtc"])
    content = EntryContent(
        user_id=str(item.get("userId") or ""),
        task_id=str(item.get("taskId") or ""),
        date_utc=time if time.tzinfo else time.replace(tzinfo=UTC),
        minutes=int(item.get("duration") or 0),
        description=item.get("description") or "",
    )
    return Entry(str(item["timeEntryId"]), content, str(item.get("status") or ""))


def _as_xero_error(error: ApiException) -> XeroError:
    status = int(error.status or 0)
    if status == 429:
        headers = error.http_resp.urllib3_response.headers
        limit = headers.get("x-rate-limit-problem", "").lower()
        words = LIMITS.get(limit)
        return RateLimited(
            f"Xero's rate limit is reached{f' ({words})' if words else ''}",
            seconds=_retry_after_seconds(headers.get("retry-after"), limit),
            limit=limit if words else None,
        )
    if status >= 500 and problems.is_offline(_said(error)):
        return Offline("Xero says that the organisation is offline")
    if status == 0 or status >= 500 or status == 408:
        return OutcomeUnknown(f"Xero answered {status}" if status else "the TLS connection to Xero failed")
    if status in (401, 403):
        text = f"Xero refuses Stint access ({status})"
        return Unauthorized(text, status=status, problem=problems.of_refusal(_said(error)))
    return (DoesNotExist if status == 404 else Refused)(*_reason(error, status), status=status)


def _said(error: ApiException) -> str:
    """What the answer says, in lower case."""
    body = error.body or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    header = error.http_resp.urllib3_response.headers.get("www-authenticate", "") if error.http_resp else ""
    return f"{header} {text[:MAX_EXPLANATION]}".lower()


def _retry_after_seconds(retry_after: str | None, problem: str) -> float:
    try:
        seconds = float(retry_after or "")
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        return PAUSE_SECONDS.get(problem, OTHER_PAUSE_SECONDS)
    return min(max(1.0, seconds), 86_400.0)


def _reason(error: ApiException, status: int) -> tuple[str, tuple[str, ...]]:
    """Xero's explanations as one short line without their full stops, and the names of the fields that Xero names."""
    try:
        body = json.loads(error.body or b"")
        problems = body.get("modelState") or {}  # by field: one text, or a list of them
        texts = [body.get("message")]
        for detail in problems.values():
            texts += detail if isinstance(detail, list) else [detail]
        said = [str(text).strip().rstrip(".") for text in texts if text]
        explanation = "; ".join(text for text in said if text)
        fields = tuple(problems)
    except (ValueError, AttributeError, TypeError):
        explanation, fields = "", ()
    words = f": {' '.join(explanation.split())[:300]}" if explanation else f" ({status})"
    return f"Xero refuses it{words}", fields

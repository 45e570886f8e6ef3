"""The page of hours: a person's own week. An admin also sees and changes those of others, whom the page then names."""

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID, uuid4

from litestar import Response, get

from api.auth.auth import require_internal
from api.console.forms import Form, FormModel, read_query, valid_query
from api.console.hours.shown_week import ShownWeek
from api.console.pages import fragment, page
from api.console.words import NO_ACCESS
from api.dependencies import ApiRequest
from schemas.base import Day
from schemas.errors import Forbidden, NotFound
from schemas.hours.firm_days import get_today
from schemas.hours.weeks import own
from schemas.identity import users, working_hours
from schemas.identity.users import User
from schemas.identity.work_calendar import monday
from schemas.postgres.connection import Connection
from schemas.slack.commands import likely_ends, task_search

MAX_SEARCH = 200  # characters


class HoursQuery(FormModel):
    """The query of the page.

    - `week`: any day of the week. Without it, the present week.
    - `person`: whose hours are shown. Without it, one's own.
    - `search`: words of a task and its customer.
    """

    UNSEEN = frozenset({"week"})

    week: Day | None = None
    person: UUID | None = None
    search: str | None = None


@dataclass(frozen=True)
class HoursView(ShownWeek):
    """Whose week the page shows. `person`: somebody else, for an admin; None: the own hours."""

    PATH: ClassVar[str] = "/console/hours"
    owner_id: UUID
    person: UUID | None
    search: str = ""

    @property
    def query(self) -> dict[str, Any]:
        """The query of the page by name; None: without it."""
        return super().query | {"person": self.person}


async def read_view(request: ApiRequest, conn: Connection, query: HoursQuery) -> HoursView:
    """What the page shows for this query. Raises Forbidden for the hours of another person, unless an admin sends the request.
    Raises NotFound for an unknown person."""
    me: User = request.user
    person = query.person if query.person != me.id else None
    if person is not None and not me.is_admin:
        raise Forbidden("Only an admin sees and changes somebody else's hours here.")
    if person is not None and not await users.is_consultant(conn, person):
        raise NotFound("There is no such person among the firm's own people.")
    day = query.week or await get_today(conn, request.settings.stint_timezone)
    return HoursView(monday(day), person or me.id, person, (query.search or "")[:MAX_SEARCH])


async def view_of(request: ApiRequest, query: Form[HoursQuery]) -> HoursView:
    """The same for a form, whose URL has the query of its page. Raises NotFound for a query that is not valid."""
    if query.value is None:
        raise NotFound("There is no such week or person; open the page again.")
    async with request.database.connection() as conn:
        return await read_view(request, conn, query.value)


@get("/console/hours", guards=[require_internal])
async def show_hours(request: ApiRequest) -> Response[bytes]:
    """The week."""
    query = read_query(request, HoursQuery)
    return await hours_page(request, query, status=200 if query.value is not None else 422)


@get("/console/hours/tasks", guards=[require_internal])
async def search_tasks(request: ApiRequest) -> Response[bytes]:
    """The tasks with the typed words, as options, for htmx."""
    query = valid_query(request, HoursQuery)
    async with request.database.connection() as conn:
        view = await read_view(request, conn, query)
        return fragment(request, "hours/options.html", tasks=await find_tasks(request, conn, view), view=view, chosen="")


async def find_tasks(request: ApiRequest, conn: Connection, view: HoursView) -> list[tuple[UUID, str]]:
    """The ids and names of tasks to choose from: those with the words of the search. Without a search, the person's latest."""
    if view.search.strip():
        found = await task_search.find(conn, view.search, user_id=view.owner_id, settings=request.settings, only_customer=None)
        tasks = found.tasks
    else:
        tasks = await task_search.list_recent(
            conn, user_id=view.owner_id, settings=request.settings, only_customer=None, with_running=True
        )
    return [(task.id, f"{task.title} · {task.customer}") for task in tasks]


async def hours_page(
    request: ApiRequest,
    query: Form[HoursQuery],
    *,
    status: int = 200,
    work: Form[Any] | None = None,
    stop: Form[Any] | None = None,
    timer_form: Form[Any] | None = None,
) -> Response[bytes]:
    """The page. If a form has to be corrected, it is one of these: `work` starts a timer or logs hours, `stop` stops or
    discards the timer, and `timer_form` changes it."""
    settings = request.settings
    async with request.database.connection() as conn:
        view = await read_view(request, conn, query.value or HoursQuery())
        entries = await own.read_entries(conn, view.owner_id, view.first, zone=settings.stint_timezone)
        timer = await own.read_timer(conn, view.owner_id)
        calendar = await working_hours.read_calendar(conn, view.owner_id, settings=settings)
        since = await likely_ends.read(conn, view.owner_id, timer.id, settings=settings) if timer is not None else None
        people = await own.list_people(conn) if request.user.is_admin else []
        tasks = await find_tasks(request, conn, view)
        today = await get_today(conn, settings.stint_timezone)
    if not people:
        query.leave_out("person")
    days = own.by_day(entries, view.first)
    return page(
        request,
        "hours.html",
        status=status,
        view=view,
        filters=query,
        days=days,
        planned={day: calendar.planned_seconds(day) for day in days},
        seconds=sum(entry.duration for entry in entries),
        planned_until_today=sum(calendar.planned_seconds(day) for day in days if day <= today),
        is_complete=all(entry.is_recorded for entry in entries),
        timer=timer,
        is_forgotten=timer is not None and timer.seconds >= settings.stint_nudge_hours * 3600,
        ends=since.ends(calendar.zone) if since else [],
        people=people,
        owner_name=next((name for user_id, name in people if user_id == view.owner_id), NO_ACCESS),
        tasks=tasks,
        new_id=uuid4(),
        work=work or Form(),
        stop=stop or Form(),
        timer_form=timer_form or Form(),
    )

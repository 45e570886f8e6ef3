"""The mapping of a customer and its pillars to a project and tasks in Xero, chosen from what Xero has now."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from pydantic import ValidationError

from api.auth.auth import require_internal
from api.console.customers.shared import BASE, FormVersion, customer_path, read_customer, read_pillars
from api.console.forms import Form, FormModel, form_pairs, read_pairs, valid_query
from api.console.pages import fragment, is_htmx, page, redirect
from api.console.sessions import CSRF_FIELD
from api.customers.customers import write_change
from api.dependencies import ApiRequest
from schemas import wording
from schemas.customers.customers import CustomerChange, XeroId
from schemas.errors import FieldProblem, Invalid, StintError
from schemas.xero import choices
from schemas.xero.choices import XeroProject, XeroTask, XeroTasks

PATH = f"{BASE}/{{customer_id:str}}/xero"
TASK_FIELD = "task-"  # and the id of a pillar: a field of the form
NO_PROJECT = "none"


class ProjectQuery(FormModel):
    """The project whose tasks are shown: its id, or `none`. Without it, the customer's."""

    project: XeroId | None = None


class MappingForm(FormModel):
    """The project; the form also has a field for each pillar."""

    UNSEEN = frozenset({"version"})

    xero_project_id: XeroId | None = None
    version: FormVersion


@dataclass(frozen=True)
class Choices:
    """What can be chosen. `problem`: why the projects cannot be read; `task_problem`: why the tasks cannot be read."""

    projects: list[XeroProject] = field(default_factory=list)
    tasks: list[XeroTask] = field(default_factory=list)
    problem: str = ""
    task_problem: str = ""


@get(PATH, guards=[require_internal])
async def show_choices(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """The form of the mapping with the tasks of the chosen project: a page, or the part of it that htmx asks for."""
    query = valid_query(request, ProjectQuery)
    return await _choices_page(request, customer_id, Form(), query.project)


@post(PATH, guards=[require_internal], status_code=303)
async def save_mapping(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Writes the mapping, after a check in Xero that bills can be sent under it."""
    pairs = [pair for pair in await form_pairs(request) if pair[0] != CSRF_FIELD]
    tasks = {name: value.strip() for name, value in pairs if name.startswith(TASK_FIELD)}
    form = read_pairs([pair for pair in pairs if pair[0] not in tasks], MappingForm)
    form.typed |= {name: [value] for name, value in tasks.items()}
    if form.value is not None:
        with form.catching(), _errors_beside(list(tasks)):
            _, warnings = await write_change(request, customer_id, _body(form.value, tasks))
            said = " ".join(["Saved the mapping to Xero.", *warnings])
            return redirect(customer_path(customer_id, "/mappings"), said, kind="warning" if warnings else "done")
    return await _choices_page(request, customer_id, form, form.get("xero_project_id") or NO_PROJECT, status=422)


def _body(mapping: MappingForm, tasks: dict[str, str]) -> CustomerChange:
    """The mapping as the API takes it. Without a project, pillars have no task either."""
    project = mapping.xero_project_id
    pillars = [{"id": name.removeprefix(TASK_FIELD), "xeroTaskId": task or None} for name, task in tasks.items()]
    sent: dict[str, Any] = {"xeroProjectId": project, "version": mapping.version}
    return CustomerChange.model_validate(sent | ({"pillars": pillars} if pillars else {}))


@contextmanager
def _errors_beside(names: list[str]) -> Iterator[None]:
    """Names the fields of the form in errors of the API's list `pillars`, which has them by number. Raises Invalid."""
    try:
        yield
    except (ValidationError, Invalid) as error:
        faults = error.errors if isinstance(error, Invalid) else wording.problems(CustomerChange, error)
        raise Invalid.because([_beside(fault, names) for fault in faults]) from None


def _beside(fault: FieldProblem, names: list[str]) -> FieldProblem:
    match fault.path.split("."):
        case ["pillars", number, *_] if number.isdigit():
            return FieldProblem(path=names[int(number)], message=fault.message)
        case _:
            return fault


async def _choices_page(
    request: ApiRequest, customer_id: UUID, form: Form[MappingForm], chosen: str | None, *, status: int = 200
) -> Response[bytes]:
    """The page with the choices of the chosen project, by default the customer's."""
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user)
        pillars = await read_pillars(conn, customer_id, request.user)
        names = await choices.names_of(conn, [customer.xero_project_id, *(pillar.xero_task_id for pillar in pillars)])
    project_id = None if chosen == NO_PROJECT else chosen or customer.xero_project_id
    fields = {"xero_project_id"} | {f"{TASK_FIELD}{pillar.id}" for pillar in pillars if project_id is not None}
    form.leave_out(*(form.errors.keys() - fields))
    values = {"customer": customer, "pillars": pillars, "project_id": project_id, "form": form, "names": names}
    values["choices"] = await _read_choices(request, project_id)
    if is_htmx(request):
        return fragment(request, "customers/xero/choices.html", status=status, **values)
    return page(request, "customers/xero.html", status=status, **values)


async def _read_choices(request: ApiRequest, project_id: str | None) -> Choices:
    """What Xero has now, read within three seconds; without the part that it does not answer, and why."""
    projects, tasks = await asyncio.gather(
        choices.list_projects(request.database, request.settings),
        choices.list_tasks(request.database, request.settings, project_id) if project_id else _no_tasks(),
        return_exceptions=True,
    )
    for found in (projects, tasks):
        if isinstance(found, BaseException) and not isinstance(found, StintError):
            raise found
    return Choices(
        projects=[] if isinstance(projects, BaseException) else projects.items,
        tasks=[] if isinstance(tasks, BaseException) else tasks.items,
        problem=projects.detail if isinstance(projects, StintError) else "",
        task_problem=tasks.detail if isinstance(tasks, StintError) else "",
    )


async def _no_tasks() -> XeroTasks:
    return XeroTasks(items=[])

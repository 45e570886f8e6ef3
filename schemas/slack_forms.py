"""The form for a new task, once it was sent: one task, however often Slack sends it."""

from uuid import UUID, uuid5

from pydantic import ValidationError

from schemas import ledger, slack_receipts, tasks
from schemas.database import Connection
from schemas.errors import FieldError, Invalid
from schemas.messages import PostTaskCreated
from schemas.slack_payloads import View
from schemas.slack_people import Place
from schemas.slack_tasks import parse_id
from schemas.tasks import NewTask
from schemas.users import User

TASKS = UUID("0c1d0f6a-6a29-4f0e-9c53-5b2f4f0d9c11")  # names tasks after the form that they were typed into
PICK = "Pick one of the list."


def read_form(view: View, *, team_id: str, place: Place | None) -> NewTask:
    """The task that the form describes. It has the form's name, so the same form is the same task. Raises Invalid."""
    picked = {name: view.field(name)[1] for name in ("title", "description", "customer", "pillar")}
    customer_id, pillar_id = parse_id(picked["customer"]), parse_id(picked["pillar"])
    if customer_id is None:
        raise Invalid("customerId", PICK)
    if pillar_id is None and picked["pillar"]:
        raise Invalid("pillarId", PICK)
    try:
        new = NewTask(
            id=uuid5(TASKS, f"{team_id}:{view.id}"),
            title=picked["title"] or "",
            description=picked["description"] or "",
            customerId=customer_id,
            pillarId=pillar_id,
            source="slack",
        )
    except ValidationError as error:
        raise Invalid(str(error.errors()[0]["loc"][0]), "This is empty, or too long.") from None
    if place is not None and new.customer_id != place.customer_id:
        raise Invalid("customerId", f"This channel is {place.customer}'s. Create tasks for others elsewhere.")
    return new


async def create(conn: Connection, view: View, new: NewTask, *, by: User, slack_id: str, channel_id: str) -> None:
    """Creates the form's task and promises its confirmation, once. Raises Invalid, and Conflict when the form has made a task
    already and says something else now."""
    is_first = await slack_receipts.first_time(conn, f"view:{view.id}")
    task = await tasks.create(conn, new, by=by)
    if is_first:
        message = PostTaskCreated(task_id=task.id, channel_id=channel_id, slack_user_id=slack_id)
        await ledger.put(conn, message, created_by=by.id)


def faults(view: View, errors: list[FieldError]) -> dict[str, str]:
    """What is wrong with a form, by the blocks in which Slack is to show it."""
    fields = {
        "customerId": ("customer", PICK),
        "pillarId": ("pillar", "Pick an active one of this customer."),
    }
    found = {}
    for error in errors:
        action_id, instead = fields.get(error.path, (error.path, error.message))
        found[view.field(action_id)[0]] = error.message if "GET /api" not in error.message else instead
    return found

"""The submitted form for a new task. It creates one task, even if Slack sends the submission several times."""

from uuid import UUID, uuid5

from pydantic import ValidationError

from schemas.customers import tasks
from schemas.customers.tasks import NewTask
from schemas.errors import FieldProblem, Invalid
from schemas.identity.users import User
from schemas.messages import PostTaskCreated
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import deduplication
from schemas.slack.members import MappedChannel
from schemas.slack.payloads import View
from schemas.slack.task_actions import parse_id

TASK_NAMESPACE = UUID("0c1d0f6a-6a29-4f0e-9c53-5b2f4f0d9c11")  # a task's id is made of the id of its form
PICK_FROM_LIST = "Pick one from the list."


def parse_form(view: View, *, team_id: str, channel: MappedChannel | None) -> NewTask:
    """The task that the form describes. Its id is made of the form's id, so the same form creates the same task. Raises
    Invalid."""
    values = {name: view.field(name)[1] for name in ("title", "description", "customer", "pillar")}
    customer_id, pillar_id = parse_id(values["customer"]), parse_id(values["pillar"])
    if customer_id is None:
        raise Invalid("customerId", PICK_FROM_LIST)
    if pillar_id is None and values["pillar"]:
        raise Invalid("pillarId", PICK_FROM_LIST)
    try:
        body = NewTask(
            id=uuid5(TASK_NAMESPACE, f"{team_id}:{view.id}"),
            title=values["title"] or "",
            description=values["description"] or "",
            customerId=customer_id,
            pillarId=pillar_id,
            source="slack",
        )
    except ValidationError as error:
        raise Invalid(str(error.errors()[0]["loc"][0]), "This is empty, or too long.") from None
    if channel is not None and body.customer_id != channel.customer_id:
        raise Invalid("customerId", f"This channel belongs to {channel.customer}. Create tasks for other customers elsewhere.")
    return body


async def create(conn: Connection, view: View, body: NewTask, *, by: User, slack_id: str, channel_id: str) -> None:
    """Creates the form's task, and enqueues its confirmation, once. Raises Invalid, and Conflict if the form has already
    created a task from other values."""
    is_first = await deduplication.record_once(conn, f"view:{view.id}")
    task = await tasks.create(conn, body, by=by)
    if is_first:
        message = PostTaskCreated(task_id=task.id, channel_id=channel_id, slack_user_id=slack_id)
        await outbox.enqueue(conn, message, created_by=by.id)


def form_errors(view: View, errors: list[FieldProblem]) -> dict[str, str]:
    """The errors as Slack shows them in a form: the text by the id of the field's block."""
    fields = {
        "customerId": ("customer", PICK_FROM_LIST),
        "pillarId": ("pillar", "Pick an active pillar of this customer."),
    }
    texts = {}
    for error in errors:
        action_id, slack_text = fields.get(error.path, (error.path, error.message))
        # a text that names an API route is no help in Slack
        texts[view.field(action_id)[0]] = error.message if "GET /api" not in error.message else slack_text
    return texts

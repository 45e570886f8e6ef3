"""What Slack sends, as far as Stint reads it. Fields that Slack adds are fine; what Stint reads must make sense."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

SlackId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,40}$")]
Short = Annotated[str, StringConstraints(max_length=500)]
Text = Annotated[str, StringConstraints(max_length=45_000)]  # Slack cuts messages at 40,000


class Payload(BaseModel):
    """Part of what Slack sends; null stands for what is not there."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Command(Payload):
    """Somebody typed `/task …`."""

    team_id: SlackId
    channel_id: SlackId
    user_id: SlackId
    text: Text | None = None
    trigger_id: Short
    response_url: Short


class Team(Payload):
    id: SlackId
    domain: Annotated[str | None, StringConstraints(pattern=r"^[a-z0-9-]{0,100}$")] = None


class Named(Payload):
    """A user or a channel."""

    id: SlackId


class Picked(Payload):
    """An option that was chosen."""

    value: Short


class Value(Payload):
    """What stands in one field of a form."""

    value: Text | None = None
    selected_option: Picked | None = None

    @property
    def text(self) -> str | None:
        return self.selected_option.value if self.selected_option is not None else self.value


class State(Payload):
    values: dict[str, dict[str, Value]] = {}


class View(Payload):
    """The modal that something happened in. Its private_metadata has been through the client."""

    id: SlackId
    callback_id: Short = ""
    private_metadata: Annotated[str, StringConstraints(max_length=3_000)] = ""
    state: State | None = None

    def field(self, action_id: str) -> tuple[str, str | None]:
        """The block that a field stands in, by the name of its action, and what stands in it."""
        for block_id, actions in (self.state.values if self.state else {}).items():
            if action_id in actions:
                return block_id, actions[action_id].text
        return action_id, None


class Origin(Payload):
    """What a form remembers of where it was opened: its private_metadata. Nothing in it is trusted."""

    channel_id: SlackId
    customer_id: Annotated[str | None, StringConstraints(max_length=40)] = None

    @classmethod
    def read(cls, private_metadata: str) -> "Origin | None":
        """The origin, or None for a text that is none."""
        try:
            return cls.model_validate(json.loads(private_metadata))
        except (ValueError, RecursionError):
            return None


class Interaction(Payload):
    """What all interactions share."""

    team: Team
    user: Named


class ViewSubmission(Interaction):
    """Somebody pressed the form's button."""

    type: Literal["view_submission"]
    view: View


class ViewClosed(Interaction):
    """Somebody closed the form."""

    type: Literal["view_closed"]


class Message(Payload):
    """The message that an action was taken on."""

    ts: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}\.[0-9]{1,10}$")]
    thread_ts: Annotated[str | None, StringConstraints(pattern=r"^[0-9]{1,15}\.[0-9]{1,10}$")] = None
    text: Text | None = None


class MessageAction(Interaction):
    """Somebody chose "Create task" in a message's menu."""

    type: Literal["message_action"]
    callback_id: Short
    trigger_id: Short
    channel: Named
    message: Message
    response_url: Short


class Action(Value):
    """One button that was pressed, or one field that was changed."""

    action_id: Short


class BlockActions(Interaction):
    """Somebody pressed a button in a message, or changed a field of a form that was waiting for it."""

    type: Literal["block_actions"]
    trigger_id: Short
    actions: Annotated[list[Action], Field(min_length=1, max_length=50)]
    channel: Named | None = None
    view: View | None = None
    response_url: Short | None = None


class BlockSuggestion(Interaction):
    """Somebody types into a field whose options come from us."""

    type: Literal["block_suggestion"]
    action_id: Short
    value: Text | None = None
    channel: Named | None = None
    view: View | None = None


AnyInteraction = Annotated[
    ViewSubmission | ViewClosed | MessageAction | BlockActions | BlockSuggestion, Field(discriminator="type")
]
INTERACTION: TypeAdapter[AnyInteraction] = TypeAdapter(AnyInteraction)


class Challenge(Payload):
    """Slack asks whether this URL is ours."""

    type: Literal["url_verification"]
    challenge: Short


class EventCallback(Payload):
    """Something happened in the workspace."""

    type: Literal["event_callback"]
    team_id: SlackId
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    event: dict[str, Any]


class RateLimited(Payload):
    """Slack holds events back: there were too many."""

    type: Literal["app_rate_limited"]


AnyEvent = Annotated[Challenge | EventCallback | RateLimited, Field(discriminator="type")]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)

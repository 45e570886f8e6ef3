"""The payloads that Slack sends: the fields that Stint reads, validated. Other fields are ignored."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

SlackId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,40}$")]
EmptyOrId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{0,40}$")]
Short = Annotated[str, StringConstraints(max_length=500)]
Text = Annotated[str, StringConstraints(max_length=45_000)]  # Slack cuts messages at 40,000
MAX_ESCAPED = 5 * 45_000  # of a message, where "&" is "&amp;"


class Payload(BaseModel):
    """The base of all payloads and their parts. None: Slack did not send the field."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Command(Payload):
    """A user typed `/task …`."""

    team_id: SlackId
    enterprise_id: EmptyOrId = ""
    channel_id: SlackId
    user_id: SlackId
    text: Text | None = None
    trigger_id: Short
    response_url: Short


class Team(Payload):
    id: SlackId
    domain: Annotated[str | None, StringConstraints(pattern=r"^[a-z0-9-]{0,100}$")] = None


class SlackObject(Payload):
    """A user or a channel."""

    id: SlackId


class SelectedOption(Payload):
    """The selected option of a select."""

    value: Short


class FieldValue(Payload):
    """The value of one form field: typed text, a selected option, or a time."""

    value: Text | None = None
    selected_option: SelectedOption | None = None
    selected_date_time: int | None = None  # seconds since 1970
    selected_options: Annotated[list[SelectedOption] | None, Field(max_length=100)] = None

    @property
    def text(self) -> str | None:
        if self.selected_date_time is not None:
            return str(self.selected_date_time)
        return self.selected_option.value if self.selected_option is not None else self.value


def _empty_object(value: Any) -> Any:
    return {} if value == [] else value


# Slack sends a list where an object has no fields
EmptyList = BeforeValidator(_empty_object)


class State(Payload):
    values: Annotated[dict[str, Annotated[dict[str, FieldValue], EmptyList]], EmptyList] = {}


class View(Payload):
    """The modal of an interaction, or the App Home. Its private_metadata comes back through Slack's client, so it is not
    trusted."""

    id: SlackId
    type: Short = "modal"
    callback_id: Short = ""
    private_metadata: Annotated[str, StringConstraints(max_length=3_000)] = ""
    state: State | None = None

    def field(self, action_id: str) -> tuple[str, str | None]:
        """The id of the block with the field of that action_id, and the field's value."""
        for block_id, actions in (self.state.values if self.state else {}).items():
            if action_id in actions:
                return block_id, actions[action_id].text
        return action_id, None

    def selected(self, action_id: str) -> list[str]:
        """The values that are selected in the field of that action_id, which may be several."""
        found = [actions[action_id] for actions in (self.state.values if self.state else {}).values() if action_id in actions]
        return [option.value for field in found for option in field.selected_options or ()]


class Origin(Payload):
    """What a form keeps of how it was opened: its private_metadata, which Slack sends with the form. It is not trusted."""

    @classmethod
    def parse(cls, private_metadata: str) -> Self | None:
        """The origin; None if the text is not valid metadata of this kind of form."""
        try:
            return cls.model_validate(json.loads(private_metadata))
        except (ValueError, RecursionError):
            return None


class FormOrigin(Origin):
    """Where the form of a new task was opened."""

    channel_id: SlackId
    customer_id: Annotated[str | None, StringConstraints(max_length=40)] = None


class Organization(Payload):
    """The organization that a workspace belongs to (Enterprise Grid)."""

    id: EmptyOrId = ""


class Interaction(Payload):
    """The fields that all interactions have. An app that is installed in all workspaces of an organization may get no `team`,
    but the organization."""

    team: Team | None = None
    enterprise: Organization | None = None
    user: SlackObject

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if not self.team_id:
            raise ValueError("neither a workspace nor an organization")
        return self

    @property
    def team_id(self) -> str:
        """The id of the workspace, or else of the organization."""
        return self.team.id if self.team is not None else self.enterprise_id or ""

    @property
    def enterprise_id(self) -> str | None:
        return (self.enterprise.id or None) if self.enterprise is not None else None


class ViewSubmission(Interaction):
    """A user submitted the form."""

    type: Literal["view_submission"]
    view: View


class ViewClosed(Interaction):
    """A user closed the form."""

    type: Literal["view_closed"]


class Message(Payload):
    """The message on which a message action was chosen."""

    ts: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}\.[0-9]{1,10}$")]
    thread_ts: Annotated[str | None, StringConstraints(pattern=r"^[0-9]{1,15}\.[0-9]{1,10}$")] = None
    text: Annotated[str | None, StringConstraints(max_length=MAX_ESCAPED)] = None
    # of many kinds, and read as far as their shape is known: schemas/slack/reading/message_text.py
    blocks: Any = None
    attachments: Any = None
    files: Any = None


class MessageAction(Interaction):
    """A user chose "Create task" in a message's menu."""

    type: Literal["message_action"]
    callback_id: Short
    trigger_id: Short
    channel: SlackObject
    message: Message
    response_url: Short


class Action(FieldValue):
    """One pressed button, or one changed field."""

    action_id: Short


class BlockActions(Interaction):
    """A user pressed a button in a message, or changed a form field that dispatches an action."""

    type: Literal["block_actions"]
    trigger_id: Short
    actions: Annotated[list[Action], Field(min_length=1, max_length=50)]
    channel: SlackObject | None = None
    view: View | None = None
    response_url: Short | None = None
    message: Any = None  # with the button; its blocks are read as far as their shape is known
    container: Any = None

    @property
    def is_in_home(self) -> bool:
        """Whether the button is in the person's App Home."""
        return self.view is not None and self.view.type == "home"

    @property
    def message_ts(self) -> str:
        """Slack's id of the message with the button; empty if it is in no message."""
        found = self.container.get("message_ts") if isinstance(self.container, dict) else None
        return found[:40] if isinstance(found, str) else ""


class BlockSuggestion(Interaction):
    """A user types into a select whose options Stint supplies."""

    type: Literal["block_suggestion"]
    action_id: Short
    value: Text | None = None
    channel: SlackObject | None = None
    view: View | None = None


AnyInteraction = Annotated[
    ViewSubmission | ViewClosed | MessageAction | BlockActions | BlockSuggestion, Field(discriminator="type")
]
INTERACTION: TypeAdapter[AnyInteraction] = TypeAdapter(AnyInteraction)


class Challenge(Payload):
    """Slack verifies that this URL belongs to the app."""

    type: Literal["url_verification"]
    challenge: Short


class EventCallback(Payload):
    """Something happened in the workspace."""

    type: Literal["event_callback"]
    team_id: SlackId | None = None
    enterprise_id: EmptyOrId | None = None
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    event_time: Annotated[int | None, Field(ge=0, lt=2**33)] = None  # seconds since 1970
    event: dict[str, Any]

    @property
    def happened_at(self) -> datetime | None:
        """When the event happened: `event_time`, with the fraction of a second that `event_ts` has; None: unknown."""
        if self.event_time is None:
            return None
        happened_at = datetime.fromtimestamp(self.event_time, UTC)
        whole, _, fraction = str(self.event.get("event_ts"))[:40].partition(".")
        is_same = whole == str(self.event_time) and len(fraction) == 6 and fraction.isascii() and fraction.isdigit()
        return happened_at.replace(microsecond=int(fraction)) if is_same else happened_at


class SharedLink(Payload):
    url: Annotated[str, StringConstraints(max_length=3_000)]


class LinkShared(Payload):
    """Somebody posted links to the web application. In a message that is still being written, the channel is "COMPOSER"."""

    channel: SlackId
    user: SlackId
    source: Short
    unfurl_id: Short
    links: Annotated[list[SharedLink], Field(max_length=100)]


class RateLimited(Payload):
    """Slack drops events because there were too many."""

    type: Literal["app_rate_limited"]


AnyEvent = Annotated[Challenge | EventCallback | RateLimited, Field(discriminator="type")]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)

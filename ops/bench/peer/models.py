"""What the peer reads and answers, as pydantic models; the answers have the fields of Stint's."""

from datetime import date, datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, computed_field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class User(Model):
    """The user of a token."""

    id: UUID
    email: str
    name: str
    role: str | None
    customer_id: UUID | None

    @property
    def is_internal(self) -> bool:
        return self.role in ("internal_user", "internal_admin")


class Me(User):
    """The user of a token, with permissions."""

    permissions: list[str]


class StartTimer(Model):
    """The optional body of a start."""

    notes: str = Field("", max_length=10_000)


class Stop(Model):
    """A timer that was stopped, and the id of its entry."""

    entry_id: UUID
    task_id: UUID
    start_time: datetime
    end_time: datetime
    notes: str = Field(exclude=True)

    @computed_field
    def duration(self) -> int:
        return int((self.end_time - self.start_time).total_seconds())


class Timer(Model):
    """A running timer, and the stop of the timer that ran before it."""

    id: UUID
    user_id: UUID
    task_id: UUID
    start_time: datetime
    notes: str
    updated_at: datetime
    version: int
    stopped: Stop | None = None


class Billing(BaseModel):
    """What decides on which bill an entry of a task is."""

    customer_id: UUID
    pillar_id: UUID
    rounding_increment: int
    rounding_mode: str
    day: date

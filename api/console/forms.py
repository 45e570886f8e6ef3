"""Forms and filters of pages: a body or a query, read into a pydantic model; errors beside their field, in the API's words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, get_origin
from urllib.parse import parse_qsl

from litestar import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from api.console.sessions import CSRF_FIELD
from api.console.words import for_field, for_page
from api.http.problems import BadRequest
from schemas import wording
from schemas.base import Body
from schemas.errors import Conflict, FieldProblem, Invalid, NotFound, RateLimited, Unavailable

FORM_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 2_000
CHOOSE = "Choose one that the page lists."
SENT_BY_THE_PAGE = (
    "A part of this form that is not shown was not valid, so the page was read again. Look at the form, then send it again."
)
SEND_FORM = f"Send the form as {FORM_TYPE}, in UTF-8."
REFUSALS = (Conflict, Invalid, NotFound, RateLimited, Unavailable)
Pairs = list[tuple[str, str]]


class FormModel(BaseModel):
    """The base of the models of forms. Fields have the names of the form; a field that is sent empty counts as not sent; a
    field whose type is a list or a set gets all values of its name. `UNSEEN`: those that the page fills in itself, so that no
    error can be shown beside them."""

    UNSEEN: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)


Model = TypeVar("Model", bound=FormModel)


@dataclass
class Form(Generic[Model]):
    """What was sent: the `value`, None if it is not valid; as it was `typed`, by name; and what is wrong with it: `errors` by
    the name of the field, `general` about the whole. `unfit`: the fields that people do not see and whose value is not valid;
    the page fills them in again. A new form without anything sent: `Form()`."""

    value: Model | None = None
    typed: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    general: list[str] = field(default_factory=list)
    unseen: frozenset[str] = frozenset()
    unfit: dict[str, str] = field(default_factory=dict)
    current: dict[str, Any] | None = None  # the row as it is now, if it has changed since it was shown

    def get(self, name: str, default: object = "") -> str:
        """What was typed into the field, or else the default."""
        values = self.typed.get(name)
        return values[-1] if values else "" if default is None else str(default)

    def has(self, name: str, value: object) -> bool:
        """Whether this value of several was chosen."""
        return str(value) in self.typed.get(name, [])

    @property
    def is_wrong(self) -> bool:
        """Whether anything has to be corrected."""
        return bool(self.errors or self.general)

    def refuse(self, name: str, message: str) -> None:
        """Adds an error beside the field of that name; about the whole for `""`, for a name that was not sent by the form, and
        for a field that people do not see."""
        message = for_page(message, choose=CHOOSE)
        if name in self.typed and name not in self.unseen:
            self.errors.setdefault(name, message)
        else:
            self.say(message)

    def say(self, message: str) -> None:
        """Adds an error about the whole, once."""
        if message not in self.general:
            self.general.append(message)

    def leave_out(self, *names: str) -> None:
        """The page does not have these fields just now: what is wrong with them is about the whole."""
        for name in names:
            if (message := self.errors.pop(name, None)) is not None:
                self.say(message)

    def is_gone(self, message: str) -> None:
        """The page does not have this form any more, so what is wrong with its fields does not matter: the message says why, if
        nothing else does."""
        if self.is_wrong:
            self.errors, said = {}, [text for text in self.general if text != SENT_BY_THE_PAGE]
            self.general = said or [message]

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Turns what the domain refuses into errors of the form: Invalid, Conflict, NotFound, RateLimited, Unavailable; and
        what does not fit a body of the API that is made of the form."""
        try:
            yield
        except ValidationError as error:
            model = wording.model_named(error.title, Body)
            if model is None:
                raise  # not of what was typed
            for fault in wording.problems(model, error):
                self.refuse(_field_name(fault), fault.message)
        except Invalid as error:
            for fault in error.errors:
                self.refuse(_field_name(fault), fault.message)
        except Conflict as error:
            self.general.append(for_page(error.detail, choose=CHOOSE))
            self.current = error.facts.get("current")
        except REFUSALS as error:
            self.general.append(for_page(error.detail, choose=CHOOSE))


async def read_form(request: Request[Any, Any, Any], model: type[Model]) -> Form[Model]:
    """The form in the body. Raises BadRequest if the body is no form."""
    return read_pairs([pair for pair in await form_pairs(request) if pair[0] != CSRF_FIELD], model)


def read_query(request: Request[Any, Any, Any], model: type[Model]) -> Form[Model]:
    """The filters in the query. Parameters that the page does not have are ignored, as those of links in mails are."""
    pairs = [(name, value) for name, value in _parse(request.scope["query_string"]) if name in model.model_fields]
    return read_pairs(pairs, model, of_page=False)


def valid_query(request: Request[Any, Any, Any], model: type[Model]) -> Model:
    """The filters in the query of a page that has no fields for them. Raises Invalid, whose page says what is wrong."""
    found = read_query(request, model)
    if found.value is None:
        faults = found.errors | found.unfit
        raise Invalid.because([FieldProblem(path=name, message=message) for name, message in faults.items()])
    return found.value


def read_pairs(pairs: Pairs, model: type[Model], *, of_page: bool = True) -> Form[Model]:
    """The form with these names and values, in the order in which they were sent. `of_page`: a page has filled in the fields
    that people do not see; else they are in the address, and are named."""
    form: Form[Model] = Form(unseen=model.UNSEEN)
    for name, value in pairs:
        form.typed.setdefault(name, []).append(value)
    sent: dict[str, Any] = {}
    for name, values in form.typed.items():
        if filled := [value for value in values if value.strip()]:
            sent[name] = filled if _is_list(model, name) else filled[-1]
    try:
        form.value = model.model_validate(sent)
    except ValidationError as error:
        if error.error_count() > MAX_FIELDS:
            raise BadRequest(400, SEND_FORM) from None
        for fault in wording.problems(model, error):
            name = fault.path.partition(".")[0]
            if name in model.UNSEEN:
                form.unfit[name] = fault.message
                form.say(SENT_BY_THE_PAGE if of_page else for_field(fault.message))
            elif name in model.model_fields:
                form.errors.setdefault(name, for_field(fault.message) if name in sent else _left_empty(name))
            else:
                form.general.append(fault.message)
    return form


async def form_pairs(request: Request[Any, Any, Any]) -> Pairs:
    """Names and values of the form in the body. Raises BadRequest if the body is no form."""
    body = await request.body()
    if not body:
        return []
    if request.content_type[0] != FORM_TYPE or request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequest(415, SEND_FORM)
    return _parse(body)


def _parse(text: bytes) -> Pairs:
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadRequest(400, SEND_FORM) from None
    if any("\0" in part for pair in pairs for part in pair):
        raise BadRequest(400, SEND_FORM)
    return [(name, value.replace("\r\n", "\n")) for name, value in pairs]


def _left_empty(name: str) -> str:
    """What is said beside a field that has to be filled in: its label and hint say with what."""
    return f"{name.removesuffix('_id').replace('_', ' ').capitalize()} is needed."


def _is_list(model: type[BaseModel], name: str) -> bool:
    found = model.model_fields.get(name)
    return found is not None and get_origin(found.annotation) in (list, set, frozenset, tuple)


def _field_name(fault: FieldProblem) -> str:
    """The domain names fields as the API does: `startTime`. A form has the same name, or `start_time`."""
    name = fault.path.partition(".")[0]
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)

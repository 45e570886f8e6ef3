"""Forms and filters of the console's pages.

The body or the query of a request is read into a pydantic model. What is not valid becomes an error beside its field, in the
words of the API's errors.
"""

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
    """The base of the models of forms.

    The fields of the model have the names of the form's fields. An empty field counts as not sent. A field whose type is a list
    or a set gets all values that were sent with its name. Any other field gets the last one.

    `UNSEEN` has the names of the fields that the page fills in and people do not see. No error can be shown beside them.
    """

    UNSEEN: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)


Model = TypeVar("Model", bound=FormModel)


@dataclass
class Form(Generic[Model]):
    """A form as it was sent, and what is wrong with it. `Form()` is a form that was not sent yet."""

    value: Model | None = None  # None: something is not valid
    typed: dict[str, list[str]] = field(default_factory=dict)  # by name: the values as they were sent
    errors: dict[str, str] = field(default_factory=dict)  # by name: the error beside this field
    general: list[str] = field(default_factory=list)  # errors about the whole form
    unseen: frozenset[str] = frozenset()  # the model's UNSEEN
    unfit: dict[str, str] = field(default_factory=dict)  # by unseen name: its error; the page fills the field in again
    current: dict[str, Any] | None = None  # the row as it is now, if it has changed since it was shown

    def get(self, name: str, default: object = "") -> str:
        """The text to show in the field: what was typed, else the default. A default of None is shown as an empty text."""
        if values := self.typed.get(name):
            return values[-1]
        return "" if default is None else str(default)

    def has(self, name: str, value: object) -> bool:
        """Whether this value is one of those that were sent for the field."""
        return str(value) in self.typed.get(name, [])

    @property
    def is_wrong(self) -> bool:
        """Whether anything has to be corrected."""
        return bool(self.errors or self.general)

    def refuse(self, name: str, message: str) -> None:
        """Adds an error beside the field of that name.

        It becomes an error about the whole form if nothing can be shown beside the field: the name is empty, was not sent, or
        is of a field that people do not see.
        """
        message = for_page(message, choose=CHOOSE)
        if name in self.typed and name not in self.unseen:
            self.errors.setdefault(name, message)
        else:
            self.say(message)

    def say(self, message: str) -> None:
        """Adds an error about the whole form, unless it has the same error already."""
        if message not in self.general:
            self.general.append(message)

    def leave_out(self, *names: str) -> None:
        """Turns the errors of these fields into errors about the whole form, because the page does not show the fields."""
        for name in names:
            if (message := self.errors.pop(name, None)) is not None:
                self.say(message)

    def is_gone(self, message: str) -> None:
        """Removes the errors that ask to correct a field, because the page does not show this form any more.

        `message` says why it does not. It is shown if the form was wrong and no other error remains.
        """
        if self.is_wrong:
            self.errors = {}
            remaining = [text for text in self.general if text != SENT_BY_THE_PAGE]
            self.general = remaining or [message]

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Turns errors that the block raises into errors of the form.

        These are the domain's Invalid, Conflict, NotFound, RateLimited and Unavailable, and the ValidationError of a body of
        the API, which the block may make of the form.
        """
        try:
            yield
        except ValidationError as error:
            model = wording.model_named(error.title, Body)
            if model is None:
                raise  # of another model: a fault of the program, not of the person
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
    pairs = [(name, value) for name, value in await form_pairs(request) if name != CSRF_FIELD]
    return read_pairs(pairs, model)


def read_query(request: Request[Any, Any, Any], model: type[Model]) -> Form[Model]:
    """The filters in the query. Other parameters of the query are ignored, such as those that a mail program adds to links."""
    pairs = [(name, value) for name, value in _parse(request.scope["query_string"]) if name in model.model_fields]
    return read_pairs(pairs, model, of_page=False)


def valid_query(request: Request[Any, Any, Any], model: type[Model]) -> Model:
    """The filters in the query of a page that has no fields for them. Raises Invalid for wrong values."""
    found = read_query(request, model)
    if found.value is None:
        faults = found.errors | found.unfit
        raise Invalid.because([FieldProblem(path=name, message=message) for name, message in faults.items()])
    return found.value


def read_pairs(pairs: Pairs, model: type[Model], *, of_page: bool = True) -> Form[Model]:
    """The form with these names and values, in the order in which they were sent.

    `of_page`: a page has filled in the fields that people do not see, so their errors are one general sentence. False: these
    fields are in the address of the page, and each error is shown.
    """
    form: Form[Model] = Form(unseen=model.UNSEEN)
    for name, value in pairs:
        form.typed.setdefault(name, []).append(value)
    sent = _not_empty(form.typed, model)
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


def _not_empty(typed: dict[str, list[str]], model: type[FormModel]) -> dict[str, Any]:
    """The values for the model: of each field all that are not empty if it is a list, else the last one."""
    sent: dict[str, Any] = {}
    for name, values in typed.items():
        filled = [value for value in values if value.strip()]
        if filled:
            sent[name] = filled if _is_list(model, name) else filled[-1]
    return sent


async def form_pairs(request: Request[Any, Any, Any]) -> Pairs:
    """The names and values of the form in the body; none for an empty body. Raises BadRequest if the body is no form."""
    body = await request.body()
    if not body:
        return []
    if request.content_type[0] != FORM_TYPE or request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequest(415, SEND_FORM)
    return _parse(body)


def _parse(text: bytes) -> Pairs:
    """Raises BadRequest for what is not UTF-8, has a NUL character, or has more than MAX_FIELDS fields."""
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadRequest(400, SEND_FORM) from None
    if any("\0" in part for pair in pairs for part in pair):
        raise BadRequest(400, SEND_FORM)
    return [(name, value.replace("\r\n", "\n")) for name, value in pairs]


def _left_empty(name: str) -> str:
    """The error beside a required field that was left empty. Its label and hint on the page explain what to fill in."""
    return f"{name.removesuffix('_id').replace('_', ' ').capitalize()} is needed."


def _is_list(model: type[BaseModel], name: str) -> bool:
    found = model.model_fields.get(name)
    return found is not None and get_origin(found.annotation) in (list, set, frozenset, tuple)


def _field_name(fault: FieldProblem) -> str:
    """The name that the faulty field has in forms: `start_time` for `startTime`. The domain names fields as the API does."""
    name = fault.path.partition(".")[0]
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)

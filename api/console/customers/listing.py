"""The list of customers, and creating one."""

from typing import Annotated, Literal
from uuid import UUID, uuid4

from litestar import Response, get, post
from pydantic import Field

from api.auth.auth import require_internal
from api.console.customers.shared import BASE, MODES, ROUNDINGS, customer_path
from api.console.forms import Form, FormModel, read_form, read_query
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from schemas.base import Name, Text
from schemas.customers import customers, directory
from schemas.customers.customers import NewCustomer, Phone
from schemas.email_addresses import Email
from schemas.errors import Conflict
from schemas.names import MAX_TYPED

SENT_BEFORE = "This form was sent before, and the customer was created then. To create another one, send it again."


class CustomerFilter(FormModel):
    """The filters of the list."""

    search: Annotated[str, Field(max_length=MAX_TYPED)] = ""
    inactive: bool = False


class Details(FormModel):
    """What a form says of a customer."""

    name: Name
    email: Email | None = None
    phone: Phone | None = None
    notes: Text = ""
    active: bool = False
    increment: Literal["1", "5", "6", "10", "15", "30"] = "1"
    mode: Literal["nearest", "up"] = "nearest"

    def as_body(self) -> dict[str, object]:
        """As the API takes it."""
        rounding = {"increment": int(self.increment), "mode": self.mode}
        return self.model_dump(include={"name", "email", "phone", "notes", "active"}) | {"rounding": rounding}


class NewDetails(Details):
    """A customer to create. `id`: of the customer, so that a form that is sent twice creates one."""

    UNSEEN = frozenset({"id"})

    id: UUID


@get(BASE, guards=[require_internal])
async def show_customers(request: ApiRequest) -> Response[bytes]:
    """The customers by name, with a search."""
    filters = read_query(request, CustomerFilter)
    chosen = filters.value or CustomerFilter()
    async with request.database.connection() as conn:
        found = await directory.search(conn, chosen.search, with_inactive=chosen.inactive)
    values = {"filters": filters, "chosen": chosen, "found": found}
    return page(request, "customers/list.html", status=422 if filters.is_wrong else 200, **values)


@get(f"{BASE}/new", guards=[require_internal])
async def show_new_customer(request: ApiRequest) -> Response[bytes]:
    """The form of a new customer."""
    return _form_page(request, Form())


@post(BASE, guards=[require_internal], status_code=303)
async def create_customer(request: ApiRequest) -> Response[bytes]:
    """Creates the customer with its default pillar."""
    form = await read_form(request, NewDetails)
    if form.value is not None:
        with form.catching():
            body = NewCustomer.model_validate(form.value.as_body() | {"id": form.value.id})
            try:
                async with request.database.transaction() as conn:
                    made = await customers.create(conn, body, by=request.user)
            except Conflict:
                form.typed["id"] = [str(uuid4())]
                raise Conflict(SENT_BEFORE) from None
            return redirect(customer_path(made.id), f"Created {made.name}.")
    return _form_page(request, form, status=422)


def _form_page(request: ApiRequest, form: Form[NewDetails], status: int = 200) -> Response[bytes]:
    values = {"new_id": uuid4(), "roundings": ROUNDINGS, "modes": MODES}
    return page(request, "customers/new.html", status=status, form=form, **values)

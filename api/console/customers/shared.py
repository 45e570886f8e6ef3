"""What the pages of one customer share."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Response
from pydantic import Field

from api.console.forms import Form, FormModel
from api.console.gone import gone_if_missing
from api.console.pages import page
from api.dependencies import ApiRequest
from api.http.responses import Listed
from schemas.customers import customers, pillars
from schemas.customers.customers import Customer
from schemas.customers.deletion import MAX_IDS, Obstacle
from schemas.customers.pillars import Pillar
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page

BASE = "/console/customers"
ROUNDINGS = [(1, "1 minute"), (5, "5 minutes"), (6, "6 minutes"), (10, "10 minutes"), (15, "15 minutes"), (30, "30 minutes")]
MODES = [("nearest", "to the nearest"), ("up", "always up")]
MOST_PILLARS = 1_000

FormVersion = Annotated[int, Field(ge=1, le=2**53, description="The version of the row that the form shows")]


class VersionForm(FormModel):
    """A button about a row that may have changed since it was shown."""

    UNSEEN = frozenset({"version"})

    version: FormVersion


async def read_customer(conn: Connection, customer_id: UUID, user: User, form: Form[Any] | None = None) -> Customer:
    """The customer. Raises Gone, with what was typed in the form, if there is none."""
    with gone_if_missing("customer", BASE, "the customers", form):
        return Customer.from_json(await customers.get(conn, customer_id, user=user))


async def read_pillars(conn: Connection, customer_id: UUID, user: User) -> list[Pillar]:
    """The customer's pillars: the default one, active ones by name, inactive ones by name."""
    answer = await pillars.list_page(conn, customer_id, Page(MOST_PILLARS), user=user)
    found = Listed[Pillar].model_validate_json(answer).items
    return sorted(found, key=lambda pillar: (not pillar.is_default, not pillar.active, pillar.name.casefold()))


def change_page(
    request: ApiRequest,
    template: str,
    form: Form[Any] | None = None,
    removal: Form[VersionForm] | None = None,
    obstacles: list[Obstacle] | None = None,
    **values: Any,
) -> Response[bytes]:
    """A page on which a row is changed, `form`, or deleted, `removal`. The status is 422 if one of them was refused;
    `obstacles`: what prevents the deletion."""
    status = 422 if form or removal else 200
    values |= {"form": form or Form(), "removal": removal or Form(), "obstacles": obstacles or [], "most": MAX_IDS}
    return page(request, template, status=status, **values)


def pillar_choices(found: list[Pillar], present: UUID | None = None) -> list[tuple[UUID, str]]:
    """The pillars to choose from: active ones, and the present one."""
    return [(pillar.id, pillar.name) for pillar in found if pillar.active or pillar.id == present]


def customer_path(customer_id: UUID, rest: str = "") -> str:
    """The path of one of the customer's pages."""
    return f"{BASE}/{customer_id}{rest}"

"""What an absent role may mean: the whole table, stated a second time, and that no customer's user ever becomes admin."""

from dataclasses import dataclass
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.auth import Authenticator
from api.tokens import Token
from schemas.clients.identity import Local
from schemas.settings import Settings
from schemas.users import Known, Role
from tests.api.tokens import ABSENT, Mint
from tests.given import Given
from tests.installation import SECRET_KEY, Installation

CUSTOMER, OTHER = UUID(int=1), UUID(int=2)
# as a token's claim arrives: None is absent, null arrives as ""
CLAIMS: list[Any] = [
    None, "", " ", "admin", "Internal_admin", "internal", "visitor", "customer", 5, True, ["internal_admin"], {"a": 1},
    "\u0130nternal_admin",
    "internal_admin", "internal_user", "internal_", "customer_admin", "customer_user",
]  # fmt: skip


def authenticator(*, legacy: str, own: str = "stint") -> Authenticator:
    made = Settings(
        database_url="postgresql://",
        secret_key=SECRET_KEY,
        auth_client_ids="stint,portal",
        internal_client_ids=own,
        legacy_unset_role=legacy,
    )
    return Authenticator(made, Local(None))


AUTHENTICATORS = {(legacy, own): authenticator(legacy=legacy, own=own) for legacy in ("on", "off") for own in ("stint", "")}


def token(role: Any, customer: UUID | None, use: str = "id", client: str = "stint") -> Token:
    return Token(uuid4(), use, client, "jo@example.com", "Jo", role, customer, 0.0)


def known(role: str | None, customer: UUID | None) -> Known:
    return Known(email="jo@example.com", name="Jo", role=role, customer_id=customer, joined=True, revoked=False)


def the_rule(said: Token, before: Known | None, *, legacy: str, own: str) -> str | None:
    """The rule in plain words, without a line of the application."""
    if said.role is None:
        never_seen_with_anything = before is None or (before.role is None and before.customer_id is None)
        if (
            legacy == "on"
            and said.use == "id"
            and said.client_id == own
            and said.customer_id is None
            and never_seen_with_anything
        ):
            return "admin"
        return None
    if not isinstance(said.role, str):
        return None
    if said.role == "internal_admin":
        return "admin"
    if said.role[:9] == "internal_":
        return "internal"
    if said.role in ("customer_admin", "customer_user") and said.customer_id is not None:
        return said.role
    return None


def test_the_whole_table() -> None:
    seen: list[Known | None] = [None, *(known(role, customer) for role, customer in product(
        [None, "", "visitor", "internal_admin", "internal_user", "customer_admin", "customer_user"], [None, CUSTOMER]
    ))]  # fmt: skip
    rows = 0
    for (legacy, own), use, client, role, customer, before in product(
        AUTHENTICATORS, ["id", "access"], ["stint", "portal"], CLAIMS, [None, CUSTOMER], seen
    ):
        said = token(role, customer, use, client)
        found, whose = AUTHENTICATORS[legacy, own].standing(said, before)
        expected = the_rule(said, before, legacy=legacy, own=own)
        assert (found and found.value) == expected, (said, before, legacy, own)
        if found is not None:
            assert whose == (customer if expected in ("customer_admin", "customer_user") else None)
        rows += 1
    assert rows == 4 * 2 * 2 * len(CLAIMS) * 2 * 15


@dataclass
class Memory:
    """What the table of users remembers of one."""

    row: Known | None = None

    def remember(self, said: Token, *, role: str | None, customer: UUID | None) -> None:
        before = self.row or known(None, None)
        self.row = replace_known(
            before, role=role if role is not None else before.role, customer=customer or before.customer_id
        )


def replace_known(before: Known, *, role: str | None, customer: UUID | None) -> Known:
    return before.model_copy(update={"role": role, "customer_id": customer})


TOKENS = st.builds(
    token,
    st.sampled_from(CLAIMS) | st.text(max_size=20),
    st.sampled_from([None, CUSTOMER, OTHER]),
    st.sampled_from(["id", "access"]),
    st.sampled_from(["stint", "portal"]),
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(TOKENS, min_size=1, max_size=6), which=st.sampled_from(list(AUTHENTICATORS)))
def test_no_customers_user_ever_becomes_admin_whatever_tokens_come_in_what_order(
    history: list[Token], which: tuple[str, str]
) -> None:
    """Nor does anybody else become it without a token that says so, or after one that said anything of a role or a customer."""
    asked, memory, has_shown_anything = AUTHENTICATORS[which], Memory(), False
    for said in history:
        role, whose = asked.standing(said, memory.row)
        if role is Role.admin:
            assert said.role == "internal_admin" or (said.role is None and not has_shown_anything)
        if role in (Role.customer_admin, Role.customer_user):
            assert whose == said.customer_id is not None
        elif role is not None:
            assert whose is None
        has_shown_anything = has_shown_anything or said.role is not None or said.customer_id is not None
        claimed = None if said.role is None else str(said.role)
        if memory.row is not None or role is not None or claimed is not None or whose is not None:
            memory.remember(said, role=claimed, customer=whose)


# the same over HTTP and a real table, where the histories are fewer


@pytest.fixture(scope="module")
def mint(stint: Installation) -> Mint:
    httpx.get(f"{stint.url}/.well-known/jwks.json").raise_for_status()
    return Mint(stint)


HISTORY = st.lists(
    st.tuples(
        st.sampled_from([ABSENT, None, "", "visitor", 5, "internal_admin", "internal_user", "customer_admin", "customer_user"]),
        st.sampled_from([ABSENT, None, "", str(CUSTOMER), str(OTHER)]),
        st.sampled_from(["id", "access"]),
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY)
def test_it_holds_over_http(history: list[tuple[Any, Any, str]], stint: Installation, mint: Mint) -> None:
    sub, has_shown_anything = str(uuid4()), False
    with httpx.Client(base_url=stint.url) as client:
        for role, customer, use in history:
            who: dict[str, Any] = {"aud": "stint"} if use == "id" else {"aud": ABSENT, "client_id": "stint"}
            text = mint.token(sub=sub, role=role, customer=customer, token_use=use, **who)
            answer = client.get("/api/me", headers={"Authorization": f"Bearer {text}"})
            has_customer = customer in (str(CUSTOMER), str(OTHER))
            assert answer.status_code in (200, 403)
            found = answer.json()["role"] if answer.status_code == 200 else None
            if role is ABSENT:
                assert found == ("admin" if use == "id" and not has_customer and not has_shown_anything else None)
            elif role in ("customer_admin", "customer_user"):
                assert found == (role if has_customer else None)
            else:
                assert found == {"internal_admin": "admin", "internal_user": "internal"}.get(role)
            has_shown_anything = has_shown_anything or role is not ABSENT or has_customer


def test_an_invited_user_without_a_role_in_the_token_is_no_admin(given: Given, stint: Installation, mint: Mint) -> None:
    by = given.person()
    customer = given.customer(by)
    body = {"email": f"{given.new_id()}@acme.example", "name": "Jo"}
    invited = by.post(f"/api/customers/{customer['id']}/users/invite", body)
    answer = httpx.get(f"{stint.url}/api/me", headers={"Authorization": f"Bearer {mint.token(sub=invited['id'], role=ABSENT)}"})
    assert answer.status_code == 403

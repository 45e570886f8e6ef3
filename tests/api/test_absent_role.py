"""A token without a role: all combinations against a second statement of the rule, and no customer's user becomes admin."""

import time
from dataclasses import dataclass, replace
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.auth.auth import Authenticator
from api.auth.tokens import Token
from schemas.identity.provider import LocalProvider
from schemas.identity.users import Role, StoredUser
from schemas.settings import Settings
from tests.identity.tokens import ABSENT, Mint
from tests.support.given import Given
from tests.support.installation import SECRET_KEY, Installation
from tests.support.sizes import examples

pytestmark = pytest.mark.processes

CUSTOMER, OTHER = UUID(int=1), UUID(int=2)
# the claim after verification: None is absent, and null has become ""
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
    return Authenticator(made, LocalProvider(None))


AUTHENTICATORS = {(legacy, own): authenticator(legacy=legacy, own=own) for legacy in ("on", "off") for own in ("stint", "")}


def make_token(role: Any, customer: UUID | None, use: str = "id", client: str = "stint") -> Token:
    return Token(uuid4(), use, client, "jo@example.com", "Jo", role, customer, 0.0)


def stored_user(role: str | None, customer: UUID | None) -> StoredUser:
    return StoredUser(email="jo@example.com", name="Jo", role=role, customer_id=customer, joined=True, revoked=False)


def the_rule(claims: Token, before: StoredUser | None, *, legacy: str, own: str) -> str | None:
    """The rule, written without the code of the application."""
    if claims.role is None:
        never_seen_with_claims = before is None or (before.role is None and before.customer_id is None)
        if (
            legacy == "on"
            and claims.use == "id"
            and claims.client_id == own
            and claims.customer_id is None
            and never_seen_with_claims
        ):
            return "admin"
        return None
    if not isinstance(claims.role, str):
        return None
    if claims.role == "internal_admin":
        return "admin"
    if claims.role[:9] == "internal_":
        return "internal"
    if claims.role in ("customer_admin", "customer_user") and claims.customer_id is not None:
        return claims.role
    return None


def test_every_combination_follows_the_rule() -> None:
    seen: list[StoredUser | None] = [None, *(stored_user(role, customer) for role, customer in product(
        [None, "", "visitor", "internal_admin", "internal_user", "customer_admin", "customer_user"], [None, CUSTOMER]
    ))]  # fmt: skip
    rows = 0
    for (legacy, own), use, client, role, customer, before in product(
        AUTHENTICATORS, ["id", "access"], ["stint", "portal"], CLAIMS, [None, CUSTOMER], seen
    ):
        claims = make_token(role, customer, use, client)
        found, found_customer = AUTHENTICATORS[legacy, own].resolve_role(claims, before)
        expected = the_rule(claims, before, legacy=legacy, own=own)
        assert (found and found.value) == expected, (claims, before, legacy, own)
        if found is not None:
            assert found_customer == (customer if expected in ("customer_admin", "customer_user") else None)
        rows += 1
    assert rows == 4 * 2 * 2 * len(CLAIMS) * 2 * 15


@dataclass
class StoredRow:
    """The row of one user in the table."""

    row: StoredUser | None = None

    def save(self, claims: Token, *, role: str | None, customer: UUID | None) -> None:
        before = self.row or stored_user(None, None)
        self.row = with_claims(before, role=role if role is not None else before.role, customer=customer or before.customer_id)


def with_claims(before: StoredUser, *, role: str | None, customer: UUID | None) -> StoredUser:
    return replace(before, role=role, customer_id=customer)


TOKENS = st.builds(
    make_token,
    st.sampled_from(CLAIMS) | st.text(max_size=20),
    st.sampled_from([None, CUSTOMER, OTHER]),
    st.sampled_from(["id", "access"]),
    st.sampled_from(["stint", "portal"]),
)


@settings(max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(TOKENS, min_size=1, max_size=6), which=st.sampled_from(list(AUTHENTICATORS)))
def test_no_history_of_tokens_makes_a_customers_user_admin(history: list[Token], which: tuple[str, str]) -> None:
    """Nor does any user become admin without an admin's token, after a token with any role or customer."""
    authenticator, stored, has_claimed_anything = AUTHENTICATORS[which], StoredRow(), False
    for claims in history:
        role, found_customer = authenticator.resolve_role(claims, stored.row)
        if role is Role.admin:
            assert claims.role == "internal_admin" or (claims.role is None and not has_claimed_anything)
        if role in (Role.customer_admin, Role.customer_user):
            assert found_customer == claims.customer_id is not None
        elif role is not None:
            assert found_customer is None
        has_claimed_anything = has_claimed_anything or claims.role is not None or claims.customer_id is not None
        claimed = None if claims.role is None else str(claims.role)
        if stored.row is not None or role is not None or claimed is not None or found_customer is not None:
            stored.save(claims, role=claimed, customer=found_customer)


# the same over HTTP with a real table, and fewer histories


@pytest.fixture(scope="module")
def mint(stint: Installation) -> Mint:
    httpx2.get(f"{stint.url}/.well-known/jwks.json").raise_for_status()
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


@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY)
def test_no_history_of_tokens_makes_a_customers_user_admin_over_http(
    history: list[tuple[Any, Any, str]], stint: Installation, mint: Mint
) -> None:
    sub, has_claimed_anything = str(uuid4()), False
    with httpx2.Client(base_url=stint.url) as client:
        # each token is later than the one before: an older one states nothing new
        for issued, (role, customer, use) in enumerate(history, int(time.time()) - len(history)):
            who: dict[str, Any] = {"aud": "stint"} if use == "id" else {"aud": ABSENT, "client_id": "stint"}
            text = mint.token(sub=sub, role=role, customer=customer, token_use=use, iat=issued, **who)
            answer = client.get("/api/me", headers={"Authorization": f"Bearer {text}"})
            has_customer = customer in (str(CUSTOMER), str(OTHER))
            assert answer.status_code in (200, 403)
            found = answer.json()["role"] if answer.status_code == 200 else None
            if role is ABSENT:
                assert found == ("admin" if use == "id" and not has_customer and not has_claimed_anything else None)
            elif role in ("customer_admin", "customer_user"):
                assert found == (role if has_customer else None)
            else:
                assert found == {"internal_admin": "admin", "internal_user": "internal"}.get(role)
            has_claimed_anything = has_claimed_anything or role is not ABSENT or has_customer


def test_an_invited_user_with_a_token_without_a_role_is_not_admin(given: Given, stint: Installation, mint: Mint) -> None:
    by = given.person()
    customer = given.customer(by)
    body = {"email": f"{given.new_id()}@acme.example", "name": "Jo"}
    invited = by.post(f"/api/customers/{customer['id']}/users/invite", body)
    answer = httpx2.get(
        f"{stint.url}/api/me", headers={"Authorization": f"Bearer {mint.token(sub=invited['id'], role=ABSENT)}"}
    )
    assert answer.status_code == 403

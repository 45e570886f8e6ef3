"""Forged and confused tokens are not valid, with either identity provider, and Stint never uses a key that a token brings or
points to. test_auth.py tests valid tokens."""

import hashlib
import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.identity.forged_tokens import FORGED, POOL
from tests.identity.tokens import Mint, encoded
from tests.support.answers import problem
from tests.support.apis import Another
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def attacker() -> Iterator[socket.socket]:
    """A server that must not be called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture(scope="module", params=["local", "cognito"])
def api_and_mint(request: pytest.FixtureRequest, stint: Installation, another: Another) -> tuple[Installation, Mint]:
    """An API, and a mint with the keys of its identity provider. The keys of the pool are those of the local provider."""
    keys = f"{stint.url}/.well-known/jwks.json"
    httpx2.get(keys).raise_for_status()  # makes the first key
    if request.param == "local":
        return stint, Mint(stint)
    pool = another(
        IDENTITY="cognito",
        COGNITO_USER_POOL_ID=POOL,
        AUTH_JWKS_URL=keys,
        AUTH_CLIENT_IDS="stint",
        INTERNAL_CLIENT_IDS="stint",
    )
    return pool, Mint(stint, f"https://cognito-idp.eu-central-1.amazonaws.com/{POOL}")


def get_me(api: Installation, headers: Any, **more: Any) -> httpx2.Response:
    return httpx2.get(f"{api.url}/api/me", headers=headers, timeout=20, **more)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_not_valid(name: str, api_and_mint: tuple[Installation, Mint], attacker: socket.socket) -> None:
    api, mint = api_and_mint
    token = FORGED[name](mint, f"http://127.0.0.1:{attacker.getsockname()[1]}")
    if name.startswith("alg None"):  # the same API accepts a valid token
        assert get_me(api, bearer(mint.token())).status_code == 200

    answer = get_me(api, bearer(token))

    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    with pytest.raises(BlockingIOError):
        attacker.accept()


ROLES: dict[str, tuple[Any, str | None]] = {
    # not a role
    **{
        f"{role!r}": (role, None)
        for role in (
            "Internal_admin",
            "INTERNAL_ADMIN",
            " internal_admin",
            "\u200binternal_admin",
            "\u0456nternal_admin",
            "internal\uff3fadmin",
            "admin",
            "*",
            "customer_user,internal_admin",
            ["customer_user", "internal_admin"],
            {"role": "internal_admin"},
            True,
        )
    },
    # an internal role, but not admin
    **{
        f"{role!r}": (role, "internal")
        for role in (
            "internal_admin ",
            "internal_Admin",
            "internal_\u0430dmin",
            "internal_admin,customer_user",
            "internal_admin\u200b",
        )
    },
}


@pytest.mark.parametrize("name", ROLES)
def test_a_role_that_looks_like_admin_is_not_admin(name: str, api_and_mint: tuple[Installation, Mint]) -> None:
    (api, mint), (role, becomes) = api_and_mint, ROLES[name]
    answer = get_me(api, bearer(mint.token(role=role)))
    if becomes is None:
        problem(answer, 403)
    else:
        assert answer.json()["role"] == becomes


def test_nested_claims_are_ignored(api_and_mint: tuple[Installation, Mint]) -> None:
    api, mint = api_and_mint
    inner = {"custom:userRole": "internal_admin", "custom:customerId": str(uuid4()), "sub": str(uuid4())}
    own = str(uuid4())
    more: dict[str, Any] = {
        "claims": inner,
        "cognito:groups": ["internal_admin"],
        "userRole": "internal_admin",
        "customerId": inner["sub"],
    }
    answer = get_me(api, bearer(mint.token(role="customer_user", customer=own, **more))).json()
    assert (answer["role"], answer["customerId"]) == ("customer_user", own)


def test_the_token_is_read_from_the_authorization_header_only(api_and_mint: tuple[Installation, Mint]) -> None:
    api, mint = api_and_mint
    token = mint.token()
    problem(get_me(api, {}, params={"access_token": token}), 401)
    problem(get_me(api, {"Cookie": f"access_token={token}; Authorization=Bearer {token}"}), 401)
    problem(get_me(api, {"X-Authorization": f"Bearer {token}", "Proxy-Authorization": f"Bearer {token}"}), 401)
    for two in ([token, mint.token()], [token, "nonsense"], ["nonsense", token]):
        problem(get_me(api, [("Authorization", f"Bearer {each}") for each in two]), 401)
    problem(get_me(api, {"Authorization": f"Bearer {token}, Bearer {token}"}), 401)
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert get_me(api, {"Authorization": f"{scheme} {token}"}).status_code == 200


def test_the_log_contains_nothing_of_a_forged_token(api_and_mint: tuple[Installation, Mint]) -> None:
    api, mint = api_and_mint
    mark = f"mark{uuid4().hex}"
    problem(get_me(api, bearer(mint.token({"kid": mark}, email=f"{mark}@example.com"))), 401)
    problem(get_me(api, bearer(f"{mark}.{mark}.{mark}")), 401)
    digest = hashlib.sha256(mark.encode()).hexdigest()
    assert mark not in api.log("api") and digest not in api.log("api") and encoded(mark.encode()) not in api.log("api")

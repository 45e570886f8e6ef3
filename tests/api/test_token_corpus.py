"""Forged and confused tokens: what is known to have opened other doors. Each is told that it is not valid, by either identity
provider, and no key that it brings along or points to is ever looked at. test_auth.py has what a good one means."""

import base64
import hashlib
import hmac
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.api.answers import problem
from tests.api.conftest import Another
from tests.api.tokens import ABSENT, Mint, encoded
from tests.installation import Installation

Forge = Callable[[Mint, str], str]  # `str` is a URL of the attacker's
POOL = "eu-central-1_AbCdEfGhI"


@pytest.fixture(scope="module")
def attacker() -> Iterator[socket.socket]:
    """A server that nobody may come to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture(scope="module", params=["local", "cognito"])
def door(request: pytest.FixtureRequest, stint: Installation, another: Another) -> tuple[Installation, Mint]:
    """An API, and who can sign for it as its identity provider does. The keys of the pool are the other Stint's."""
    keys = f"{stint.url}/.well-known/jwks.json"
    httpx.get(keys).raise_for_status()  # makes the first key
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


def me(api: Installation, headers: Any, **more: Any) -> httpx.Response:
    return httpx.get(f"{api.url}/api/me", headers=headers, timeout=20, **more)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def as_hmac(key: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda signed: hmac.new(key, signed, digest).digest()


def strangers() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk_of(key: rsa.RSAPrivateKey, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": encoded(numbers.n.to_bytes(256, "big")), "e": "AQAB", "use": "sig", **more}


def spki(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def by_a_stranger(**header: Any) -> Forge:
    """Signed well, by a key that only the header tells of."""

    def forge(mint: Mint, url: str) -> str:
        key = strangers()
        told = {name: value(key, url) if callable(value) else value for name, value in header.items()}
        return mint.signed_by(lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA256()), alg="RS256", **told)

    return forge


def parts(change: Callable[[str, str, str], str]) -> Forge:
    """A good token, taken apart and put together otherwise."""
    return lambda mint, _: change(*mint.token().split("."))


def without_a_signature(alg: Any) -> Forge:
    return lambda mint, _: mint.signed_by(lambda _: b"", alg=alg)


def rsa_with(algorithm: str, digest: hashes.HashAlgorithm, *, pss: bool = False) -> Forge:
    """Signed by the right key, in a way that was not agreed upon."""
    padded = padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else padding.PKCS1v15()
    return lambda mint, _: mint.signed_by(lambda signed: mint.key.sign(signed, padded, digest), alg=algorithm)


def header(**changes: Any) -> Forge:
    return lambda mint, _: mint.token(changes)


def claims(**changes: Any) -> Forge:
    return lambda mint, _: mint.token(**changes)


def soon(claim: str) -> Forge:
    """Ten minutes from when it is forged, which is long after this file was read."""
    return lambda mint, _: mint.token(**{claim: int(time.time()) + 600})


def written(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Forge:
    """The right signature over a header and claims that are written otherwise."""

    def forge(mint: Mint, _: str) -> str:
        head, said = mint.token().split(".")[:2]
        return mint.signs(*change(decoded(head), decoded(said)))

    return forge


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def es256(mint: Mint, _: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return mint.signed_by(lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA256())), alg="ES256")


FORGED: dict[str, Forge] = {
    # no signature is needed, it says
    **{f"alg {alg!r}": without_a_signature(alg) for alg in ("none", "None", "NONE", "nOnE", "none ", "", "null", None, 0, [])},
    "alg none, with a signature": lambda mint, _: mint.token({"alg": "none"}),
    # a public key taken for a secret
    **{
        f"{alg} with the public key ({form})": (
            lambda mint, _, form=form, alg=alg, digest=digest: mint.signed_by(as_hmac(mint.public_forms[form], digest), alg=alg)
        )
        for alg, digest in (("HS256", "sha256"), ("HS512", "sha512"))
        for form in (
            "PEM",
            "PEM without its last line break",
            "PEM of PKCS#1",
            "DER",
            "DER of PKCS#1",
            "JWK",
            "modulus",
            "modulus in base64",
            "nothing",
        )
    },
    "HS256 with the secret that everybody tries": lambda mint, _: mint.signed_by(as_hmac(b"secret"), alg="HS256"),
    # one kind of key taken for another, one way of signing for another
    "ES256 with a key of one's own": es256,
    "an ES256 signature of nothing": lambda mint, _: mint.signed_by(lambda _: bytes(64), alg="ES256"),
    "RS384": rsa_with("RS384", hashes.SHA384()),
    "RS512": rsa_with("RS512", hashes.SHA512()),
    "PS256": rsa_with("PS256", hashes.SHA256(), pss=True),
    "PS256 that says RS256": rsa_with("RS256", hashes.SHA256(), pss=True),
    "RS512 that says RS256": rsa_with("RS256", hashes.SHA512()),
    "rs256": header(alg="rs256"),
    # which key: of the header's own choosing
    "a stranger's key under the right kid": by_a_stranger(),
    "jwk": by_a_stranger(kid="mine", jwk=lambda key, _: jwk_of(key, kid="mine")),
    "jwk under the right kid": by_a_stranger(jwk=lambda key, _: jwk_of(key)),
    "jku": by_a_stranger(kid="mine", jku=lambda _, url: f"{url}/jwks.json"),
    "jku under the right kid": by_a_stranger(jku=lambda _, url: f"{url}/jwks.json"),
    "x5u": by_a_stranger(kid="mine", x5u=lambda _, url: f"{url}/chain.pem"),
    "x5c": by_a_stranger(kid="mine", x5c=lambda key, _: [base64.b64encode(spki(key)).decode()]),
    "kid that is a URL": by_a_stranger(kid=lambda _, url: f"{url}/key"),
    **{
        f"kid {text[:30]!r}": by_a_stranger(kid=text)
        for text in (
            "",
            " ",
            "../../../../dev/null",
            "/dev/null",
            "file:///dev/null",
            "' OR 1=1 --",
            "x' UNION SELECT 'secret' --",
            "a\0b",
            "a\r\nX-Evil: 1",
            "|cat /etc/passwd",
            "%00",
            "k" * 5000,
            "\N{PILE OF POO}",
            "\ud800",
            "*",
            "constructor",
        )
    },
    **{f"kid {kid!r}": by_a_stranger(kid=kid) for kid in (None, 0, 1.5, True, [], ["a"], {"a": 1})},
    "kid with a blank after it": lambda mint, _: mint.token({"kid": f"{mint.kid} "}),
    "kid in other case": lambda mint, _: mint.token({"kid": f"{mint.kid}".upper() + "A"}),
    "alg in a list": header(alg=["RS256"]),
    "crit of what we do not know": header(crit=["exp", "x"], x=1),
    "crit b64": header(crit=["b64"], b64=False),
    "compressed": lambda mint, _: mint.signs(
        json.dumps({"alg": "RS256", "kid": mint.kid, "zip": "DEF"}).encode(), zlib.compress(json.dumps(mint.claims()).encode())
    ),
    # how it is written
    "two parts": parts(lambda head, said, _: f"{head}.{said}"),
    "four parts": parts(lambda head, said, signature: f"{head}.{said}.{signature}.{signature}"),
    "five parts": parts(lambda head, said, signature: f"{head}.{said}.{signature}.{signature}.{signature}"),
    "JWE": lambda *_: ".".join([encoded(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), *["c2ln"] * 4]),
    "JSON in place of the compact form": parts(
        lambda head, said, signature: json.dumps({"protected": head, "payload": said, "signature": signature})
    ),
    "a signature of nothing but As": parts(lambda head, said, signature: f"{head}.{said}.{'A' * len(signature)}"),
    "without its signature": parts(lambda head, said, _: f"{head}.{said}."),
    "half of its signature": parts(lambda head, said, signature: f"{head}.{said}.{signature[: len(signature) // 2]}"),
    "a longer signature": parts(lambda head, said, signature: f"{head}.{said}.{signature}AAAA"),
    "padding": parts(lambda head, said, signature: f"{head}.{said}.{signature}=="),
    "padding of the claims": parts(lambda head, said, signature: f"{head}.{said}==.{signature}"),
    "a blank within": parts(lambda head, said, signature: f"{head}.{said}. {signature}"),
    "a tab within": parts(lambda head, said, signature: f"{head}.{said}\t.{signature}"),
    "signs that are not base64": parts(lambda head, said, signature: f"{head}.{said}.{signature[:-2]}!{signature[-2:]}"),
    "quotes around it": parts(lambda head, said, signature: f'"{head}.{said}.{signature}"'),
    "a comma and another": parts(lambda head, said, signature: f"{head}.{said}.{signature},{head}.{said}.{signature}"),
    "claims of another token": lambda mint, _: ".".join(
        [mint.token().split(".")[0], mint.token(role="internal_user").split(".")[1], mint.token().split(".")[2]]
    ),
    "huge": claims(name="a" * 20_000),
    "claims that are a list": written(lambda head, _: (head, b"[]")),
    "claims that are no JSON": written(lambda head, _: (head, b"admin")),
    "claims that are no UTF-8": written(lambda head, said: (head, said.replace(b"ann@", b"\xff\xfe@"))),
    "claims nested deeply": written(lambda head, _: (head, b'{"a":' * 900 + b"1" + b"}" * 900)),
    "a header nested deeply": lambda *_: f"{encoded(b'[' * 3000)}.e30.c2ln",
    "a header that is a list": written(lambda _, said: (b"[]", said)),
    "a header that is no UTF-8": written(lambda _, said: (b"\xff", said)),
    # from whom, for whom
    **{
        f"issuer {text}": (lambda mint, _, change=change: mint.token(iss=change(mint.issuer)))
        for text, change in {
            "with a slash": lambda iss: f"{iss}/",
            "in other case": str.upper,
            "with a blank": lambda iss: f"{iss} ",
            "in a list": lambda iss: [iss],
            "in an object": lambda iss: {iss: iss},
            "that begins alike": lambda iss: f"{iss}.x.example",
            "that ends alike": lambda iss: f"https://x.example/{iss}",
            "empty": lambda _: "",
            "null": lambda _: None,
        }.items()
    },
    "issuer of another pool": claims(iss=f"https://cognito-idp.eu-central-1.amazonaws.com/{POOL}x"),
    "for another client": claims(aud="another"),
    "an access token for another client": claims(token_use="access", client_id="another"),
    "the client in a list": claims(aud=["stint"]),
    "the client and another": claims(aud=["other", "stint"]),
    "the client in other case": claims(aud="STINT"),
    "an ID token with client_id for aud": claims(aud=ABSENT, client_id="stint"),
    "an access token with aud for client_id": claims(token_use="access", client_id=ABSENT),
    "an access token for a list of clients": claims(token_use="access", client_id=["stint"]),
    **{f"token_use {use!r}": claims(token_use=use) for use in ("", "ID", "id ", "refresh", None, True, ["id"], {"id": 1})},
    # when
    "expires when time has ended": claims(exp=1e400),
    "long before 1970": claims(exp=-2_000_000_000),
    "exp in a list": claims(exp=[2_000_000_000]),
    "exp in an object": claims(exp={"a": 2_000_000_000}),
    "exp just past": claims(exp=int(time.time()) - 2),
    **{f"exp {exp!r}": claims(exp=exp) for exp in (0, -1, 1.5, True, False, None, "", "soon", "1e99")},
    **{f"without {name}": claims(**{name: ABSENT}) for name in ("iss", "aud", "sub", "exp", "token_use")},
    "nbf in the future": soon("nbf"),
    "nbf that is no time": claims(nbf="soon"),
    "iat in the future": soon("iat"),
    "iat that is no time": claims(iat="now"),
    # who
    **{f"sub {sub!r}": claims(sub=sub) for sub in ("", " ", "ann", 0, None, ["a"], {"a": 1}, "' OR 1=1 --", "a\0")},
    "half a surrogate pair in the name": claims(name="\ud800"),
    "a NUL in the address": claims(email="ann\0@example.com"),
    "a NUL in the role": claims(role="internal_\0"),
    "a list of customers": claims(role="customer_user", customer=[str(uuid4())]),
    "two customers": claims(role="customer_user", customer=f"{uuid4()} {uuid4()}"),
    **{
        f"customer {customer!r}": claims(role="customer_user", customer=customer)
        for customer in (["a"], {"id": "a"}, "*", "acme", 5, True, "' OR 1=1 --")
    },
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_not_valid(name: str, door: tuple[Installation, Mint], attacker: socket.socket) -> None:
    api, mint = door
    token = FORGED[name](mint, f"http://127.0.0.1:{attacker.getsockname()[1]}")
    if name.startswith("alg None"):  # the reason is the token's alone
        assert me(api, bearer(mint.token())).status_code == 200

    answer = me(api, bearer(token))

    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    with pytest.raises(BlockingIOError):
        attacker.accept()


ROLES: dict[str, tuple[Any, str | None]] = {
    # what looks like an admin's role is none
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
    # nor is one of the firm's other roles
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
def test_what_only_looks_like_an_admins_role_is_none(name: str, door: tuple[Installation, Mint]) -> None:
    (api, mint), (role, becomes) = door, ROLES[name]
    answer = me(api, bearer(mint.token(role=role)))
    if becomes is None:
        problem(answer, 403)
    else:
        assert answer.json()["role"] == becomes


def test_claims_within_claims_say_nothing(door: tuple[Installation, Mint]) -> None:
    api, mint = door
    inner = {"custom:userRole": "internal_admin", "custom:customerId": str(uuid4()), "sub": str(uuid4())}
    own = str(uuid4())
    more = {"claims": inner, "cognito:groups": ["internal_admin"], "userRole": "internal_admin", "customerId": inner["sub"]}
    said = me(api, bearer(mint.token(role="customer_user", customer=own, **more))).json()
    assert (said["role"], said["customerId"]) == ("customer_user", own)


def test_the_token_counts_only_where_it_belongs(door: tuple[Installation, Mint]) -> None:
    api, mint = door
    token = mint.token()
    problem(me(api, {}, params={"access_token": token}), 401)
    problem(me(api, {"Cookie": f"access_token={token}; Authorization=Bearer {token}"}), 401)
    problem(me(api, {"X-Authorization": f"Bearer {token}", "Proxy-Authorization": f"Bearer {token}"}), 401)
    for two in ([token, mint.token()], [token, "nonsense"], ["nonsense", token]):
        problem(me(api, [("Authorization", f"Bearer {each}") for each in two]), 401)
    problem(me(api, {"Authorization": f"Bearer {token}, Bearer {token}"}), 401)
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert me(api, {"Authorization": f"{scheme} {token}"}).status_code == 200


def test_the_log_says_of_a_forged_token_only_that_it_was_refused(door: tuple[Installation, Mint]) -> None:
    api, mint = door
    mark = f"mark{uuid4().hex}"
    problem(me(api, bearer(mint.token({"kid": mark}, email=f"{mark}@example.com"))), 401)
    problem(me(api, bearer(f"{mark}.{mark}.{mark}")), 401)
    digest = hashlib.sha256(mark.encode()).hexdigest()
    assert mark not in api.log("api") and digest not in api.log("api") and encoded(mark.encode()) not in api.log("api")

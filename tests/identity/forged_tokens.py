"""Forged and confused tokens: known attacks on verifiers of JWTs, by name. test_token_corpus.py sends them."""

import base64
import hmac
import json
import time
import zlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.identity.tokens import ABSENT, Mint, encoded

Forge = Callable[[Mint, str], str]  # `str` is a URL of the attacker
POOL = "eu-central-1_AbCdEfGhI"


def as_hmac(key: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda signed: hmac.new(key, signed, digest).digest()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk_of(key: rsa.RSAPrivateKey, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": encoded(numbers.n.to_bytes(256, "big")), "e": "AQAB", "use": "sig", **more}


def spki(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def by_another_key(**header: Any) -> Forge:
    """Correctly signed, by a key that only the header names."""

    def forge(mint: Mint, url: str) -> str:
        key = new_key()
        values = {name: value(key, url) if callable(value) else value for name, value in header.items()}
        return mint.signed_by(lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA256()), alg="RS256", **values)

    return forge


def parts(change: Callable[[str, str, str], str]) -> Forge:
    """A valid token whose parts are put together in another way."""
    return lambda mint, _: change(*mint.token().split("."))


def without_a_signature(alg: Any) -> Forge:
    return lambda mint, _: mint.signed_by(lambda _: b"", alg=alg)


def rsa_with(algorithm: str, digest: hashes.HashAlgorithm, *, pss: bool = False) -> Forge:
    """Signed by the right key, with an algorithm that Stint does not accept."""
    padded = padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else padding.PKCS1v15()
    return lambda mint, _: mint.signed_by(lambda signed: mint.key.sign(signed, padded, digest), alg=algorithm)


def public_key_as_secret(alg: str, digest: str, form: str) -> Forge:
    return lambda mint, _: mint.signed_by(as_hmac(mint.public_forms[form], digest), alg=alg)


def issuer(change: Callable[[str], Any]) -> Forge:
    return lambda mint, _: mint.token(iss=change(mint.issuer))


def header(**changes: Any) -> Forge:
    return lambda mint, _: mint.token(changes)


def claims(**changes: Any) -> Forge:
    return lambda mint, _: mint.token(**changes)


def soon(claim: str) -> Forge:
    """A claim ten minutes in the future, counted from when the token is made and not from the import of this file."""

    def forge(mint: Mint, _: str) -> str:
        changes: dict[str, Any] = {claim: int(time.time()) + 600}
        return mint.token(**changes)

    return forge


def written(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Forge:
    """The right signature over a header and claims with other bytes."""

    def forge(mint: Mint, _: str) -> str:
        head, body = mint.token().split(".")[:2]
        return mint.signs(*change(decoded(head), decoded(body)))

    return forge


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def es256(mint: Mint, _: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return mint.signed_by(lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA256())), alg="ES256")


ALGORITHMS: tuple[Any, ...] = ("none", "None", "NONE", "nOnE", "none ", "", "null", None, 0, [])
ISSUERS: dict[str, Callable[[str], Any]] = {
    "with a slash": lambda iss: f"{iss}/",
    "in other case": str.upper,
    "with a blank": lambda iss: f"{iss} ",
    "in a list": lambda iss: [iss],
    "in an object": lambda iss: {iss: iss},
    "with the same beginning": lambda iss: f"{iss}.x.example",
    "with the same end": lambda iss: f"https://x.example/{iss}",
    "empty": lambda _: "",
    "null": lambda _: None,
}

FORGED: dict[str, Forge] = {
    # the header says that no signature is needed
    **{f"alg {alg!r}": without_a_signature(alg) for alg in ALGORITHMS},
    "alg none, with a signature": lambda mint, _: mint.token({"alg": "none"}),
    # a public key used as a secret
    **{
        f"{alg} with the public key ({form})": public_key_as_secret(alg, digest, form)
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
    "HS256 with a common secret": lambda mint, _: mint.signed_by(as_hmac(b"secret"), alg="HS256"),
    # confusion of key types and algorithms
    "ES256 with the attacker's key": es256,
    "an ES256 signature of zeros": lambda mint, _: mint.signed_by(lambda _: bytes(64), alg="ES256"),
    "RS384": rsa_with("RS384", hashes.SHA384()),
    "RS512": rsa_with("RS512", hashes.SHA512()),
    "PS256": rsa_with("PS256", hashes.SHA256(), pss=True),
    "PS256 that says RS256": rsa_with("RS256", hashes.SHA256(), pss=True),
    "RS512 that says RS256": rsa_with("RS256", hashes.SHA512()),
    "rs256": header(alg="rs256"),
    # a key that the header chooses
    "another key under the right kid": by_another_key(),
    "jwk": by_another_key(kid="mine", jwk=lambda key, _: jwk_of(key, kid="mine")),
    "jwk under the right kid": by_another_key(jwk=lambda key, _: jwk_of(key)),
    "jku": by_another_key(kid="mine", jku=lambda _, url: f"{url}/jwks.json"),
    "jku under the right kid": by_another_key(jku=lambda _, url: f"{url}/jwks.json"),
    "x5u": by_another_key(kid="mine", x5u=lambda _, url: f"{url}/chain.pem"),
    "x5c": by_another_key(kid="mine", x5c=lambda key, _: [base64.b64encode(spki(key)).decode()]),
    "kid that is a URL": by_another_key(kid=lambda _, url: f"{url}/key"),
    **{
        f"kid {text[:30]!r}": by_another_key(kid=text)
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
    **{f"kid {kid!r}": by_another_key(kid=kid) for kid in (None, 0, 1.5, True, [], ["a"], {"a": 1})},
    "kid with a blank after it": lambda mint, _: mint.token({"kid": f"{mint.kid} "}),
    "kid in other case": lambda mint, _: mint.token({"kid": f"{mint.kid}".upper() + "A"}),
    "alg in a list": header(alg=["RS256"]),
    "crit with an unknown name": header(crit=["exp", "x"], x=1),
    "crit b64": header(crit=["b64"], b64=False),
    "compressed": lambda mint, _: mint.signs(
        json.dumps({"alg": "RS256", "kid": mint.kid, "zip": "DEF"}).encode(), zlib.compress(json.dumps(mint.claims()).encode())
    ),
    # the format
    "two parts": parts(lambda head, body, _: f"{head}.{body}"),
    "four parts": parts(lambda head, body, signature: f"{head}.{body}.{signature}.{signature}"),
    "five parts": parts(lambda head, body, signature: f"{head}.{body}.{signature}.{signature}.{signature}"),
    "JWE": lambda *_: ".".join([encoded(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), *["c2ln"] * 4]),
    "JSON instead of the compact form": parts(
        lambda head, body, signature: json.dumps({"protected": head, "payload": body, "signature": signature})
    ),
    "a signature of As only": parts(lambda head, body, signature: f"{head}.{body}.{'A' * len(signature)}"),
    "without its signature": parts(lambda head, body, _: f"{head}.{body}."),
    "half of its signature": parts(lambda head, body, signature: f"{head}.{body}.{signature[: len(signature) // 2]}"),
    "a longer signature": parts(lambda head, body, signature: f"{head}.{body}.{signature}AAAA"),
    "padding": parts(lambda head, body, signature: f"{head}.{body}.{signature}=="),
    "padding of the claims": parts(lambda head, body, signature: f"{head}.{body}==.{signature}"),
    "a blank inside": parts(lambda head, body, signature: f"{head}.{body}. {signature}"),
    "a tab inside": parts(lambda head, body, signature: f"{head}.{body}\t.{signature}"),
    "characters that are not base64": parts(lambda head, body, signature: f"{head}.{body}.{signature[:-2]}!{signature[-2:]}"),
    "quotes around it": parts(lambda head, body, signature: f'"{head}.{body}.{signature}"'),
    "a comma and another": parts(lambda head, body, signature: f"{head}.{body}.{signature},{head}.{body}.{signature}"),
    "claims of another token": lambda mint, _: ".".join(
        [mint.token().split(".")[0], mint.token(role="internal_user").split(".")[1], mint.token().split(".")[2]]
    ),
    "huge": claims(name="a" * 20_000),
    "claims that are a list": written(lambda head, _: (head, b"[]")),
    "claims that are no JSON": written(lambda head, _: (head, b"admin")),
    "claims that are no UTF-8": written(lambda head, body: (head, body.replace(b"ann@", b"\xff\xfe@"))),
    "claims nested deeply": written(lambda head, _: (head, b'{"a":' * 900 + b"1" + b"}" * 900)),
    "a header nested deeply": lambda *_: f"{encoded(b'[' * 3000)}.e30.c2ln",
    "a header that is a list": written(lambda _, body: (b"[]", body)),
    "a header that is no UTF-8": written(lambda _, body: (b"\xff", body)),
    # issuer and client
    **{f"issuer {text}": issuer(change) for text, change in ISSUERS.items()},
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
    # times
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
    # user
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

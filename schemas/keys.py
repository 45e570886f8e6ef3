"""The local identity provider's signing keys and tokens. Every API process serves and trusts the same keys, from Postgres."""

import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from schemas.database import Connection
from schemas.settings import SettingsMissing

ALGORITHM = "RS256"
TOKEN_SECONDS = 12 * 3600
MARGIN_SECONDS = 300  # a key may be signing at the very moment when it is retired


class WrongSecretKey(SettingsMissing):
    """The keys in the database were encrypted under another SECRET_KEY."""


@dataclass(frozen=True)
class PublicKey:
    """One entry of the JWKS."""

    kid: str
    jwk: dict[str, Any]


async def ensure_key(conn: Connection, secret_key: str) -> None:
    """Makes the first signing key, once, however many processes start at the same time."""
    present = "SELECT 1 FROM signing_keys WHERE retired_at IS NULL LIMIT 1"
    if await (await conn.execute(present)).fetchone() is not None:
        return
    async with conn.transaction():
        await _lock(conn)
        if await (await conn.execute(present)).fetchone() is None:
            await _make(conn, secret_key)


async def rotate(conn: Connection, secret_key: str, *, distrust: bool) -> str:
    """Makes a new key, which signs from now on, and returns its kid. What the old ones have signed stays good until it expires;
    with `distrust` they are forgotten instead, and everybody has to sign in again."""
    async with conn.transaction():
        await _lock(conn)
        if distrust:
            await conn.execute("DELETE FROM signing_keys")
        else:
            await conn.execute("UPDATE signing_keys SET retired_at = clock_timestamp() WHERE retired_at IS NULL")
        return await _make(conn, secret_key)


async def _lock(conn: Connection) -> None:
    await conn.execute("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")


async def _make(conn: Connection, secret_key: str) -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = uuid4().hex[:16]
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    await conn.execute(
        "INSERT INTO signing_keys (kid, private_pem, public_jwk) VALUES (%s, %s, %s)",
        (kid, encrypted(private, secret_key), json.dumps(jwk | {"kid": kid, "use": "sig", "alg": ALGORITHM})),
    )
    return kid


async def public_keys(conn: Connection) -> list[PublicKey]:
    """The public halves, newest first; a retired key is served until the last token that it signed has expired."""
    cursor = await conn.execute(
        """
        SELECT kid, public_jwk FROM signing_keys
        WHERE retired_at IS NULL OR retired_at > now() - make_interval(secs => %s) ORDER BY created_at DESC
        """,
        (TOKEN_SECONDS + MARGIN_SECONDS,),
    )
    return [PublicKey(kid, jwk) for kid, jwk in await cursor.fetchall()]


def encrypted(private: rsa.RSAPrivateKey, secret_key: str) -> str:
    """A private key as it is kept."""
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret_key.encode()),
    ).decode()


def decrypted(pem: str, secret_key: str) -> rsa.RSAPrivateKey:
    """The private key that is kept so. Raises WrongSecretKey."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=secret_key.encode())
    except ValueError as error:
        raise WrongSecretKey("The signing keys in this database were made under another SECRET_KEY; set that one.") from error
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@dataclass(frozen=True)
class Claims:
    """Whom an ID token speaks for. `role` None leaves custom:userRole out altogether."""

    sub: UUID
    email: str
    name: str
    role: str | None
    customer_id: UUID | None


async def sign(conn: Connection, claims: Claims, *, secret_key: str, issuer: str, client_id: str) -> str:
    """An ID token as Cognito would issue it, valid for 12 hours."""
    await ensure_key(conn, secret_key)
    cursor = await conn.execute(
        "SELECT kid, private_pem FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC LIMIT 1"
    )
    row = await cursor.fetchone()
    assert row is not None
    now = int(time.time())
    payload: dict[str, Any] = {
        "iss": issuer,
        "aud": client_id,
        "sub": str(claims.sub),
        "token_use": "id",
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "email": claims.email,
        "name": claims.name,
    }
    if claims.role is not None:
        payload["custom:userRole"] = claims.role
    if claims.customer_id is not None:
        payload["custom:customerId"] = str(claims.customer_id)
    return jwt.encode(payload, decrypted(row[1], secret_key), algorithm=ALGORITHM, headers={"kid": row[0]})

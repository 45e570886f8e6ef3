"""The local identity provider's signing keys and ID tokens. All API processes read the same keys from Postgres."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from schemas.encryption import WrongSecretKey, secret_keys
from schemas.postgres.connection import Connection
from schemas.settings import Settings

if TYPE_CHECKING:  # importing them takes a while: only what signs, or makes keys, does it
    from cryptography.hazmat.primitives.asymmetric import rsa

ALGORITHM = "RS256"
TOKEN_SECONDS = 12 * 3600
MARGIN_SECONDS = 300  # a process may still sign with a key at the moment when another process retires it


@dataclass(frozen=True)
class PublicKey:
    """One entry of the JWKS."""

    kid: str
    jwk: dict[str, Any]


async def ensure_key(conn: Connection, secret_key: str) -> None:
    """Creates the first signing key if there is none; safe when several processes call it at the same time."""
    has_key = "SELECT EXISTS (SELECT FROM signing_keys WHERE retired_at IS NULL)"
    if await conn.value(has_key):
        return
    async with conn.transaction():
        await _lock_table(conn)
        if not await conn.value(has_key):
            await _create_key(conn, secret_key)


async def rotate_keys(conn: Connection, secret_key: str, *, revoke_old: bool) -> str:
    """Creates a key that signs from now on, and returns its kid. Tokens that older keys signed stay valid until they expire.
    With `revoke_old` the older keys are deleted instead, and all users have to sign in again."""
    async with conn.transaction():
        await _lock_table(conn)
        if revoke_old:
            await conn.execute("DELETE FROM signing_keys")
        else:
            await conn.execute("UPDATE signing_keys SET retired_at = clock_timestamp() WHERE retired_at IS NULL")
        return await _create_key(conn, secret_key)


async def _lock_table(conn: Connection) -> None:
    await conn.execute("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")


async def _create_key(conn: Connection, secret_key: str) -> str:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = uuid4().hex[:16]
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    await conn.execute(
        "INSERT INTO signing_keys (kid, private_pem, public_jwk) VALUES (%s, %s, %s)",
        (kid, encrypt_key(private, secret_key), json.dumps(jwk | {"kid": kid, "use": "sig", "alg": ALGORITHM})),
    )
    return kid


async def public_keys(conn: Connection) -> list[PublicKey]:
    """The public keys, newest first. A retired key is among them until the last token that it signed has expired."""
    return await conn.all(
        """
        SELECT kid, public_jwk AS jwk FROM signing_keys
        WHERE retired_at IS NULL OR retired_at > now() - make_interval(secs => %s) ORDER BY created_at DESC
        """,
        (TOKEN_SECONDS + MARGIN_SECONDS,),
        row=PublicKey,
    )


def encrypt_key(private: "rsa.RSAPrivateKey", secret_key: str) -> str:
    """The private key as a PEM text that is encrypted with the first key of SECRET_KEY."""
    from cryptography.hazmat.primitives import serialization

    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret_keys(secret_key)[0].encode()),
    ).decode()


@lru_cache(maxsize=8)
def decrypt_key(pem: str, secret_key: str) -> "rsa.RSAPrivateKey":
    """The private key in `pem`, which any key of SECRET_KEY may have encrypted. Raises WrongSecretKey if none did.

    That its numbers fit is not checked: `_create_key` made them, and the check takes 40 ms of a processor, a tenth of what
    `./stint token` takes."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    for candidate in secret_keys(secret_key):
        try:
            key = serialization.load_pem_private_key(
                pem.encode(), password=candidate.encode(), unsafe_skip_rsa_key_validation=True
            )
        except ValueError:
            continue
        assert isinstance(key, rsa.RSAPrivateKey)
        return key
    raise WrongSecretKey("The signing keys in this database were encrypted with another SECRET_KEY: set that one.")


async def is_readable(conn: Connection, secret_key: str) -> bool:
    """Whether SECRET_KEY decrypts the key that signs. True if there is none yet."""
    pem = await conn.value("SELECT private_pem FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC LIMIT 1")
    try:
        return pem is None or bool(decrypt_key(pem, secret_key))
    except WrongSecretKey:
        return False


async def reencrypt_keys(conn: Connection, secret_key: str) -> int:
    """Encrypts the signing keys that are in use with the first key of SECRET_KEY, and returns how many there are. Of a retired
    key only the public part is needed."""
    rows = await conn.all("SELECT kid, private_pem FROM signing_keys WHERE retired_at IS NULL ORDER BY kid FOR NO KEY UPDATE")
    for kid, pem in rows:
        reencrypted = encrypt_key(decrypt_key(pem, secret_key), secret_key)
        await conn.execute("UPDATE signing_keys SET private_pem = %s WHERE kid = %s", (reencrypted, kid))
    return len(rows)


@dataclass(frozen=True)
class Claims:
    """The claims of an ID token. With `role` None the token has no custom:userRole at all."""

    sub: UUID
    email: str
    name: str
    role: str | None
    customer_id: UUID | None


async def sign(conn: Connection, claims: Claims, *, settings: Settings) -> str:
    """A new ID token with the same claims as one from Cognito, valid for 12 hours. Its times are the database's, so that the
    clocks of the processes do not matter. It has the user's present `access_version`, and is void once that has changed."""
    import jwt

    secret_key = settings.secret_key.get_secret_value()
    await ensure_key(conn, secret_key)
    kid, pem, now, access_version = await conn.one(
        """
        SELECT kid, private_pem, floor(extract(epoch FROM clock_timestamp()))::bigint,
               coalesce((SELECT access_version FROM users WHERE id = %s), 0)
        FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC LIMIT 1
        """,
        (claims.sub,),
    )
    payload: dict[str, Any] = {
        "iss": settings.auth_issuer,
        "aud": settings.own_client_id,
        "sub": str(claims.sub),
        "token_use": "id",
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "email": claims.email,
        "name": claims.name,
        "access_version": access_version,
    }
    if claims.role is not None:
        payload["custom:userRole"] = claims.role
    if claims.customer_id is not None:
        payload["custom:customerId"] = str(claims.customer_id)
    return jwt.encode(payload, decrypt_key(pem, secret_key), algorithm=ALGORITHM, headers={"kid": kid})

"""Makes tokens for tests: signed with the installation's own key, or with another one."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from schemas.identity.signing_keys import decrypt_key
from tests.support.installation import SECRET_KEY, Installation

Claims = dict[str, Any]
ABSENT = object()


class Mint:
    """Signs any header and claims with the installation's own key."""

    def __init__(self, stint: Installation, issuer: str = "urn:stint:local") -> None:
        self.issuer = issuer
        self.kid, pem = stint.rows("SELECT kid, private_pem FROM signing_keys ORDER BY created_at DESC LIMIT 1")[0]
        self._key = decrypt_key(pem, SECRET_KEY)

    def claims(self, **changes: Any) -> Claims:
        """An admin's ID token; a claim set to ABSENT is left out. `role` and `customer` are the custom claims."""
        claims: Claims = {
            "iss": self.issuer,
            "aud": "stint",
            "sub": str(uuid4()),
            "token_use": "id",
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
            "email": "ann@example.com",
            "name": "Ann",
            "custom:userRole": "internal_admin",
        }
        names = {"role": "custom:userRole", "customer": "custom:customerId"}
        claims |= {names.get(name, name): value for name, value in changes.items()}
        return {name: value for name, value in claims.items() if value is not ABSENT}

    def token(self, header: Claims | None = None, **changes: Any) -> str:
        """A correctly signed token with these changes of the claims and of the header."""
        signed = _signed({"alg": "RS256", "typ": "JWT", "kid": self.kid} | (header or {}), self.claims(**changes))
        return _joined(signed, self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))

    def signs(self, header: bytes, claims: bytes) -> str:
        """A correctly signed token with exactly these bytes."""
        signed = f"{encoded(header)}.{encoded(claims)}".encode()
        return _joined(signed, self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))

    def signed_by(self, sign: Callable[[bytes], bytes], **header: Any) -> str:
        """An admin's token with the signature that `sign` returns."""
        signed = _signed({"typ": "JWT", "kid": self.kid} | header, self.claims())
        return _joined(signed, sign(signed))

    @property
    def key(self) -> rsa.RSAPrivateKey:
        return self._key

    @property
    def public_forms(self) -> dict[str, bytes]:
        """The public key, in all forms that a verifier could confuse with a secret."""
        public, pkcs1 = self._key.public_key(), serialization.PublicFormat.PKCS1
        spki, pem, der = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding.PEM, serialization.Encoding.DER
        numbers = public.public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        jwk = {"kty": "RSA", "kid": self.kid, "n": encoded(modulus), "e": encoded(numbers.e.to_bytes(3, "big"))}
        return {
            "PEM": public.public_bytes(pem, spki),
            "PEM without its last line break": public.public_bytes(pem, spki).rstrip(),
            "PEM of PKCS#1": public.public_bytes(pem, pkcs1),
            "DER": public.public_bytes(der, spki),
            "DER of PKCS#1": public.public_bytes(der, pkcs1),
            "JWK": json.dumps(jwk, separators=(",", ":")).encode(),
            "modulus": modulus,
            "modulus in base64": encoded(modulus).encode(),
            "nothing": b"",
        }


def encoded(part: bytes) -> str:
    """base64url without padding, as in tokens and cursors."""
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _signed(header: Claims, claims: Claims) -> bytes:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}".encode()


def _joined(signed: bytes, signature: bytes) -> str:
    return f"{signed.decode()}.{encoded(signature)}"


# well-formed, with a kid that does not exist: the API has to look for the key
UNKNOWN_KEY = {"Authorization": "Bearer " + encoded(b'{"alg": "RS256", "kid": "unknown"}') + ".e30.c2ln"}

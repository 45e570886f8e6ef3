"""What is secret at rest: sealed with AES-GCM under SECRET_KEY, and bound to the row and column that it stands in.

SECRET_KEY may be a list, separated by commas: the first seals, all of them unseal. So a key is changed while everything runs:
the new one is added, then put first, then `./stint rotate-keys` seals all that there is anew, then the old one is removed.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.settings import SettingsMissing

NONCE_BYTES = 12


class WrongSecretKey(SettingsMissing):
    """Something in the database was sealed under a SECRET_KEY that is not among those given."""


def secret_keys(secret_key: str) -> list[str]:
    """The keys that the setting lists; the first one seals."""
    return [key.strip() for key in secret_key.split(",") if key.strip()]


def seal(text: str, *, secret_key: str, place: str) -> str:
    """The text, sealed: `key id.nonce and ciphertext`. It opens at that `place` (table, row, column) only."""
    first = secret_keys(secret_key)[0]
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = nonce + AESGCM(_derived(first)).encrypt(nonce, text.encode(), place.encode())
    return f"{_key_id(first)}.{base64.urlsafe_b64encode(sealed).decode()}"


def unseal(sealed: str, *, secret_key: str, place: str) -> str:
    """What `seal` was given. Raises WrongSecretKey when none of the keys opens it there."""
    key_id, _, encoded = sealed.partition(".")
    content = base64.urlsafe_b64decode(encoded)
    for key in _called(key_id, secret_key):
        try:
            plain = AESGCM(_derived(key)).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], place.encode())
        except InvalidTag:
            break
        return plain.decode()
    raise WrongSecretKey(f"What stands in {place} was sealed under another SECRET_KEY; add that one to the list.")


def _called(key_id: str, secret_key: str) -> Iterator[str]:
    return (key for key in secret_keys(secret_key) if _key_id(key) == key_id)


def _derived(key: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"stint: sealing").derive(key.encode())


def _key_id(key: str) -> str:
    # tells the keys of one list apart, and nothing about them
    return hashlib.sha256(b"stint: key id" + _derived(key)).hexdigest()[:8]

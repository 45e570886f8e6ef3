"""Encryption of secrets at rest: AES-GCM with a key derived from SECRET_KEY. Each ciphertext is bound to its row and column.

SECRET_KEY may be a list, separated by commas: the first key encrypts, all of them decrypt. To change the key without downtime,
add the new key, put it first, run `./stint rotate-keys`, which encrypts everything again, and remove the old key.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterator

from schemas.settings import SettingsMissing

NONCE_BYTES = 12


class WrongSecretKey(SettingsMissing):
    """A value in the database was encrypted with a SECRET_KEY that is not in the list."""


def secret_keys(secret_key: str) -> list[str]:
    """The keys in the setting; the first one encrypts."""
    return [key.strip() for key in secret_key.split(",") if key.strip()]


def encrypt(text: str, *, secret_key: str, context: str) -> str:
    """The encrypted text, as `key id.nonce and ciphertext`. Only `decrypt` with the same `context` (table, row, column) can
    read it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    first = secret_keys(secret_key)[0]
    nonce = secrets.token_bytes(NONCE_BYTES)
    encrypted = nonce + AESGCM(_derive(first)).encrypt(nonce, text.encode(), context.encode())
    return f"{_key_id(first)}.{base64.urlsafe_b64encode(encrypted).decode()}"


def decrypt(encrypted: str, *, secret_key: str, context: str) -> str:
    """The text that was given to `encrypt`. Raises WrongSecretKey if none of the keys decrypts it in this context."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id, _, encoded = encrypted.partition(".")
    content = base64.urlsafe_b64decode(encoded)
    for key in _keys_with_id(key_id, secret_key):
        try:
            plain = AESGCM(_derive(key)).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], context.encode())
        except InvalidTag:
            break
        return plain.decode()
    raise WrongSecretKey(f"{context} was encrypted with another SECRET_KEY; add that key to the list in SECRET_KEY.")


def _keys_with_id(key_id: str, secret_key: str) -> Iterator[str]:
    return (key for key in secret_keys(secret_key) if _key_id(key) == key_id)


def _derive(key: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    # do not change the text in `info`: everything that is encrypted would become unreadable
    return HKDF(SHA256(), 32, salt=None, info=b"stint: encryption at rest").derive(key.encode())


def _key_id(key: str) -> str:
    # distinguishes the keys of one list; does not reveal anything about them
    return hashlib.sha256(b"stint: key id" + _derive(key)).hexdigest()[:8]

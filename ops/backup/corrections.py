"""What a restored database needs that a running one does not: the world went on after the backup.

Nothing has to be done for sync clients and live events: a restored database begins a sync epoch (decision 23). Nor for Xero:
Stint looks for entries that the database does not know (decision 15).
"""

from collections.abc import Sequence

from pydantic import SecretStr

from ops.backup.archives import Manifest
from ops.backup.run import KEY_CONTEXT, KEYS
from ops.encryption.rotate import rotate
from ops.errors import CommandError
from schemas.encryption import WrongSecretKey, decrypt, secret_keys
from schemas.postgres.connection import connect
from schemas.settings import Settings


def keys_of(manifest: Manifest, passphrase: str | None) -> list[str]:
    """The secret keys in the archive; none without a passphrase. Raises CommandError if the passphrase is not that of the
    archive, or if the archive has no secret keys."""
    if passphrase is None:
        return []
    if manifest.secret_key is None:
        raise CommandError("This backup was made without a passphrase: restore it without --passphrase-file.")
    try:
        return secret_keys(decrypt(manifest.secret_key, secret_key=passphrase, context=KEY_CONTEXT))
    except WrongSecretKey:
        raise CommandError("The passphrase is not that of the backup.") from None


async def correct(
    settings: Settings, manifest: Manifest, *, without_keys: bool, keep_sessions: bool, known: Sequence[str] = ()
) -> None:
    """Corrects the restored database of DATABASE_URL, which nobody uses yet. `known`: secret keys that may have encrypted its
    keys, besides SECRET_KEY. Raises CommandError if its keys cannot be decrypted."""
    async with await connect(settings) as conn, conn.transaction():
        # RabbitMQ may have lost the messages, or deliver them again: a delivery with an earlier number does nothing.
        await conn.execute("UPDATE messages SET state = 'ready' WHERE state = 'sent'")
        # The worker may have made its call: the next attempt finds out.
        await conn.execute("UPDATE messages SET lease_until = clock_timestamp() WHERE state = 'calling'")
        if without_keys or not manifest.keys:
            for table in KEYS:
                await conn.execute(f"DELETE FROM {table}")
            await conn.execute("INSERT INTO xero_connection DEFAULT VALUES")
        if not keep_sessions:
            # the backup does not know who was removed or signed out since, nor which key was distrusted
            await conn.execute("SELECT end_all_sessions()")
    if manifest.keys and not without_keys:
        await _encrypt_again(settings, manifest, known)


async def _encrypt_again(settings: Settings, manifest: Manifest, known: Sequence[str]) -> None:
    """Encrypts the keys under this installation's SECRET_KEY, which need not be that of the backup."""
    keys = ",".join((settings.secret_key.get_secret_value(), *known))
    try:
        await rotate(settings.model_copy(update={"secret_key": SecretStr(keys)}))
    except WrongSecretKey as error:
        other_way = "give its passphrase with --passphrase-file, or " if manifest.secret_key and not known else ""
        raise CommandError(
            "The keys of this backup were encrypted under another SECRET_KEY. Put that one after this installation's "
            f"(SECRET_KEY=present,of_the_backup), or {other_way}restore with --without-keys: then all people sign in again, "
            "and an admin connects Xero again."
        ) from error

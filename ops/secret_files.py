"""Secrets from files, as Docker, Kubernetes and systemd pass them: SECRET_KEY_FILE names the file of SECRET_KEY."""

import os
from pathlib import Path

from ops.errors import CommandError

# the settings that contain secrets; other variables whose name ends in _FILE belong to other programs
NAMES = (
    "DATABASE_URL", "AMQP_URL", "SECRET_KEY", "SMTP_URL", "METRICS_TOKEN",
    "RABBITMQ_API_URL", "SLACK_SIGNING_SECRET", "SLACK_BOT_TOKEN", "XERO_CLIENT_SECRET",
)  # fmt: skip


def read_secret_files() -> None:
    """Sets each of these settings whose file is named, to the file's text without blanks around it. Raises CommandError for
    one that has a value of its own, too, and for a file that cannot be read."""
    for name in NAMES:
        file = os.environ.pop(f"{name}_FILE", "")
        if not file:
            continue
        if os.environ.get(name):
            raise CommandError(f"{name} and {name}_FILE are both set: unset one of them.")
        try:
            os.environ[name] = Path(file).read_text().strip()
        except (OSError, ValueError) as error:
            raise CommandError(f"{name}_FILE={file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error

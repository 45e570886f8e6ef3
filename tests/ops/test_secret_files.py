"""Secrets from files: SECRET_KEY_FILE and the like."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops import secret_files
from ops.errors import CommandError
from schemas.settings import Settings


def test_each_setting_that_contains_a_secret_can_be_a_file() -> None:
    secrets = {
        name for name, field in Settings.model_fields.items() if SecretStr in (field.annotation, *_parts(field.annotation))
    }
    assert {name.lower() for name in secret_files.NAMES} == secrets | {"database_url", "amqp_url"}


def _parts(annotation: object) -> tuple[object, ...]:
    return getattr(annotation, "__args__", ())


def test_a_setting_has_the_text_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "SMTP_URL", "METRICS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "key").write_text("of the file: 32 characters long\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("SMTP_URL_FILE", "")
    monkeypatch.setenv("SSL_CERT_FILE", "of another program")
    secret_files.read_secret_files()
    assert os.environ["SECRET_KEY"] == "of the file: 32 characters long" and "SECRET_KEY_FILE" not in os.environ
    assert "SMTP_URL" not in os.environ and os.environ["SSL_CERT_FILE"] == "of another program"

    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(CommandError, match="SECRET_KEY and SECRET_KEY_FILE are both set"):
        secret_files.read_secret_files()
    monkeypatch.setenv("METRICS_TOKEN_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("SECRET_KEY")
    with pytest.raises(CommandError, match=r"METRICS_TOKEN_FILE=.*none cannot be read: No such file"):
        secret_files.read_secret_files()

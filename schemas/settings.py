"""Every setting, with its meaning. They come from the environment; `./stint up` fills in what a fresh machine lacks."""

import os
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once per process, never changed. Lists are comma-separated."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    # where the truth is, and what carries references to workers
    database_url: str = Field(description="PostgreSQL 15 or newer; a direct connection, since the relay uses LISTEN")
    amqp_url: str | None = Field(None, description="RabbitMQ 3.10 or newer; the API alone needs none")
    secret_key: SecretStr = Field(min_length=16, description="encrypts what is secret at rest: the signing keys")
    stint_timezone: str = Field("UTC", description="the firm's time zone: it decides which day an entry is billed on")

    # who may come in
    identity: Literal["local"] = Field("local", description="the identity provider: local keeps its users in Postgres")
    auth_issuer: str = Field("urn:stint:local", description="the exact `iss` of every token")
    auth_client_ids: str = Field("stint", description="clients whose tokens are taken (`aud` or `client_id`)")
    internal_client_ids: str = Field(
        # the one setting whose empty value means something: nobody
        default_factory=lambda: os.environ.get("INTERNAL_CLIENT_IDS", "stint"),
        description="clients whose ID tokens without a role may mean legacy admin; empty: nobody's",
    )
    legacy_unset_role: Literal["on", "off"] = Field("on", description="whether an absent role can mean admin at all")

    # mail
    smtp_url: SecretStr | None = Field(
        None,
        description="smtp://user:password@host:587 (TLS where the server offers it; a password never goes without), "
        "or smtps://host:465",
    )
    mail_from: str = Field("Stint <stint@localhost>", description="whom mail comes from")
    ops_email: str | None = Field(None, description="who is told when messages die of something new; without it, only the log")
    firm_email: str | None = Field(None, description="where leads go; without it they are only stored")

    # where it is found
    public_url: str = Field("http://127.0.0.1:8000", description="the API's own URL, as others reach it")
    app_url: str | None = Field(None, description="where people sign in, for links in mail; the API's own URL without it")
    trusted_proxies: str = Field("", description="addresses and networks whose X-Forwarded-For is believed")

    # patience, in seconds; tests shorten it
    stint_statement_seconds: float = Field(30, description="no SQL statement runs longer")
    stint_connect_seconds: float = Field(1.5, description="how long a request waits for a connection before it answers 503")
    stint_sent_seconds: float = Field(120, description="a message that stayed `sent` longer is sent again")
    stint_lease_margin_seconds: float = Field(30, description="a lease outlives its call's own deadline by this much")
    stint_retry_base_seconds: float = Field(1, description="the first retry waits about this long; each further one twice")
    stint_prune_days: float = Field(30, description="messages that are done are kept this long")
    stint_long_hours: float = Field(12, description="a stop after longer than this is flagged `long`")

    @property
    def broker_url(self) -> str:
        """AMQP_URL, for the processes that can't do without. Raises SettingsMissing."""
        if self.amqp_url is None:
            raise SettingsMissing("AMQP_URL is missing: set it to amqp://user:password@host:5672/vhost, or run ./stint up.")
        return self.amqp_url

    @property
    def own_client_id(self) -> str:
        """The client that the local identity provider issues tokens to."""
        return min(listed(self.internal_client_ids) or listed(self.auth_client_ids))

    @property
    def sign_in_url(self) -> str:
        """Where an invitation leads."""
        return self.app_url or self.public_url

    @field_validator("stint_timezone")
    @classmethod
    def _is_a_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("name a time zone of the tz database, such as Europe/Berlin") from error
        return value


class SettingsMissing(Exception):
    """The environment lacks a setting or holds a bad one; the text names each and says what to do."""


@cache
def settings() -> Settings:
    """The process's settings. Raises SettingsMissing with a sentence per variable."""
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors()]
        raise SettingsMissing(
            "These settings are missing or wrong: "
            + "; ".join(faults)
            + ". Set them in the environment, or let ./stint up do it."
        ) from None


def listed(value: str) -> frozenset[str]:
    """The entries of a comma-separated setting; the empty string has none."""
    return frozenset(entry.strip() for entry in value.split(",") if entry.strip())

"""Every setting, with its meaning. They come from the environment; `./stint up` fills in what a fresh machine lacks."""

import os
import re
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SLACK_API_URL = "https://slack.com/api/"


class Settings(BaseSettings):
    """Read once per process, never changed. Lists are comma-separated."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    # where the truth is, and what carries references to workers
    database_url: str = Field(description="PostgreSQL 15 or newer; a direct connection, since the relay uses LISTEN")
    amqp_url: str | None = Field(None, description="RabbitMQ 3.10 or newer; the API alone needs none")
    secret_key: SecretStr = Field(
        min_length=16,
        description="encrypts what is secret at rest: signing keys, Xero's tokens; a list while it is changed: the first one "
        "encrypts, all of them decrypt",
    )
    stint_timezone: str = Field("UTC", description="the firm's time zone: it decides which day an entry is billed on")

    # who may come in
    identity: Literal["local", "cognito"] = Field(
        "local", description="the identity provider: local keeps its users in Postgres, cognito in a user pool at AWS"
    )
    auth_issuer: str = Field("urn:stint:local", description="the exact `iss` of every token; of a user pool its own URL")
    auth_jwks_url: str | None = Field(None, description="where a user pool's public keys stand; below the issuer without it")
    auth_client_ids: str = Field("stint", description="clients whose tokens are taken (`aud` or `client_id`); cognito: needed")
    internal_client_ids: str = Field(
        # the one setting whose empty value means something: nobody
        default_factory=lambda: os.environ.get("INTERNAL_CLIENT_IDS", "stint"),
        description="clients whose ID tokens without a role may mean legacy admin; empty: nobody's, as with cognito by default",
    )
    legacy_unset_role: Literal["on", "off"] = Field("on", description="whether an absent role can mean admin at all")
    cognito_user_pool_id: str | None = Field(
        None, pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+_[0-9a-zA-Z]+$", description="such as eu-central-1_AbCdEfGhI"
    )
    cognito_endpoint_url: str | None = Field(None, description="in place of AWS's own, for a stand-in")

    # mail
    smtp_url: SecretStr | None = Field(
        None,
        description="smtp://user:password@host:587 (TLS where the server offers it; a password never goes without), "
        "or smtps://host:465",
    )
    mail_from: str = Field("Stint <stint@localhost>", description="whom mail comes from")
    ops_email: str | None = Field(
        None, description="who is told when messages die of something new, or foreign ones come; without it, only the log"
    )
    firm_email: str | None = Field(None, description="where leads go; without it they are only stored")

    # Slack
    slack_signing_secret: SecretStr | None = Field(
        None, description="what Slack signs its requests with; two, comma-separated, while it is being changed"
    )
    slack_bot_token: SecretStr | None = Field(None, description="xoxb-…; without it Stint calls nothing at Slack")
    slack_api_url: str = Field(SLACK_API_URL, description="Slack's Web API; another for tests and the sandbox")
    slack_team_id: str | None = Field(None, description="the workspace, T…; without it the bot token's own, as Slack says")
    stint_nudge_hours: float = Field(8, gt=0, description="a timer that has run this long nudges its owner in Slack")

    # Xero: an app of one's own, from developer.xero.com
    xero_client_id: str | None = Field(None, description="without it nobody can connect Xero")
    xero_client_secret: SecretStr | None = Field(None, description="goes with xero_client_id")
    xero_redirect_uri: str | None = Field(None, description="where Xero brings people back; APP_URL/xero/callback without it")
    xero_fallback_user: str | None = Field(
        None, description="on whose name, by e-mail address, time goes to Xero of people whom Xero does not know"
    )
    xero_api_url: str = Field("https://api.xero.com", description="the Projects API and the list of organisations")
    xero_identity_url: str = Field("https://identity.xero.com", description="where tokens come from")
    xero_login_url: str = Field("https://login.xero.com", description="where people are led to let Stint in")
    xero_calls_at_once: int = Field(5, ge=1, description="Xero's limit for one organisation, whoever calls")
    xero_calls_per_minute: int = Field(60, ge=1, description="likewise, in any sixty seconds")
    xero_calls_per_day: int = Field(5000, ge=1, description="likewise, in any 24 hours; 1,000 on Xero's starter tier")

    # where it is found
    public_url: str = Field("http://127.0.0.1:8000", description="the API's own URL, as others reach it")
    app_url: str | None = Field(None, description="where people sign in, and links lead; the API's own URL without it")
    trusted_proxies: str = Field("", description="addresses and networks whose X-Forwarded-For is believed")

    # live events
    stint_most_listeners: int = Field(2_000, description="streams of live events that one API process keeps open")
    stint_heartbeat_seconds: float = Field(
        15, description="a stream that is quiet says so this often, lest it be taken for dead"
    )
    stint_slow_seconds: float = Field(10, description="who reads nothing of a full stream for this long is cut off")

    # patience, in seconds; tests shorten it
    stint_head_seconds: float = Field(10, description="a new connection, or a head once begun, is given up after that long")
    stint_body_seconds: float = Field(20, description="a request's body has to be there within that long")
    stint_statement_seconds: float = Field(30, description="no SQL statement runs longer")
    stint_connect_seconds: float = Field(1.5, description="how long a request waits for a Postgres that does not answer")
    stint_mail_seconds: float = Field(10, description="how long each answer of the mail server is waited for")
    stint_sent_seconds: float = Field(120, description="a message that stayed `sent` longer is sent again")
    stint_lease_margin_seconds: float = Field(30, description="a lease outlives its call's own deadline by this much")
    stint_retry_base_seconds: float = Field(1, description="the first retry waits about this long; each further one twice")
    stint_xero_minute_seconds: float = Field(60, description="how long the minute of xero_calls_per_minute lasts")
    stint_xero_call_seconds: int = Field(10, ge=1, description="a call to Xero ends after this, whatever has come by then")
    stint_xero_late_seconds: float = Field(
        120, description="a request to Xero whose answer was lost may still be done this much later"
    )
    stint_xero_check_seconds: float = Field(900, description="how often Xero is asked what is invoiced, one project a time")
    stint_prune_days: float = Field(30, description="messages that are done are kept this long")
    stint_long_hours: float = Field(12, description="a stop after longer than this is flagged `long`")

    @property
    def broker_url(self) -> str:
        """AMQP_URL, for the processes that can't do without. Raises SettingsMissing."""
        if self.amqp_url is None:
            raise SettingsMissing("AMQP_URL is missing: set it to amqp://user:password@host:5672/vhost, or run ./stint up.")
        return self.amqp_url

    @property
    def people_are_outside(self) -> bool:
        """Whether an identity provider outside Postgres keeps the accounts: it writes to those who are invited itself, and has
        to be told of who is removed."""
        return self.identity != "local"

    @property
    def cognito_region(self) -> str:
        """The AWS region that the user pool is in."""
        return (self.cognito_user_pool_id or "").partition("_")[0]

    @property
    def own_client_id(self) -> str:
        """The client that the local identity provider issues tokens to."""
        return min(listed(self.internal_client_ids) or listed(self.auth_client_ids))

    @property
    def sign_in_url(self) -> str:
        """Where invitations and links to tasks lead."""
        return self.app_url or self.public_url

    @field_validator("slack_api_url")
    @classmethod
    def _is_a_base_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?", value):
            raise ValueError("name a URL such as https://slack.com/api/")
        return value.rstrip("/") + "/"

    @property
    def redirect_uri(self) -> str:
        """Where Xero brings people back."""
        return self.xero_redirect_uri or f"{self.sign_in_url.rstrip('/')}/xero/callback"

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_pool(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Where a user pool's tokens come from follows from its id; whose are taken does not, and must be said."""
        if values.get("identity") != "cognito":
            return values
        lacking = [name for name in ("cognito_user_pool_id", "auth_client_ids") if not values.get(name)]
        if lacking:
            raise ValueError(f"IDENTITY=cognito needs {' and '.join(lacking).upper()}")
        pool = str(values["cognito_user_pool_id"])
        issuer = values.get("auth_issuer") or f"https://cognito-idp.{pool.partition('_')[0]}.amazonaws.com/{pool}"
        jwks_url = f"{issuer}/.well-known/jwks.json"
        return {"internal_client_ids": "", "auth_jwks_url": jwks_url} | values | {"auth_issuer": issuer}

    @field_validator("secret_key")
    @classmethod
    def _are_long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(key.strip()) < 16 for key in value.get_secret_value().split(",")):
            raise ValueError("each key of the list has 16 characters or more")
        return value

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
        faults = [": ".join([*map(str.upper, map(str, fault["loc"][:1])), fault["msg"]]) for fault in error.errors()]
        raise SettingsMissing(
            "These settings are missing or wrong: "
            + "; ".join(faults)
            + ". Set them in the environment, or let ./stint up do it."
        ) from None


def listed(value: str) -> frozenset[str]:
    """The entries of a comma-separated setting; the empty string has none."""
    return frozenset(entry.strip() for entry in value.split(",") if entry.strip())

"""All settings and their meaning. They come from the environment; `./stint up` sets what a fresh machine lacks."""

import os
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from schemas import setting_values

SLACK_API_URL = "https://slack.com/api/"
# Hosts of this machine: what is sent to them crosses no network, so it needs no TLS.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DEFAULT_LONG_HOURS = 12.0


class Settings(BaseModel):
    """Read once per process and never changed. Lists are comma-separated."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**setting_values.from_environment(type(self).model_fields) | values)

    # Postgres, RabbitMQ and the installation
    database_url: str = Field(description="PostgreSQL 15 or newer; a direct connection, since the relay uses LISTEN")
    amqp_url: str | None = Field(
        None,
        description="RabbitMQ 3.10 or newer; the URLs of a cluster have commas between them; only the API runs without it",
    )
    rabbitmq_api_url: SecretStr | None = Field(
        None,
        description="RabbitMQ's management API, https://user:password@host:15671, with a user that has the tag monitoring; the "
        "URLs of a cluster have commas between them; without it, relays see neither partitions nor missing replicas of queues",
    )
    stint_queue_type: Literal["quorum", "classic"] = Field(
        "quorum",
        description="the type of the queues that the relay creates: quorum for a cluster of RabbitMQ; classic is faster on a "
        "single node, and what ./stint up sets for its own",
    )
    secret_key: SecretStr = Field(
        min_length=16,
        description="encrypts the secrets in Postgres (signing keys, Xero's tokens); while it is changed, a list: the first "
        "key encrypts, all keys decrypt",
    )
    stint_timezone: str = Field("UTC", description="the firm's time zone: it decides on which day an entry is billed")

    # identity and tokens
    identity: Literal["local", "cognito"] = Field(
        "local", description="the identity provider: local has its users in Postgres, cognito in a user pool of AWS"
    )
    auth_issuer: str = Field(
        "urn:stint:local", description="the exact `iss` of every token; cognito: default: the URL of the user pool"
    )
    auth_jwks_url: str | None = Field(
        None, description="the URL of the user pool's public keys; default: below the issuer's URL"
    )
    auth_client_ids: str = Field(
        "stint", description="clients whose tokens are accepted (`aud` or `client_id`); cognito: required"
    )
    internal_client_ids: str = Field(
        # the only setting whose empty value has a meaning (no client), although empty variables are ignored
        default_factory=lambda: os.environ.get("INTERNAL_CLIENT_IDS", "stint"),
        description="clients whose ID tokens without a role may mean a legacy admin; empty: none, the default with cognito",
    )
    legacy_unset_role: Literal["on", "off"] = Field("on", description="off: a token without a role never means admin")
    cognito_user_pool_id: str | None = Field(
        None, pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+_[0-9a-zA-Z]+$", description="the user pool, such as eu-central-1_AbCdEfGhI"
    )
    cognito_endpoint_url: str | None = Field(None, description="another URL than AWS's, for a stand-in")
    cognito_login_url: str | None = Field(
        None,
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])",
        description="the URL of the pool's hosted page; without it nobody signs in to the console",
    )
    console_client_id: str | None = Field(
        None, description="the pool's app client, without a secret, for the console; one of AUTH_CLIENT_IDS"
    )

    # mail
    smtp_url: SecretStr | None = Field(
        None,
        description="smtp://user:password@host:587 (TLS if the server offers it; a password is never sent without TLS), "
        "or smtps://host:465",
    )
    mail_from: str = Field("Stint <stint@localhost>", description="the sender of all mail")
    ops_email: str | None = Field(
        None,
        description="gets mail about new kinds of dead letters, unrecognized messages, outages; default: only the log has them",
    )
    ops_slack_channel: str | None = Field(None, description="the id of a channel in Slack, C…, that gets these outages")
    firm_email: str | None = Field(None, description="gets a mail about each lead; default: leads are only stored")

    # Slack
    slack_signing_secret: SecretStr | None = Field(
        None, description="the secret with which Slack signs its requests; while it is changed, two, comma-separated"
    )
    slack_bot_token: SecretStr | None = Field(None, description="xoxb-…; without it Stint does not call Slack")
    slack_api_url: str = Field(SLACK_API_URL, description="the URL of Slack's Web API; another one in tests and the sandbox")
    slack_team_id: str | None = Field(
        None, description="the workspace, T…, or the organization, E…; default: the bot token's, as Slack reports it"
    )
    stint_slack_late_seconds: float = Field(
        1, gt=0, description="a request of Slack's that has waited for longer is acknowledged first, and then worked on"
    )
    stint_slack_access_seconds: float = Field(5, gt=0, description="how soon lost access to Slack is tried again, at first")
    stint_nudge_hours: float = Field(
        8, gt=0, description="a timer that has run this long gets its owner a nudge (a reminder) in Slack"
    )
    stint_approvals_time: str = Field(
        "09:00",
        description="when admins get a message in Slack with the time bills to approve, in STINT_TIMEZONE; off: never",
    )

    # the firm's working hours; people may have their own
    stint_working_days: str = Field(
        "mon-fri",
        description="the firm's working days: days and ranges of days, such as mon-thu,sat; on these admins get the message "
        "of STINT_APPROVALS_TIME",
    )
    stint_working_hours: str = Field("09:00-17:00", description="when a working day starts and ends")
    stint_hours_a_day: float = Field(
        8, gt=0, le=24, multiple_of=0.5, description="how many hours are planned for a working day: whole and half hours"
    )
    stint_reminders: Literal["on", "off"] = Field(
        "on",
        description="whether people get reminders of missing hours in Slack, unless they have set that for themselves",
    )

    # Xero: your own app, from developer.xero.com
    xero_client_id: str | None = Field(None, description="the app's client id; without it nobody can connect Xero")
    xero_client_secret: SecretStr | None = Field(None, description="the app's client secret")
    xero_redirect_uri: str | None = Field(
        None, description="where Xero redirects after its login; default: APP_URL/xero/callback, or PUBLIC_URL/xero/callback"
    )
    xero_fallback_user: str | None = Field(
        None, description="e-mail address of the Xero user under whose name the time of users is sent whom Xero does not have"
    )
    xero_api_url: str = Field(
        "https://api.xero.com", description="the URL of the Projects API and of the list of organisations"
    )
    xero_identity_url: str = Field("https://identity.xero.com", description="the URL that issues tokens")
    xero_login_url: str = Field("https://login.xero.com", description="the URL where an admin grants Stint access")
    xero_calls_at_once: int = Field(
        5, ge=1, description="Xero's limit of concurrent calls for one organisation, over all processes"
    )
    xero_calls_per_minute: int = Field(60, ge=1, description="Xero's limit of calls for one organisation in any 60 seconds")
    xero_calls_per_day: int = Field(
        5000, ge=1, description="Xero's limit of calls for one organisation in any 24 hours; 1,000 on Xero's starter tier"
    )

    # the installation's URLs
    public_url: str = Field("http://127.0.0.1:8000", description="the API's URL, as seen from outside")
    stint_url: str | None = Field(None, description="where commands on this host ask the API; default: PUBLIC_URL")
    app_url: str | None = Field(None, description="the web application's URL, where users sign in; default: PUBLIC_URL")
    trusted_proxies: str = Field("", description="addresses and networks whose X-Forwarded-For header is trusted; *: all")
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="with this bearer token clients get /metrics; default: only clients on the same machine do, and none with "
        "TRUSTED_PROXIES or a PUBLIC_URL elsewhere",
    )

    # live events
    stint_most_listeners: int = Field(2_000, description="the most streams of live events that one API process keeps open")
    stint_heartbeat_seconds: float = Field(
        15, description="how often a stream without events sends a heartbeat, so that proxies keep it open"
    )
    stint_events_seconds: float = Field(0.25, ge=0.01, le=10, description="how long events are collected after one is told")
    stint_slow_seconds: float = Field(
        10, description="a client that reads nothing from a full stream for this long is disconnected"
    )

    # timeouts and intervals, in seconds; tests shorten them
    stint_head_seconds: float = Field(10, description="the longest time until a new connection has sent a request's head")
    stint_body_seconds: float = Field(20, description="the longest time until a request's body is complete")
    stint_metrics_seconds: float = Field(3, ge=0, description="how old the part of /metrics that is read from Postgres may be")
    stint_client_requests: int = Field(
        3_000,
        gt=0,
        description="how many requests one client may send at once to the routes that need no token; as many again each minute",
    )
    stint_statement_seconds: float = Field(30, description="the longest time of an SQL statement")
    stint_connect_seconds: float = Field(
        1.5, description="how long a request waits for a connection while Postgres does not answer"
    )
    stint_mail_seconds: float = Field(10, description="the timeout of each response of the mail server")
    stint_sent_seconds: float = Field(120, description="a message that stays `sent` for longer is published again")
    stint_lease_margin_seconds: float = Field(30, description="a lease lasts this much longer than the timeout of its call")
    stint_retry_base_seconds: float = Field(1, description="about the wait before the first retry; it doubles with each retry")
    stint_xero_minute_seconds: float = Field(60, description="the length of the minute in XERO_CALLS_PER_MINUTE")
    stint_xero_call_seconds: int = Field(10, ge=1, description="the timeout of a whole call to Xero")
    stint_xero_late_seconds: float = Field(
        120, description="how much later Xero may still carry out a request whose response was lost"
    )
    stint_xero_lag_seconds: float = Field(60, ge=0, description="how far Xero's lists may be behind its time entries")
    stint_xero_check_seconds: float = Field(900, description="how often a project's entries are checked for invoices in Xero")
    stint_xero_access_seconds: float = Field(60, gt=0, description="how soon lost access to Xero is checked again, at first")
    stint_pool_seconds: float = Field(30, gt=0, description="how long after a reading of the user pool the next one begins")
    backup_max_age_days: float | None = Field(None, gt=0, description="of the last backup; unset: 2 if there is one")
    stint_held_seconds: float = Field(3600, gt=0, description="a transaction that keeps old rows for longer is reported")
    stint_prune_days: float = Field(30, description="done messages are deleted after this many days")
    stint_discarded_days: float | None = Field(None, gt=0, description="discarded ones are deleted after these; unset: never")
    stint_long_hours: float = Field(DEFAULT_LONG_HOURS, description="a time entry of more hours gets the flag `long`")
    stint_future_hours: float = Field(24, ge=0, le=8760, description="hours can be recorded at most this far ahead of now")

    @property
    def broker_url(self) -> str:
        """AMQP_URL, for the processes that need it. Raises SettingsMissing."""
        if self.amqp_url is None:
            raise SettingsMissing("AMQP_URL is missing: set it to amqp://user:password@host:5672/vhost, or run ./stint up.")
        return self.amqp_url

    @property
    def uses_external_identity(self) -> bool:
        """Whether a provider outside Postgres has the accounts. It sends invitations itself, and removed users have to be
        deleted there, too."""
        return self.identity != "local"

    @property
    def legacy_client_ids(self) -> frozenset[str]:
        """The clients whose ID tokens without a role may mean a legacy admin."""
        return split_list(self.internal_client_ids) if self.legacy_unset_role == "on" else frozenset()

    @property
    def cognito_region(self) -> str:
        """The AWS region that the user pool is in."""
        return (self.cognito_user_pool_id or "").partition("_")[0]

    @property
    def own_client_id(self) -> str:
        """The client that the local identity provider issues tokens to."""
        return min(split_list(self.internal_client_ids) or split_list(self.auth_client_ids))

    @property
    def working_days(self) -> list[int]:
        """STINT_WORKING_DAYS as numbers: 1 is Monday, 7 is Sunday."""
        return setting_values.weekdays(self.stint_working_days)

    @property
    def sign_in_url(self) -> str:
        """The URL in invitations and links: APP_URL, or else PUBLIC_URL."""
        return self.app_url or self.public_url

    @property
    def redirect_uri(self) -> str:
        """Where Xero redirects after its login."""
        return self.xero_redirect_uri or f"{self.sign_in_url.rstrip('/')}/xero/callback"

    _check_keys = field_validator("secret_key")(setting_values.keys)
    _check_api_urls = field_validator("rabbitmq_api_url")(setting_values.api_urls)
    _check_time_zone = field_validator("stint_timezone")(setting_values.time_zone)
    _check_approvals_time = field_validator("stint_approvals_time")(setting_values.time_of_day)
    _check_working_days = field_validator("stint_working_days")(setting_values.working_days)
    _check_working_hours = field_validator("stint_working_hours")(setting_values.working_hours)
    _check_base_url = field_validator("slack_api_url")(setting_values.base_url)
    _check_proxies = field_validator("trusted_proxies")(setting_values.proxies)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_user_pool(cls, values: dict[str, Any]) -> dict[str, Any]:
        return setting_values.with_user_pool(values) if values.get("identity") == "cognito" else values


class SettingsMissing(Exception):
    """A setting is missing or invalid; the text names each, and what to do."""


@cache
def settings() -> Settings:
    """The process's settings. Raises SettingsMissing, whose text names each missing or invalid variable."""
    try:
        return Settings()
    except ValidationError as error:
        faults = [": ".join([*map(str.upper, map(str, fault["loc"][:1])), fault["msg"]]) for fault in error.errors()]
        raise SettingsMissing(
            "These settings are missing or invalid: "
            + "; ".join(faults)
            + ". Set them in the environment, or use ./stint up, which sets what it can."
        ) from None


def long_hours() -> float:
    """STINT_LONG_HOURS, for `./stint migrate`, which needs no other setting. Raises SettingsMissing."""
    try:
        return float(os.environ.get("STINT_LONG_HOURS") or DEFAULT_LONG_HOURS)
    except ValueError:
        raise SettingsMissing("STINT_LONG_HOURS is invalid: it must be a number, such as 12.") from None


def split_list(value: str) -> frozenset[str]:
    """The entries of a comma-separated setting; none for the empty string."""
    return frozenset(entry.strip() for entry in value.split(",") if entry.strip())

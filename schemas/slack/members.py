"""Which Stint user a Slack user is: the internal user with the e-mail address in the Slack profile, or none.

Slack's profile is cached. Whether its address may use Stint is looked up for each request, so a user who is removed from
Stint is refused from the next command on.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from schemas.identity import users
from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.client import Profile

FRESH_SECONDS = 3600  # a cached profile that is younger is used without a call to Slack
USABLE_SECONDS = 24 * 3600  # and one that is younger than this is used while Slack does not answer

# the keys of slack_users.refusal, and the reasons that are found in our own tables
REFUSAL_TEXTS = {
    "bot": "Bots have no hours: tasks are created by people.",
    "deleted": "This Slack account is deactivated.",
    "other_workspace": "Stint is only for members of the firm's own workspace.",
    "no_address": "Slack does not show Stint your e-mail address. Ask an administrator of your Slack workspace to allow the "
    "app to read it (the scope users:read.email).",
    "unknown": "Stint does not know the e-mail address {email}. If you work here, sign in to Stint once, or ask an "
    "administrator.",
    "customer": "This is only for the firm's own people. You see the work for you in Stint's web application.",
}


CUSTOMER_INACTIVE = "This channel belongs to {customer}, who is inactive and takes no new tasks."


@dataclass(frozen=True)
class MappedChannel:
    """A channel that is mapped to a customer, and the preset pillar there."""

    customer_id: UUID
    customer: str
    customer_is_active: bool
    pillar_id: UUID | None
    pillar: str | None


@dataclass(frozen=True)
class Caller:
    """The Slack user who makes a request, and the channel's mapping. Either `user` is set, or `refusal`, the sentence with the
    reason. If neither is set, the profile has to be requested from Slack."""

    slack_id: str
    user: User | None
    refusal: str | None
    channel: MappedChannel | None
    fresh: bool  # no call to Slack is needed
    tz: str | None = None  # the name of the caller's time zone

    @property
    def only_customer(self) -> UUID | None:
        """In a mapped channel, only data of this customer may be shown; None: of every customer."""
        return self.channel.customer_id if self.channel is not None else None

    @property
    def form_refusal(self) -> str | None:
        """Why the caller gets no form for a new task here; None if they get it."""
        if self.user is not None and self.channel is not None and not self.channel.customer_is_active:
            return CUSTOMER_INACTIVE.format(customer=self.channel.customer)
        return self.refusal

    @property
    def is_known(self) -> bool:
        return self.user is not None or self.refusal is not None


@dataclass(frozen=True)
class _Row:
    """The columns of `find_caller`'s query."""

    slack_email: str | None  # None: no usable profile is cached
    refusal: str | None
    fresh: bool | None
    tz: str | None
    user_id: UUID | None
    email: str
    name: str
    role: str | None
    user_customer_id: UUID | None
    customer_id: UUID | None
    customer: str
    customer_is_active: bool
    pillar_id: UUID | None
    pillar: str | None


async def find_caller(conn: Connection, slack_id: str, channel_id: str | None, *, settings: Settings) -> Caller:
    """The caller as far as the cached profile tells, by one statement."""
    found = await conn.one(
        """
        SELECT s.email AS slack_email, s.refusal, s.fetched_at > clock_timestamp() - make_interval(secs => %(fresh)s) AS fresh,
               u.id AS user_id, u.email, u.name, u.role, u.customer_id AS user_customer_id, s.tz,
               c.id AS customer_id, c.name AS customer, c.active AS customer_is_active, p.id AS pillar_id, p.name AS pillar
        FROM (VALUES (1)) one
        LEFT JOIN slack_users s
            ON s.slack_id = %(slack_id)s AND s.fetched_at > clock_timestamp() - make_interval(secs => %(usable)s)
        LEFT JOIN LATERAL (
            -- if a customer's user has the same address, the caller counts as that customer's user
            SELECT id, email, name, role, customer_id FROM users
            WHERE email_key(email) = email_key(s.email) AND s.email <> '' AND revoked_at IS NULL AND NOT account_elsewhere
            ORDER BY coalesce(starts_with(role, 'internal_'), false), created_at DESC LIMIT 1
        ) u ON true
        LEFT JOIN slack_channel_mappings m ON m.channel_id = %(channel_id)s AND m.deleted_at IS NULL
        LEFT JOIN customers c ON c.id = m.customer_id
        LEFT JOIN pillars p ON p.id = m.pillar_id AND p.active AND p.deleted_at IS NULL
        """,
        {"slack_id": slack_id, "channel_id": channel_id, "fresh": FRESH_SECONDS, "usable": USABLE_SECONDS},
        row=_Row,
    )
    channel = None
    if found.customer_id is not None:
        channel = MappedChannel(found.customer_id, found.customer, found.customer_is_active, found.pillar_id, found.pillar)
    if found.slack_email is None:
        return Caller(slack_id, None, None, channel, fresh=False)
    user, reason = _user(found, settings)
    if found.refusal is None and user is not None:
        return Caller(slack_id, user, None, channel, bool(found.fresh), found.tz)
    reason = found.refusal or (reason if found.slack_email else "no_address")
    return Caller(slack_id, None, REFUSAL_TEXTS[reason].format(email=found.slack_email), channel, bool(found.fresh))


def _user(found: _Row, settings: Settings) -> tuple[User | None, str]:
    """The user, or None and the reason as a key of REFUSAL_TEXTS."""
    if found.user_id is None:
        return None, "unknown"
    role = users.parse_role(found.role)
    if found.role is None and found.user_customer_id is None and settings.legacy_client_ids:
        role = Role.admin
    if role is None or users.is_customer_role(role):
        return None, "customer"
    return User(id=found.user_id, email=found.email, name=found.name, role=role, customer_id=None), ""


async def save_profile(conn: Connection, profile: Profile) -> None:
    """Caches a profile that was just fetched from Slack."""
    await conn.execute(
        """
        INSERT INTO slack_users (slack_id, email, refusal, tz) VALUES (%s, %s, %s, %s)
        ON CONFLICT (slack_id) DO UPDATE
        SET email = excluded.email, refusal = excluded.refusal, tz = excluded.tz, fetched_at = excluded.fetched_at
        """,
        (profile.slack_id, profile.email, profile.refusal, profile.tz),
    )


async def delete_profiles(conn: Connection, slack_id: str | None = None) -> None:
    """Deletes the cached profile of one Slack user, or all profiles."""
    await conn.execute("DELETE FROM slack_users WHERE slack_id = coalesce(%s, slack_id)", (slack_id,))


async def find_member(conn: Connection, email: str) -> Profile | None:
    """The Slack user of that e-mail address, if a fresh profile is cached."""
    return await conn.maybe(
        """
        SELECT slack_id, email, refusal, tz FROM slack_users WHERE email_key(email) = email_key(%s) AND refusal IS NULL
            AND fetched_at > clock_timestamp() - make_interval(secs => %s)
        ORDER BY fetched_at DESC LIMIT 1
        """,
        (email, FRESH_SECONDS),
        row=Profile,
    )


async def find_names(conn: Connection, slack_ids: Collection[str], channel_id: str) -> dict[str, str]:
    """The names that Stint knows of these users and channels, by their ids in Slack. Channels of another customer than that of
    the channel `channel_id` are not named there."""
    return dict(
        await conn.all(
            """
            SELECT DISTINCT ON (s.slack_id) s.slack_id, u.name
            FROM slack_users s JOIN users u ON email_key(u.email) = email_key(s.email)
            WHERE s.slack_id = ANY(%(ids)s) AND s.email <> '' AND s.refusal IS NULL AND u.revoked_at IS NULL AND u.name <> ''
            UNION ALL
            SELECT m.channel_id, m.channel_name FROM slack_channel_mappings m
            LEFT JOIN slack_channel_mappings here ON here.channel_id = %(channel)s AND here.deleted_at IS NULL
            WHERE m.channel_id = ANY(%(ids)s) AND m.deleted_at IS NULL
              AND m.customer_id = coalesce(here.customer_id, m.customer_id)
            """,
            {"ids": list(slack_ids), "channel": channel_id},
        )
    )

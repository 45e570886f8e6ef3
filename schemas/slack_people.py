"""Who somebody in Slack is here: one of the firm's own people by the address in their profile, or nobody.

What Slack says of a user is kept for a while. Whether that address may use Stint is looked up each time, so that who is
removed here is refused from the next command on.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas import users
from schemas.clients.slack import Profile
from schemas.database import Connection
from schemas.settings import Settings, listed
from schemas.users import Role, User

FRESH_SECONDS = 3600
USABLE_SECONDS = 24 * 3600  # when Slack does not answer

REFUSALS = {
    "bot": "Bots have no hours: tasks are created by people.",
    "deleted": "This Slack account is deactivated.",
    "foreign": "Stint is for members of the firm's own workspace.",
    "no address": "Slack shows Stint no e-mail address of yours; ask whoever runs Slack here to let the app read it.",
    "unknown": "Stint does not know you: nobody with your address, {email}, works here. If you do, sign in to Stint once, "
    "or ask an administrator.",
    "customer": "This is for the firm's own people. What is being done for you is in Stint's web application.",
}


@dataclass(frozen=True)
class Place:
    """A channel that belongs to a customer, and the pillar preset there."""

    customer_id: UUID
    customer: str
    pillar_id: UUID | None
    pillar: str | None


@dataclass(frozen=True)
class Caller:
    """Who does something in Slack, and where. Either `user` or `refusal`, the sentence that says why not, is there; without
    both, Slack has to be asked."""

    slack_id: str
    user: User | None
    refusal: str | None
    place: Place | None
    fresh: bool

    @property
    def only(self) -> UUID | None:
        """The customer whose things alone may be shown where the caller is; None: any."""
        return self.place.customer_id if self.place is not None else None

    @property
    def is_known(self) -> bool:
        return self.user is not None or self.refusal is not None


async def find(conn: Connection, slack_id: str, channel_id: str | None, *, settings: Settings) -> Caller:
    """The caller as far as it is known here, in one look."""
    cursor = await conn.execute(
        """
        SELECT s.email, s.refusal, s.asked_at > clock_timestamp() - make_interval(secs => %(fresh)s),
               u.id, u.email, u.name, u.role, u.customer_id, c.id, c.name, p.id, p.name
        FROM (VALUES (1)) one
        LEFT JOIN slack_users s
            ON s.slack_id = %(slack_id)s AND s.asked_at > clock_timestamp() - make_interval(secs => %(usable)s)
        LEFT JOIN LATERAL (
            -- an address that a customer's user has, too, is not taken for the firm's
            SELECT id, email, name, role, customer_id FROM users
            WHERE lower(email) = lower(s.email) AND s.email <> '' AND revoked_at IS NULL AND NOT elsewhere
            ORDER BY coalesce(starts_with(role, 'internal_'), false), created_at DESC LIMIT 1
        ) u ON true
        LEFT JOIN slack_channel_mappings m ON m.channel_id = %(channel_id)s AND m.deleted_at IS NULL
        LEFT JOIN customers c ON c.id = m.customer_id
        LEFT JOIN pillars p ON p.id = m.pillar_id AND p.active AND p.deleted_at IS NULL
        """,
        {"slack_id": slack_id, "channel_id": channel_id, "fresh": FRESH_SECONDS, "usable": USABLE_SECONDS},
    )
    row = await cursor.fetchone()
    assert row is not None
    email, refusal, fresh, *found, customer_id, customer, pillar_id, pillar = row
    place = Place(customer_id, customer, pillar_id, pillar) if customer_id is not None else None
    if email is None:
        return Caller(slack_id, None, None, place, fresh=False)
    user, why = _user(found, settings)
    if refusal is None and user is not None:
        return Caller(slack_id, user, None, place, fresh)
    sentence = REFUSALS[refusal or ("no address" if not email else why)].format(email=email)
    return Caller(slack_id, None, sentence, place, fresh)


def _user(found: list[Any], settings: Settings) -> tuple[User | None, str]:
    user_id, email, name, claim, customer_id = found
    if user_id is None:
        return None, "unknown"
    role = users.role_of(claim)
    if claim is None and customer_id is None and settings.legacy_unset_role == "on" and listed(settings.internal_client_ids):
        role = Role.admin
    if role is None or users.is_a_customers(role):
        return None, "customer"
    return User(id=user_id, email=email, name=name, role=role, customer_id=None), ""


async def remember(conn: Connection, profile: Profile) -> None:
    """Keeps what Slack said."""
    await conn.execute(
        """
        INSERT INTO slack_users (slack_id, email, refusal) VALUES (%s, %s, %s)
        ON CONFLICT (slack_id) DO UPDATE SET email = excluded.email, refusal = excluded.refusal, asked_at = excluded.asked_at
        """,
        (profile.slack_id, profile.email, profile.refusal),
    )


async def forget(conn: Connection, slack_id: str | None = None) -> None:
    """Forgets what Slack said of one user, or of all."""
    await conn.execute("DELETE FROM slack_users WHERE slack_id = coalesce(%s, slack_id)", (slack_id,))


async def slack_id_of(conn: Connection, email: str) -> str | None:
    """Whom in Slack that address belongs to, if that is known and was so lately."""
    cursor = await conn.execute(
        """
        SELECT slack_id FROM slack_users WHERE lower(email) = lower(%s) AND refusal IS NULL
            AND asked_at > clock_timestamp() - make_interval(secs => %s)
        ORDER BY asked_at DESC LIMIT 1
        """,
        (email, FRESH_SECONDS),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]

"""A user's profile in Slack, and whether it is that of a person of our workspace."""

from dataclasses import dataclass
from typing import Any

from schemas.email_addresses import one_spelling
from schemas.identity.work_calendar import known_zone


@dataclass(frozen=True)
class Profile:
    """A user's profile in Slack. `refusal` is a key of members.REFUSAL_TEXTS if this is not a person of our workspace.
    `tz` is the name of their time zone, None if Slack names none that is known."""

    slack_id: str
    email: str
    refusal: str | None
    tz: str | None = None


def to_profile(user: dict[str, Any], slack_id: str, team: str) -> Profile:
    """The profile of Slack's user object. `team` is our workspace, or our organization if the app is installed in all of it."""
    refusal = None
    if team not in _memberships(user) or user.get("is_stranger"):
        refusal = "other_workspace"
    elif user.get("is_bot") or user.get("is_workflow_bot") or slack_id == "USLACKBOT":
        refusal = "bot"
    elif user.get("deleted"):
        refusal = "deleted"
    profile = user.get("profile")
    email = profile.get("email") if isinstance(profile, dict) else None
    tz = known_zone(user.get("tz"))
    return Profile(slack_id, one_spelling(email) if isinstance(email, str) else "", refusal, tz)


def _memberships(user: dict[str, Any]) -> list[Any]:
    """The ids of the workspaces and the organization that the user belongs to. In an organization (Enterprise Grid), `team_id`
    is only one of the user's workspaces."""
    found = user.get("enterprise_user")
    in_organization: dict[str, Any] = found if isinstance(found, dict) else {}
    teams = in_organization.get("teams")
    ids = [user.get("team_id"), user.get("enterprise_id"), in_organization.get("enterprise_id")]
    return ids + (teams if isinstance(teams, list) else [])

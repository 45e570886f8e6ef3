"""Why Slack refuses a call to the bot token, in words for people, each with its cure."""

from dataclasses import dataclass
from typing import Any

MISSING_SCOPE = "missing_scope"


@dataclass(frozen=True)
class Words:
    """What is wrong, and what an admin does about it. Each is a sentence; the first one without its period."""

    text: str
    cure: str

    @property
    def for_user(self) -> str:
        """What a person reads who has used Stint in Slack meanwhile."""
        return f"Sorry, Slack refuses this to Stint: {self.text}. An admin of Stint has to fix it; trying again does not help."


_CORRECT = "set SLACK_BOT_TOKEN to the token of the app (at api.slack.com: OAuth & Permissions), and restart Stint."
_INSTALL = "install the app again (at api.slack.com: Install App), set the new SLACK_BOT_TOKEN, and restart Stint."
_ALLOW = "an admin of the Slack workspace allows the app, and installs it again if Slack asks for that."
_INVALID = Words("Slack does not accept the bot token", _CORRECT)
_REVOKED = Words("the bot token was revoked, or has expired", _INSTALL)
_FORBIDDEN = Words("the Slack workspace does not allow the app to do this", _ALLOW)
_WORDS = {
    "invalid_auth": _INVALID,
    "not_authed": _INVALID,
    "not_allowed_token_type": _INVALID,
    "token_revoked": _REVOKED,
    "token_expired": _REVOKED,
    "account_inactive": Words("the app was removed from the Slack workspace, or the workspace is deactivated", _INSTALL),
    "no_permission": _FORBIDDEN,
    "access_denied": _FORBIDDEN,
    "two_factor_setup_required": _FORBIDDEN,
    "accesslimited": _FORBIDDEN,
    "ekm_access_denied": Words(
        "the administrators of the Slack workspace have suspended the access to its messages (EKM)",
        "an admin of the Slack workspace gives access again; Stint tries again automatically.",
    ),
    "org_login_required": Words(
        "the Slack workspace is being moved into an organization",
        "wait until Slack has finished that; Stint tries again automatically.",
    ),
    # of views.publish only
    "not_enabled": Words(
        "the Home tab of the app is not turned on",
        "at api.slack.com, choose the app's App Home, and turn on the Home Tab. If nobody is to have it, remove the event "
        "app_home_opened (Event Subscriptions).",
    ),
    "team_access_not_granted": Words(
        "the app has no access to this workspace of the organization",
        "an admin of the organization adds the app to the workspace, or approves it there.",
    ),
}
CODES = frozenset(_WORDS) | {MISSING_SCOPE}
# those that are about the token itself: they stop every method, and end when any call succeeds
OF_THE_TOKEN = ["invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"]
# those that may also be about one channel, or one request
OF_A_CHANNEL = frozenset({"no_permission", "access_denied", "team_access_not_granted"})


def words(code: str, needed: str) -> Words:
    """What Slack's error code means; `needed`: the scopes of which the call needs one, separated by commas."""
    if code != MISSING_SCOPE:
        return _WORDS.get(code, _FORBIDDEN)
    scope = " or ".join(needed.split(",")) if needed else "that this call needs"
    return Words(
        f"the app does not have the scope {scope}",
        f"at api.slack.com, add the scope {scope} to the app (OAuth & Permissions, Bot Token Scopes), and install the app "
        "again; if its token has changed, set the new SLACK_BOT_TOKEN and restart Stint.",
    )


def scope_names(needed: Any) -> str:
    """The names of scopes, separated by commas, without anything that no name of a scope has. Slack names some by how the call
    is made: chat:write:bot is the scope chat:write."""
    text = needed[:200] if isinstance(needed, str) else ""
    names = "".join(character for character in text if character.isascii() and (character.isalnum() or character in ":._,-"))
    return ",".join(dict.fromkeys(name.removesuffix(":bot").removesuffix(":user") for name in names.split(",")))

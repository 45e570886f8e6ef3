"""Why Xero gives Stint no access to the organisation, in words for people, each with its cure."""

from dataclasses import dataclass
from enum import StrEnum


class AccessProblem(StrEnum):
    """Why there is no access."""

    revoked = "revoked"  # Xero does not accept the refresh token any more
    unlinked = "unlinked"  # the app was disconnected from the organisation within Xero; tokens can be renewed
    app_refused = "app_refused"  # Xero does not accept the app's credentials
    not_provisioned = "not_provisioned"  # the organisation does not use Xero Projects
    lost_scopes = "lost_scopes"  # the consent does not include Projects
    forbidden = "forbidden"  # refused for another reason
    offline = "offline"  # Xero says that the organisation is offline
    unavailable = "unavailable"  # no call succeeds


@dataclass(frozen=True)
class Words:
    """What a person reads: what is wrong, what to do, and whether an admin has to connect Xero again."""

    text: str
    cure: str
    needs_reconnect: bool = False


ORGANISATION = "{organisation}"  # stands for its name
_CONNECT = "an admin connects Xero again"
_WORDS: dict[str, Words] = {
    AccessProblem.revoked: Words(
        "Xero no longer accepts Stint's access to {organisation}: it was removed, or not used for 60 days",
        f"{_CONNECT}.",
        needs_reconnect=True,
    ),
    AccessProblem.unlinked: Words(
        "Stint was disconnected from {organisation} within Xero", f"{_CONNECT}.", needs_reconnect=True
    ),
    AccessProblem.app_refused: Words(
        "Xero does not accept Stint's client id and secret: the secret was replaced there, or the app was deleted",
        "set XERO_CLIENT_ID and XERO_CLIENT_SECRET to those of the app at developer.xero.com, and restart Stint.",
    ),
    AccessProblem.not_provisioned: Words(
        "{organisation} does not use Xero Projects, or not any more",
        "open Projects in Xero once, or add it to the organisation's subscription.",
    ),
    AccessProblem.lost_scopes: Words(
        "Stint's access to {organisation} does not include Projects any more",
        f"{_CONNECT}, and allows all that Xero asks for.",
        needs_reconnect=True,
    ),
    AccessProblem.forbidden: Words(
        "Xero refuses Stint the projects of {organisation}, although it is connected",
        "in Xero, give the person who connected Stint access to Projects; or somebody who has it connects Xero again.",
        needs_reconnect=True,
    ),
    AccessProblem.offline: Words(
        "Xero says that {organisation} is offline",
        "if this lasts, sign in to Xero and look whether the organisation is suspended.",
    ),
    AccessProblem.unavailable: Words(
        "Xero does not answer, or only with errors",
        "if this lasts, look at status.xero.com, and whether Stint's servers reach api.xero.com.",
    ),
}


def of_refusal(said: str) -> AccessProblem | None:
    """Why Xero refuses access, if its answer (in lower case) says so. Most refusals are worded alike."""
    if "provisioned" in said:
        return AccessProblem.not_provisioned
    if "authorizationunsuccessful" in said or "insufficient_scope" in said:
        return AccessProblem.lost_scopes
    return None


def is_offline(said: str) -> bool:
    """Whether an answer (in lower case) of 5xx is about the organisation, not about Xero."""
    return "organisation is offline" in said or "organization is offline" in said


def words(problem: str | None, organisation: str | None) -> Words:
    """The words for a problem as it is stored. None: a process of the version before stored no reason, and knew only one."""
    found = _WORDS.get(problem or AccessProblem.revoked, _WORDS[AccessProblem.forbidden])
    return Words(found.text.replace(ORGANISATION, organisation or "the organisation"), found.cure, found.needs_reconnect)


def sentence(problem: str | None, organisation: str | None) -> str:
    """What is wrong and what to do, for the bills that wait."""
    found = words(problem, organisation)
    return f"{found.text}. What to do: {found.cure}"


def all_words() -> dict[str, dict[str, str | bool]]:
    """The words of every problem, with ORGANISATION for the organisation's name: for a statement that shows them."""
    return {kind: {"text": each.text, "cure": each.cure, "reconnect": each.needs_reconnect} for kind, each in _WORDS.items()}

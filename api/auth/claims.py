"""Compares the claims of a token with the stored user."""

import math

from api.auth.tokens import Token
from schemas.identity import users
from schemas.identity.users import StoredUser


def email_and_name(token: Token, stored: StoredUser | None) -> tuple[str, str]:
    """The user's address and name: what the token states, else what is stored. An access token states neither."""
    email = token.email or (stored.email if stored else "")
    name = token.name or (stored.name if stored else email)
    return email, name


def claimed_role(token: Token) -> str | None:
    """The token's claim of a role, as it is stored. None: the token has no such claim.

    An empty string, or an unknown role, is stored, too: a later token without a role must then not mean legacy admin.
    """
    return None if token.role is None else str(token.role)


def differs(token: Token, stored: StoredUser) -> bool:
    """Whether the token states something else than what is stored. What the token does not state is not compared."""
    if email_and_name(token, stored) != (stored.email, stored.name):
        return True
    claimed = claimed_role(token)
    if claimed is not None and claimed != stored.role:
        return True
    states_customer = token.customer_id is not None or users.is_customer_role(claimed)
    return states_customer and token.customer_id != stored.customer_id


def is_too_old(token: Token, stored: StoredUser, *, clock_seconds: float) -> bool:
    """Whether the user's access has changed since the token was issued.

    A token of the local provider contains the version of the access, which is compared exactly. The times of other tokens are
    whole seconds. A token of the same second in which the user was removed or signed out is too old, because it may have been
    issued before.

    `clock_seconds`: how many seconds the clocks of the provider and of the database may differ.
    """
    if token.access_version is not None:
        return token.access_version != stored.access_version
    if stored.sessions_after is not None and token.started <= stored.sessions_after:
        return True
    # A user pool's answer shows that the user has moved, but not when: a token of the last minute may be of after that.
    return stored.access_since is not None and token.issued < math.floor(stored.access_since) - clock_seconds


def is_of_another_customer(token: Token, stored: StoredUser) -> bool:
    """Whether the token names another customer than the stored one.

    Also True if the token is of a time when the user belonged to the firm, and now belongs to a customer; and the other way
    round.
    """
    if token.role is None:
        return False
    role = users.parse_role(token.role)
    if users.is_customer_role(role) != users.is_customer_role(stored.role):
        return role is not None
    return users.is_customer_role(role) and token.customer_id != stored.customer_id

"""The types of the dependencies that a handler can have as parameters, by name; api/app.py provides them."""

from typing import TypeAlias

from litestar.di import NamedDependency

from api.auth.auth import Authenticator
from api.outbox_metrics import OutboxMetrics
from api.outcome_waiter import OutcomeWaiter
from api.readiness import Readiness
from api.slack.responder import Responder
from api.sync.event_listeners import Subscribers
from schemas.identity.accounts import IdentityProvider
from schemas.identity.users import User
from schemas.postgres.listing import Page
from schemas.postgres.pool import Database
from schemas.settings import Settings

TheDatabase: TypeAlias = NamedDependency[Database]
TheUser: TypeAlias = NamedDependency[User]
TheSettings: TypeAlias = NamedDependency[Settings]
TheOutcomes: TypeAlias = NamedDependency[OutcomeWaiter]
TheResponder: TypeAlias = NamedDependency[Responder]
TheIdentityProvider: TypeAlias = NamedDependency[IdentityProvider]
TheSubscribers: TypeAlias = NamedDependency[Subscribers]
ThePage: TypeAlias = NamedDependency[Page]
TheAuthenticator: TypeAlias = NamedDependency[Authenticator]
TheReadiness: TypeAlias = NamedDependency[Readiness]
TheOutboxMetrics: TypeAlias = NamedDependency[OutboxMetrics]

"""What a handler gets besides what the client sends: `request: ApiRequest`, and lists also `page: ThePage`.

Litestar passes `request` as it is, while it resolves two or more dependencies of a handler as concurrent tasks, which takes
longer than most handlers. So a handler has one dependency at most.
"""

from dataclasses import dataclass
from typing import TypeAlias

from litestar.di import NamedDependency

from api.auth.auth import Authenticator
from api.auth.leases import Session
from api.diagnosis.counts import FindingCounts
from api.diagnosis.reports import Reports
from api.http.requests import StrictRequest
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

ThePage: TypeAlias = NamedDependency[Page]


@dataclass(frozen=True)
class Context:
    """What this process has once, for all requests."""

    database: Database
    settings: Settings
    identity_provider: IdentityProvider
    authenticator: Authenticator
    subscribers: Subscribers
    responder: Responder
    outcomes: OutcomeWaiter
    readiness: Readiness
    outbox_metrics: OutboxMetrics
    reports: Reports
    finding_counts: FindingCounts


class ApiRequest(StrictRequest):
    """A request, who sent it, and what this process has for handling it."""

    user: User  # on routes that need a token
    auth: Session

    @property
    def _context(self) -> Context:
        context: Context = self.app.state.context
        return context

    @property
    def database(self) -> Database:
        return self._context.database

    @property
    def settings(self) -> Settings:
        return self._context.settings

    @property
    def identity_provider(self) -> IdentityProvider:
        return self._context.identity_provider

    @property
    def authenticator(self) -> Authenticator:
        return self._context.authenticator

    @property
    def subscribers(self) -> Subscribers:
        return self._context.subscribers

    @property
    def responder(self) -> Responder:
        return self._context.responder

    @property
    def outcomes(self) -> OutcomeWaiter:
        return self._context.outcomes

    @property
    def readiness(self) -> Readiness:
        return self._context.readiness

    @property
    def outbox_metrics(self) -> OutboxMetrics:
        return self._context.outbox_metrics

    @property
    def reports(self) -> Reports:
        return self._context.reports

    @property
    def finding_counts(self) -> FindingCounts:
        return self._context.finding_counts

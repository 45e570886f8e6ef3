"""Live events for pages: the stream of the API, for a session."""

import time

from litestar import get
from litestar.response.base import ASGIResponse

from api.console.sessions import Session, load_session, session_of
from api.dependencies import ApiRequest
from api.http.problems import BadRequest
from api.sync.events import event_stream
from schemas.postgres.pool import Database


class SessionAccess:
    """Access by a session: valid until that ends."""

    def __init__(self, database: Database, session: Session) -> None:
        self._database, self._token = database, session.token
        self.user, self.ends_at = session.user, time.monotonic() + session.seconds_left

    async def check(self) -> None:
        """Raises BadRequest (401) when the session has ended."""
        if await load_session(self._database, self._token) is None:
            raise BadRequest(401, "Your session has ended; sign in again.")


@get("/console/events")
async def listen(request: ApiRequest) -> ASGIResponse:
    """Sends each change as it is committed, as GET /api/events does. A page replaces its live parts then."""
    session = session_of(request)
    assert session is not None
    return event_stream(request, SessionAccess(request.database, session))

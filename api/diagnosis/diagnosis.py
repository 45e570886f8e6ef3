"""What `./stint status` and `./stint doctor` ask this process. The route needs no user, but a token of a command."""

import time
from typing import Any

from litestar import get

from api.dependencies import ApiRequest
from api.health import PUBLIC
from api.http.problems import BadRequest
from schemas.base import Row
from schemas.diagnosis.report import tokens
from schemas.outbox.heartbeats import process_name

SIGNED_ONLY = "This needs the token of ./stint doctor or ./stint status, which they make from SECRET_KEY."


class FoundProblem(Row):
    """Something that is wrong, what follows from it, and what to do."""

    what: str
    why: str
    do: str


class Diagnosis(Row):
    """The status of the installation and what is wrong with it, as one API process finds it."""

    process: str
    status: dict[str, Any]
    findings: tuple[FoundProblem, ...]


@get("/diagnosis", summary="What is wrong", opt=PUBLIC | {"also_answers": {401: SIGNED_ONLY}})
async def diagnosis(request: ApiRequest) -> Diagnosis:
    """What `./stint status` and `./stint doctor` show, as this API process finds it with its own settings and connections.

    These commands ask for it with a token that they make from SECRET_KEY and that is valid for a minute. No other token is
    accepted. It answers also while Postgres or RabbitMQ is away, within 25 seconds."""
    _check_token(request)
    found = await request.reports.current()
    return Diagnosis(process=process_name(), status=found["status"], findings=found["findings"])


def _check_token(request: ApiRequest) -> None:
    """Raises BadRequest (401) without a valid token."""
    sent = request.headers.getall("authorization", [])
    scheme, _, text = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise BadRequest(401, SIGNED_ONLY)
    try:
        tokens.check(text.strip(), request.settings.secret_key.get_secret_value(), now=time.time())
    except tokens.NotNow as error:
        raise BadRequest(401, str(error)) from error
    except tokens.WrongToken as error:
        raise BadRequest(401, SIGNED_ONLY) from error

"""Why a user pool could not be read: the doctor says it, with what to do."""

import asyncio

import boto3
import pytest

from schemas.diagnosis.servers import of_server
from schemas.errors import Unavailable
from schemas.identity.cognito import CognitoProvider
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY
from tests.support.user_pool import ENVIRONMENT, UserPool


def reason(pool: UserPool, monkeypatch: pytest.MonkeyPatch, **changes: str) -> str:
    """Of a reading with these settings instead of those that work."""
    environment = pool.environment | {"DATABASE_URL": "postgresql:///", "SECRET_KEY": SECRET_KEY} | changes
    for name in (*ENVIRONMENT, "AWS_PROFILE"):
        if name in environment:
            monkeypatch.setenv(name, environment.pop(name))
        else:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers the credentials
    settings = Settings.model_validate({name.lower(): value for name, value in environment.items()})
    with pytest.raises(Unavailable) as raised:
        asyncio.run(CognitoProvider(settings).list_accounts())
    assert raised.value.reason not in raised.value.detail  # which clients get
    return raised.value.reason


def test_a_reading_that_fails_says_why_and_what_helps(pool: UserPool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "no such pool": reason(pool, monkeypatch, COGNITO_USER_POOL_ID="eu-central-1_Nothing"),
        "nobody listens": reason(pool, monkeypatch, COGNITO_ENDPOINT_URL="http://127.0.0.1:9"),
        "no credentials": reason(pool, monkeypatch, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""),
        "half of them": reason(pool, monkeypatch, AWS_SECRET_ACCESS_KEY=""),
        "no such profile": reason(pool, monkeypatch, AWS_PROFILE="nobody"),
    }
    assert found == {
        "no such pool": "it refuses the call (ResourceNotFoundException)",
        "nobody listens": "it does not answer (EndpointConnectionError)",
        "no credentials": "Stint has no credentials of AWS for it (NoCredentialsError)",
        "half of them": "Stint has no credentials of AWS for it "
        "(PartialCredentialsError: Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY)",
        "no such profile": "Stint has no credentials of AWS for it "
        "(ProfileNotFound: The config profile (nobody) could not be found)",
    }
    refused, away, *without = (of_server("user pool", f"was last read 40 s ago: {each}", None).do for each in found.values())
    assert "cognito-idp:ListUsers" in refused and without == [refused] * 3 and away.startswith("restore the network")
    assert of_server("user pool", "was last read 200 s ago", None).do.startswith("start a worker for the queue mail")

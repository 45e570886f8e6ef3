"""`./stint status` and `./stint doctor` ask the API where no `./stint up` runs: GET /diagnosis."""

import json
import os
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from schemas.diagnosis.report import tokens
from tests.support.answers import Json, problem
from tests.support.apis import Another
from tests.support.fork_server import run
from tests.support.given import Given
from tests.support.http_answers import answering
from tests.support.installation import CHECKOUT, SECRET_KEY, Installation, eventually
from tests.support.tls import Authority, tls_server
from tests.support.up import WITHOUT_SERVERS

PASSWORD = "a-password-that-nobody-shows"
ANOTHER_KEY = "a key of another installation"


def signed(*, key: str = SECRET_KEY, seconds: float = 0) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.sign(key, now=time.time() + seconds)}"}


def asked(api: Installation) -> Json:
    answer = httpx2.get(f"{api.url}/diagnosis", headers=signed(), timeout=60)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    found: Json = answer.json()
    return found


def command(state: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a shell that has these settings, and no `up`."""
    return run(["ops.cli", *words, "--state", str(state)], cwd=CHECKOUT, env=WITHOUT_SERVERS | environment)


@pytest.mark.unit
def test_a_token_is_of_one_of_the_keys_and_of_the_last_minute() -> None:
    token = tokens.sign("the new key, the old key", now=1_000)
    for known in ("the new key", "the newest key,the new key", " the new key ,another"):
        tokens.check(token, known, now=1_000 + tokens.VALID_SECONDS)
    for late in (tokens.VALID_SECONDS + 1, -tokens.VALID_SECONDS - 1):
        with pytest.raises(tokens.NotNow, match=r"\d s from this one"):
            tokens.check(token, "the new key", now=1_000 + late)
    at, _, signature = token.partition(".")
    for wrong in (token.replace("1000", "1001"), at, f"{at}.", f".{signature}", f"{at}.{signature[:-1]}", f"{at}.ü", "٣.a", ""):
        with pytest.raises(tokens.WrongToken) as raised:
            tokens.check(wrong, "the new key", now=1_000)
        assert not isinstance(raised.value, tokens.NotNow)
    with pytest.raises(tokens.WrongToken):
        tokens.check(token, "the old key", now=1_000)


def test_an_api_tells_what_is_wrong_to_a_signed_question_only(another: Another, given: Given) -> None:
    api = another(METRICS_TOKEN="a-token-for-prometheus", BACKUP_MAX_AGE_DAYS="2")
    url = f"{api.url}/diagnosis"
    token = signed()["Authorization"]
    for wrong in ("", token.removeprefix("Bearer "), f"Basic {token}", "Bearer", "Bearer \xfc", f"{token}0",
                  "Bearer a-token-for-prometheus", f"Bearer {given.admin().token}"):  # fmt: skip
        refused = problem(httpx2.get(url, headers=[(b"Authorization", wrong.encode("latin-1"))]), 401)
        assert "SECRET_KEY" in refused["detail"]
    assert "SECRET_KEY" in problem(httpx2.get(url), 401)["detail"]
    assert "SECRET_KEY" in problem(httpx2.get(url, headers=signed(key=ANOTHER_KEY)), 401)["detail"]
    late = problem(httpx2.get(url, headers=signed(seconds=-tokens.VALID_SECONDS - 5)), 401)
    assert "s from this one" in late["detail"]
    found = asked(api)
    assert found["status"]["servers"]["Postgres"] == found["status"]["servers"]["API"] == "ok"
    assert "The last backup is too old: none was made." in [each["what"] for each in found["findings"]]


def test_an_api_without_postgres_and_rabbitmq_tells_that_without_a_secret(another: Another) -> None:
    nowhere = {
        "DATABASE_URL": f"postgresql://nobody:{PASSWORD}@127.0.0.1:1/nothing",
        "AMQP_URL": f"amqp://nobody:{PASSWORD}@127.0.0.1:1/%2F",
        "SMTP_URL": f"smtp://nobody:{PASSWORD}@127.0.0.1:1",
    }
    api = another(**nowhere, STINT_CONNECT_SECONDS="0.1")
    began = time.monotonic()
    found = asked(api)
    assert time.monotonic() - began < 25
    assert [each["what"].partition(" does not answer")[0] for each in found["findings"]] == ["Postgres", "RabbitMQ", "mail"]
    assert "is not ready" in found["status"]["servers"]["API"]
    assert PASSWORD not in json.dumps(found) and SECRET_KEY not in json.dumps(found)


def test_an_api_without_amqp_url_tells_of_rabbitmq_what_relays_and_workers_report(own: Installation) -> None:
    """Only relays and workers need AMQP_URL."""
    amqp_url = own.environment.pop("AMQP_URL")
    own.start("api").wait_until_ready()
    assert asked(own)["status"]["servers"]["RabbitMQ"] == "not set"
    own.environment["AMQP_URL"] = amqp_url
    own.start("relay")
    eventually(lambda: asked(own)["status"]["servers"]["RabbitMQ"] == "ok")
    own.kill("relay")
    with own.sql() as conn:
        conn.execute("""UPDATE heartbeats SET problems = '{"RabbitMQ": "blocked: low on memory"}' WHERE kind = 'relay'""")
    eventually(lambda: asked(own)["status"]["servers"]["RabbitMQ"] == "blocks publishers: low on memory", seconds=10)


def test_commands_show_what_the_api_sees_whatever_settings_the_shell_has(another: Another, tmp_path: Path) -> None:
    api = another(BACKUP_MAX_AGE_DAYS="2")
    shell = {"SECRET_KEY": f"{SECRET_KEY},an old key", "DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}
    first = f"As the API at {api.url} sees it:\n"
    for known in ({"STINT_URL": api.url, "PUBLIC_URL": "http://127.0.0.1:1"}, {"PUBLIC_URL": f"{api.url}/"}):
        done = command(tmp_path, "doctor", **shell, **known)
        assert done.returncode == 1 and done.stderr == ""
        assert done.stdout.replace(f"{api.url}/ ", f"{api.url} ").startswith(first)
        assert "The last backup is too old: none was made." in done.stdout
    named = command(tmp_path, "status", "--url", api.url, SECRET_KEY=SECRET_KEY, STINT_URL="http://127.0.0.1:1")
    assert named.returncode == 0 and named.stdout.startswith(first) and "Postgres  ok" in named.stdout
    shown = json.loads(command(tmp_path, "status", "--json", STINT_URL=api.url, SECRET_KEY=SECRET_KEY).stdout)
    assert shown["asked"] == {"url": api.url, "process": f"{os.uname().nodename}:{api.processes['api'].pid}"}
    assert shown["servers"]["Postgres"] == "ok"


def test_a_command_that_cannot_ask_says_why_and_looks_itself(another: Another, stint: Installation, tmp_path: Path) -> None:
    api = another(BACKUP_MAX_AGE_DAYS="2")
    looks = {name: stint.environment[name] for name in ("DATABASE_URL", "AMQP_URL")}
    own_view = "As this shell sees it, with its own settings:"
    done = command(tmp_path, "status", "--url", api.url, SECRET_KEY=ANOTHER_KEY, **looks)
    why = "it has another SECRET_KEY than this shell"
    assert done.stdout.startswith(f"The API at {api.url} was not asked: {why}. {own_view}\nPostgres  ok")
    without = command(tmp_path, "status", "--url", api.url)
    assert "was not asked: SECRET_KEY, with which the question is signed, is not set here." in without.stderr
    gone = command(tmp_path, "doctor", "--json", STINT_URL="http://127.0.0.1:1", SECRET_KEY=SECRET_KEY, **looks)
    assert "API does not answer: Connection refused at 127.0.0.1:1." == json.loads(gone.stdout)[0]["what"]
    said = f"stint: The API at http://127.0.0.1:1 was not asked: it does not answer: Connection refused. {own_view}\n"
    assert gone.stderr == said
    alone = command(tmp_path, "doctor", STINT_URL="http://127.0.0.1:1", SECRET_KEY=SECRET_KEY)
    assert alone.returncode == 1 and "was not asked: it does not answer" in alone.stderr and "DATABASE_URL" in alone.stderr


@pytest.mark.parametrize(
    ("status", "body", "headers", "why"),
    [
        (404, b"{}", {}, "what answers there is no API of this version of Stint"),
        (200, b"[]", {}, "what answers there is no API of this version of Stint"),
        (200, b"<html>", {}, "what answers there is no API of Stint, or the URL is none"),
        (301, b"", {"Location": "https://stint.example.com/"}, "it leads to https://stint.example.com/: name that URL"),
        (502, b"<html>", {}, "it answers 502: it is no answer of Stint"),
        (401, b'{"detail": "The token is of another time."}', {}, "it answers 401: The token is of another time"),
    ],
)
def test_what_is_no_stint_is_told_apart(status: int, body: bytes, headers: dict[str, str], why: str, tmp_path: Path) -> None:
    with answering() as server:
        server.status, server.body, server.headers = status, body, headers
        done = command(tmp_path, "doctor", "--url", f"{server.url}/stint/", SECRET_KEY=SECRET_KEY)
        assert (
            done.returncode == 1 and f"stint: The API at {server.url}/stint/ was not asked: {why}. No Stint runs" in done.stderr
        )
        [(path, sent)] = server.requests
        assert path == "/stint/diagnosis" and SECRET_KEY not in str(sent)
    for url in ("nowhere", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port"):
        done = command(tmp_path, "doctor", "--url", url, SECRET_KEY=SECRET_KEY)
        assert done.returncode == 1 and f"The API at {url} was not asked: " in done.stderr, done.stderr


def test_an_api_behind_tls_is_asked_if_its_certificate_is_accepted(another: Another, tmp_path: Path) -> None:
    api = another(BACKUP_MAX_AGE_DAYS="2")
    authority = Authority(tmp_path)
    with tls_server(str(urlsplit(api.url).netloc), authority.certificate("127.0.0.1")) as server:
        url = f"https://127.0.0.1:{server.port}"
        shell = {"SECRET_KEY": SECRET_KEY, "PUBLIC_URL": url}
        done = command(tmp_path, "doctor", **shell, SSL_CERT_FILE=str(authority.file))
        assert done.stdout.startswith(f"As the API at {url} sees it:\n"), done.stdout + done.stderr
        refused = command(tmp_path, "doctor", **shell)
        assert refused.returncode == 1 and "certificate verify failed" in refused.stderr and "Traceback" not in refused.stderr

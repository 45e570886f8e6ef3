"""`./stint up`: started, killed in every way, and started again."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pika
import psycopg
import pytest

from schemas.messages import SendMail
from tests.outbox import probe
from tests.support.installation import free_port, new_database_without_key
from tests.support.sizes import FULL
from tests.support.up import ONE_API, Up, command, end_all, ready, runs, until
from tests.sync import streams

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def shared_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up") / "with space", on_a_terminal=True)
    try:
        yield up
    finally:
        if up.runs():
            up.end(signal.SIGTERM)


@pytest.fixture
def up(shared_up: Up) -> Up:
    """Shared by the module; started again if the test before ended it."""
    return shared_up if shared_up.runs() else shared_up.start()


@pytest.mark.slow
def test_kill_9_right_after_the_first_start_leaves_a_state_that_starts(up: Up) -> None:
    """The first test of the module: nothing has used this state yet."""
    up.end(signal.SIGKILL)
    up.start()
    assert ready(up.url)


def test_the_status_block_names_what_a_person_needs(up: Up) -> None:
    said = up.said()
    assert said.count("Stint is ready") == 1
    for needed in (up.url, f"{up.url}/docs", str(up.state), "Postgres", "RabbitMQ", "Ctrl-C"):
        assert needed in said


def test_both_api_processes_are_alive_in_the_eyes_of_the_doctor(up: Up) -> None:
    assert up.run_json()["api_processes"] == 2

    def api() -> str:
        shown = command("status", "--json", "--state", str(up.state)).stdout
        return str(json.loads(shown)["servers"]["API"])

    until(lambda: api() == "ok", seconds=60)


def test_the_queues_of_its_own_node_are_classic(up: Up) -> None:
    asked = {"x-queue-type": "classic"}
    with pika.BlockingConnection(pika.URLParameters(up.run_json()["amqp_url"])) as connection:
        connection.channel().queue_declare("timers.XQ", durable=True, arguments=asked)  # refused if it has another type
    assert "STINT_QUEUE_TYPE" not in command("doctor", "--json", "--state", str(up.state)).stdout


def test_the_curl_line_works_when_pasted(up: Up) -> None:
    line = re.search(r"Try it: +(curl .*)", up.said())
    assert line
    answer = subprocess.run(["/bin/sh", "-c", f"{line[1]} -s -o /dev/null -w '%{{http_code}}'"], capture_output=True)
    assert answer.stdout == b"200"


def test_the_link_that_it_prints_signs_the_admin_in_to_the_console_and_so_does_another(up: Up) -> None:
    printed = re.search(r"Console +(http://\S+)", up.said())
    assert printed and len(printed[1]) < 110
    made = command("console", "admin@example.com", "--state", str(up.state))
    assert (made.returncode, made.stderr) == (0, "")
    for link in (printed[1], made.stdout.strip()):
        shown = httpx2.get(link)
        assert shown.status_code == 200 and "Sign in as admin@example.com" in shown.text
        token = link.partition("token=")[2]
        used = httpx2.post(f"{up.url}/console/link", data={"token": token}, headers={"Origin": up.url})
        assert (used.status_code, used.headers["location"]) == (303, "/console")
        assert "__Host-stint=" in used.headers["set-cookie"]
    unknown = command("console", "nobody@example.com", "--state", str(up.state))
    assert unknown.returncode == 1 and "./stint user add nobody@example.com" in unknown.stderr


def test_a_token_is_all_that_the_command_prints(up: Up) -> None:
    made = command("token", "--role", "internal_admin", "--email", "a@example.com", "--state", str(up.state))
    assert (made.returncode, made.stderr) == (0, "")
    assert re.fullmatch(r"\S+\n", made.stdout)


def test_a_code_that_is_caught_as_a_file_signs_in(up: Up) -> None:
    assert str(up.state / "mail") in up.said()
    assert command("user", "add", "jo@example.com", "--state", str(up.state)).returncode == 0
    before = set((up.state / "mail").glob("*.eml"))
    httpx2.post(f"{up.url}/auth/code", json={"email": "jo@example.com"}).raise_for_status()
    until(lambda: bool(set((up.state / "mail").glob("*.eml")) - before), seconds=20)
    [file] = set((up.state / "mail").glob("*.eml")) - before
    assert file.stat().st_mode & 0o077 == 0
    code = re.search(r"Your code is (\d{6})", file.read_text())
    assert code
    signed_in = httpx2.post(f"{up.url}/auth/token", json={"email": "jo@example.com", "code": code[1]}).json()
    me = httpx2.get(f"{up.url}/api/me", headers={"Authorization": f"Bearer {signed_in['idToken']}"}).json()
    assert (me["email"], me["role"]) == ("jo@example.com", "internal")


def test_run_json_names_living_processes_and_nobody_else_can_read_it(up: Up) -> None:
    run = up.run_json()
    assert run["url"] == up.url
    assert {part: len(pids) for part, pids in run["pids"].items()} == {
        "api": 2, "work": 3, "relay": 1, "postgres": 1, "rabbitmq": 2,
    }  # fmt: skip
    assert all(runs(pid) for pids in run["pids"].values() for pid in pids)
    assert (up.state / "run.json").stat().st_mode & 0o077 == 0
    with psycopg.connect(run["database_url"]) as conn:
        assert conn.execute("SELECT count(*) > 0 FROM migrations").fetchone() == (True,)


def test_a_second_up_on_the_same_state_says_so(up: Up) -> None:
    second = command("up", "--port", str(free_port()), "--state", str(up.state))
    assert second.returncode == 1
    assert f"already runs on {up.state} at {up.url}" in second.stderr
    assert ready(up.url)


def test_a_used_port_is_reported(up: Up, tmp_path: Path) -> None:
    second = command("up", "--port", str(up.port), "--state", str(tmp_path / "second"))
    assert second.returncode == 1
    assert f"Port {up.port} cannot be used" in second.stderr and "--port" in second.stderr


def test_every_part_that_dies_comes_back_at_the_same_urls(up: Up) -> None:
    before = up.run_json()
    for part, pids in before["pids"].items():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for_all = len(pids)
        until(lambda: len(set(up.run_json()["pids"][part]) - set(pids)) == for_all, seconds=20)  # noqa: B023
    until(lambda: ready(up.url), seconds=30)
    after = up.run_json()
    assert [after[key] for key in ("url", "database_url", "amqp_url")] == [
        before[key] for key in ("url", "database_url", "amqp_url")
    ]
    for name in ("api 1", "api 2", "work timers", "work bills", "work calls", "relay", "postgres", "rabbitmq", "epmd"):
        assert f"Stint: {name} killed by SIGKILL; starting it again" in up.said()


def paced(over: threading.Event, a_second: float) -> Iterator[None]:
    """Yields that many times a second until it is over, and at once what a slow request has delayed."""
    due = time.monotonic()
    while not over.wait(max(0.0, due - time.monotonic())):
        yield
        due += 1 / a_second


@pytest.mark.slow
def test_a_restart_replaces_every_process_and_loses_no_request_and_no_message(up: Up) -> None:
    before = {kind: set(up.run_json()["pids"][kind]) for kind in ("api", "work", "relay")}
    token = command("token", "--role", "internal_admin", "--email", "load@example.com", "--state", str(up.state)).stdout.strip()
    stream = streams.Stream(streams.open_stream(up.url, token))
    until(lambda: stream.status == 200, seconds=30)
    over, failures, seconds, mails, stops = threading.Event(), list[str](), list[float](), list[str](), list[str]()

    def new_client() -> httpx2.Client:
        return httpx2.Client(base_url=up.url, headers={"authorization": f"Bearer {token}"}, timeout=30)

    def ask(client: httpx2.Client, method: str, path: str) -> httpx2.Response | None:
        started = time.monotonic()
        try:
            answer = client.request(method, path)
            if answer.is_success:
                return answer
            failures.append(answer.text)
        except httpx2.HTTPError as error:
            failures.append(repr(error))
        finally:
            seconds.append(time.monotonic() - started)
        return None

    def read() -> None:
        for _ in paced(over, 12.5):
            with new_client() as client:
                ask(client, "GET", "/api/customers")

    def read_over_one_connection() -> None:
        with new_client() as client:
            for _ in paced(over, 12.5):
                ask(client, "GET", "/api/customers")

    def write_over_one_connection() -> None:
        with new_client() as client:
            customer = client.post("/api/customers", json={"name": "Load"}).json()
            task = client.post("/api/tasks", json={"title": "Load", "customerId": customer["id"]}).json()
            for _ in paced(over, 6.25):
                ask(client, "POST", f"/api/tasks/{task['id']}/start")
                if (stopped := ask(client, "POST", f"/api/tasks/{task['id']}/stop")) is not None:
                    stops.append(stopped.json()["entryId"])

    def send() -> None:
        with psycopg.connect(up.run_json()["database_url"], autocommit=True) as conn:
            while not over.wait(0.1):
                mails.append(f"mail {len(mails)} of the restart")
                probe.enqueue(conn, SendMail(to="a@example.com", subject=mails[-1], paragraphs=("text",)))

    with ThreadPoolExecutor(5) as pool:
        loads = [pool.submit(load) for load in (read, read, read_over_one_connection, write_over_one_connection, send)]
        began = time.monotonic()
        try:
            done = command("restart", "--state", str(up.state))
        finally:
            lasted = time.monotonic() - began
            over.set()
        for load in loads:
            load.result()
    assert done.returncode == 0, done.stderr
    print(f"{len(seconds)} requests in {lasted:.1f} s, {len(failures)} failed, the longest {max(seconds):.2f} s")
    print(f"{len(stops)} stops; {len(mails)} mails; {done.stdout}")
    assert failures == []
    if FULL:  # which runs on an idle machine
        assert len(seconds) >= 45 * lasted, "50 requests a second"
        assert max(seconds) <= 1
    assert stream.ends_properly(), "its client is told to connect again"
    stream.close()
    run_json = up.run_json()
    after = run_json["pids"]
    assert [len(after[kind]) for kind in before] == [2, 3, 1]
    assert not [kind for kind, pids in before.items() if pids & set(after[kind])]

    def arrived() -> list[str]:
        texts = [file.read_text() for file in (up.state / "mail").glob("*.eml")]
        return [line.removeprefix("Subject: ") for text in texts for line in text.splitlines() if "of the restart" in line]

    until(lambda: len(arrived()) >= len(mails), seconds=60)
    assert sorted(arrived()) == sorted(mails), "each is sent once"
    with psycopg.connect(run_json["database_url"], autocommit=True) as conn:
        made = conn.execute("SELECT id FROM time_entries WHERE id = ANY(%s)", (stops,)).fetchall()
    assert sorted(str(entry) for (entry,) in made) == sorted(stops), "each stop has its entry"


def test_kill_9_leaves_no_process_and_the_next_start_recovers(up: Up) -> None:
    before = up.run_json()
    os.kill(before["pids"]["postgres"][0], signal.SIGKILL)
    assert up.end(signal.SIGKILL) < 3
    stale = command("token", "--role", "none", "--email", "a@example.com", "--state", str(up.state))
    assert stale.returncode == 1 and "No Stint runs on" in stale.stderr
    up.start()
    assert ready(up.url)
    assert [up.run_json()[key] for key in ("database_url", "amqp_url")] == [before["database_url"], before["amqp_url"]]


def test_ctrl_c_ends_all_of_it(up: Up) -> None:
    end_all(up, signal.SIGINT)


def open_stream(up: Up) -> socket.socket:
    """A stream of live events that has begun."""
    token = command("token", "--role", "internal_admin", "--email", "a@example.com", "--state", str(up.state)).stdout.strip()
    stream = socket.create_connection(("127.0.0.1", up.port))
    stream.sendall(f"GET /api/events HTTP/1.1\r\nHost: stint\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    heard = b""
    while b"event: reset" not in heard:
        heard += stream.recv(65536)
    return stream


def test_up_starts_again_and_gives_its_first_admin_nothing_back_and_a_lost_secret_key_is_replaced(
    database_url: str, amqp_url_apart: str, tmp_path: Path
) -> None:
    up = Up(tmp_path / "state", *ONE_API).start(DATABASE_URL=new_database_without_key(database_url), AMQP_URL=amqp_url_apart)
    option = ("--state", str(up.state))
    signing = ("token", "--role", "internal_admin", "--email", "jo@example.com", *option)

    def status_with(token: str) -> int:
        return httpx2.get(f"{up.url}/api/me", headers={"Authorization": f"Bearer {token}"}).status_code

    try:
        assert up.run_json()["pids"]["postgres"] == up.run_json()["pids"]["rabbitmq"] == [], "given servers are used"
        assert not (up.state / "postgres").exists() and not (up.state / "rabbitmq").exists()
        # a log may be kept and read by others: what signs in is only printed on a terminal
        assert "token=" not in up.said() and f"./stint console admin@example.com --state {up.state}" in up.said()
        changed = command("user", "add", "--role", "internal_user", "admin@example.com", *option)
        assert changed.returncode == 0, changed.stderr
        made = command(*signing)
        assert made.returncode == 0, made.stderr
        token = made.stdout.strip()
        with psycopg.connect(up.run_json()["database_url"]) as conn:
            conn.execute(
                """
                UPDATE xero_connection SET tenant_id = 'org', tenant_name = 'The firm', connection_id = 'c', expires_at = now(),
                    access_token = 'of the key before', refresh_token = 'of the key before', connected_at = now()
                """
            )
            before = conn.execute("SELECT role, revoked_at, access_version FROM users").fetchall()
        stopped = command("stop", *option)
        assert stopped.returncode == 0 and "It has stopped" in stopped.stdout, stopped.stderr
        assert up.process.wait(1) == 0
        logged = command("logs", "relay", *option)
        assert logged.stdout.startswith("relay        | "), logged.stderr

        up.start(SECRET_KEY="another key than the one before", XERO_CLIENT_ID="an app", XERO_CLIENT_SECRET="its secret")
        assert "(admin@example.com was removed, or is no admin any more; ./stint console you@example.com" in up.said()
        with psycopg.connect(up.run_json()["database_url"]) as conn:
            assert conn.execute("SELECT role, revoked_at, access_version FROM users").fetchall() == before
        lost = "SECRET_KEY does not decrypt the signing key and Xero's tokens for The firm"
        assert lost in up.said() and f"{lost}." in command("doctor", *option).stdout
        assert "another SECRET_KEY" in command(*signing).stderr and status_with(token) == 200
        refused = command("reset-secrets", *option)
        assert refused.returncode == 1 and "Nothing was changed" in refused.stderr
        assert refused.stdout.startswith(lost) and "connect Xero again" in refused.stdout
        assert "another SECRET_KEY" in command(*signing).stderr
        given_up = command("reset-secrets", "--yes", *option)
        assert given_up.returncode == 0 and "A new key signs tokens" in given_up.stdout, given_up.stderr
        assert [status_with(each) for each in (token, command(*signing).stdout.strip())] == [200, 200]
        assert "Xero is not connected." in (judged := command("doctor", *option).stdout) and lost not in judged
        assert "nothing to give up" in command("reset-secrets", *option).stdout
        assert command("rotate-keys", *option).returncode == 0
        with open_stream(up):
            assert end_all(up, signal.SIGTERM) < 6  # the API alone would wait 8 s for a stream that does not end
    finally:
        if up.runs():
            up.end(signal.SIGTERM)

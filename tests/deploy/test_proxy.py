"""ops/deploy/hosts/haproxy.cfg: HAProxy itself, from Debian's package, before an API."""

import re
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from ops.up.packages.debian import Packages
from ops.up.processes import end, spawn
from tests.deploy.test_guide import NAMES, THREE_HOSTS, filled
from tests.support.answers import assert_cors, problem
from tests.support.debian import system_program
from tests.support.installation import Installation, eventually, free_port
from tests.support.pages import as_pattern, sample
from tests.support.tls import Authority

PACKAGES = Packages("haproxy", ("haproxy",), megabytes=2, with_dependencies=True)
TIMEOUT_SECONDS = 5  # instead of a minute; a connection that is refused is tried for three seconds

pytestmark = pytest.mark.processes


@pytest.fixture
def proxy(own: Installation, tmp_path: Path) -> Iterator[httpx2.Client]:
    """A client of the HAProxy of one host, whose API is that of `own`. The proxies of the three hosts are this one."""
    program, environment = system_program(PACKAGES)
    authority, public, hosts = Authority(tmp_path), free_port(), free_port()
    for name in ("127.0.0.1", *NAMES):
        files = authority.certificate(name)
        (tmp_path / f"{name}.pem").write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    text = filled("haproxy.cfg")
    for expression, value in {
        r"^global\n(    .*\n)+": "",  # its account, its directory and its log
        "/etc/haproxy/public.pem": str(tmp_path / "127.0.0.1.pem"),
        "/etc/haproxy/host.pem": str(tmp_path / "a.pem"),
        "/etc/stint/ca.pem": str(authority.file),
        r"bind :443 ": f"bind 127.0.0.1:{public} ",
        r"bind 10\.0\.0\.1:8443": f"bind 127.0.0.1:{hosts}",
        r"server (\w) \w:8443 verifyhost \w": rf"server \1 127.0.0.1:{hosts} verifyhost a",
        r"server api 127\.0\.0\.1:8000": f"server api 127.0.0.1:{own.port}",
        "timeout server 60s": f"timeout server {TIMEOUT_SECONDS}s",
    }.items():
        text, count = re.subn(expression, value, text, flags=re.MULTILINE)
        assert count, expression
    (tmp_path / "haproxy.cfg").write_text(text)
    process = spawn([program, "-db", "-f", tmp_path / "haproxy.cfg"], log=tmp_path / "haproxy.log", environment=environment)
    try:
        tls = ssl.create_default_context(cafile=authority.file)
        # on a connection that had a request before, HAProxy answers no 502: it closes it, and the client decides
        limits = httpx2.Limits(max_keepalive_connections=0)
        with httpx2.Client(base_url=f"https://127.0.0.1:{public}", verify=tls, timeout=20, limits=limits) as client:
            eventually(lambda: answers(client), why=f"HAProxy listens: {tmp_path / 'haproxy.log'}")
            yield client
    finally:
        end(process)


def answers(client: httpx2.Client) -> bool:
    try:
        return bool(client.get("/health/live"))
    except httpx2.TransportError:
        return False


def test_without_an_api_the_proxy_answers_in_the_form_of_the_api(proxy: httpx2.Client, own: Installation) -> None:
    for path in ("/api/tasks", "/health/ready"):
        refused = proxy.get(path, headers={"Origin": "https://elsewhere.example"})
        assert "Nothing was changed" in problem(refused, 503)["detail"] and refused.headers["retry-after"] == "1"
        assert refused.headers["cache-control"] == "no-store"
    shown = sample(THREE_HOSTS, "HTTP/2 503").replace("049a471b-", "")  # the beginning of its request's id
    headers = "".join(f"{name}: {value}\n" for name, value in refused.headers.items())
    assert re.fullmatch(as_pattern(shown), f"HTTP/2 503\n{headers}\n{refused.text}\n", re.DOTALL), headers

    own.start("api")
    ready = eventually(lambda: (answer := proxy.get("/health/ready")).status_code == 200 and answer, seconds=60)
    assert_cors(ready)  # and once: the proxy adds nothing to what the API answers
    assert ready.headers.get_list("x-request-id") != [] and "retry-after" not in ready.headers
    assert problem(proxy.get("/api/tasks"), 401)["title"] == "Not authorized"

    # what was begun and not answered may have been done
    own.processes["api"].send_signal(signal.SIGSTOP)
    killed = threading.Timer(0.5, own.kill, ["api"])
    killed.start()
    assert "may have done" in problem(proxy.get("/api/tasks"), 502)["detail"]
    killed.join()
    own.start("api").wait_until_ready()
    eventually(lambda: proxy.get("/health/ready").status_code == 200)
    own.processes["api"].send_signal(signal.SIGSTOP)
    assert "may have done" in problem(proxy.get("/api/tasks"), 504)["detail"]

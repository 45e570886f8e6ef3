"""The HTTP server: uvicorn on uvloop and httptools, set up in one place, so that what is compared runs alike."""

from typing import Any

import uvicorn

from api.connections import Bounded


def serve(app: Any, *, host: str, port: int, trusted_proxies: str = "", head_seconds: float = 10) -> None:
    """Serves an ASGI application until SIGTERM. The access log is ours: one JSON line a request. Whom a request comes from is
    taken from X-Forwarded-For only where a trusted proxy wrote it. Who has sent no complete head of a request after
    `head_seconds` is disconnected."""
    Bounded.head_seconds = head_seconds
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Bounded,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies,
        timeout_graceful_shutdown=8,
    )

"""The HTTP server: uvicorn on uvloop and httptools, set up in one place, so that what is compared runs alike."""

from typing import Any

import uvicorn


def serve(app: Any, *, host: str, port: int, trusted_proxies: str = "") -> None:
    """Serves an ASGI application until SIGTERM. The access log is ours: one JSON line a request. Whom a request comes from is
    taken from X-Forwarded-For only where a trusted proxy wrote it."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies,
        timeout_graceful_shutdown=8,
    )

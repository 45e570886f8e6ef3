"""`python -m api [--host H] [--port N] [--fd N]`: runs the API until SIGTERM."""

import argparse
import sys
from functools import partial

from schemas.starting import listening_socket, no_collections


def main() -> None:
    """Serves, or exits with the names of the missing settings."""
    with no_collections():
        serve = _prepared()
    serve()


def _prepared() -> "partial[None]":
    """The server, with all that it needs imported."""
    from api.processes import metrics

    parser = argparse.ArgumentParser(prog="./stint api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="a listening socket that the parent process opened, instead of host and port")
    arguments = parser.parse_args()
    try:
        inherited = listening_socket(arguments.fd) if arguments.fd is not None else None
    except ValueError as error:
        sys.exit(str(error))
    metrics.take_place()
    # these create metrics, so they are imported after the place is taken
    from api.app import create_app
    from api.http.server import serve
    from schemas.base import build_models
    from schemas.logs import configure_logging
    from schemas.settings import SettingsMissing, settings
    from schemas.tracing import configure_tracing

    configure_logging("api")
    configure_tracing("api")
    try:
        known = settings()
        app = create_app(known)
    except SettingsMissing as error:
        sys.exit(str(error))
    build_models()
    return partial(
        serve,
        app,
        host=arguments.host,
        port=arguments.port,
        inherited=inherited,
        trusted_proxies=known.trusted_proxies,
        head_seconds=known.stint_head_seconds,
        public_url=known.public_url,
    )


main()

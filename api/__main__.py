"""`python -m api [--host H] [--port N]`: runs the API until SIGTERM."""

import argparse
import sys

import uvicorn

from api.app import create_app
from schemas.logs import start_logging
from schemas.settings import SettingsMissing, settings


def main() -> None:
    """Serves with uvicorn on uvloop and httptools. The access log is ours: one JSON line a request."""
    parser = argparse.ArgumentParser(prog="api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    start_logging("api")
    try:
        app = create_app(settings())
    except SettingsMissing as error:
        sys.exit(str(error))
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=8,
    )


main()

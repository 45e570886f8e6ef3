"""`python -m api [--host H] [--port N]`: runs the API until SIGTERM."""

import argparse
import sys

from api.app import create_app
from api.server import serve
from schemas.logs import start_logging
from schemas.settings import SettingsMissing, settings


def main() -> None:
    """Serves, or says which setting is missing."""
    parser = argparse.ArgumentParser(prog="api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    start_logging("api")
    try:
        app = create_app(settings())
    except SettingsMissing as error:
        sys.exit(str(error))
    serve(
        app,
        host=arguments.host,
        port=arguments.port,
        trusted_proxies=settings().trusted_proxies,
        head_seconds=settings().stint_head_seconds,
    )


main()

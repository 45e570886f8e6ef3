"""`python -m api [--host H] [--port N]`: runs the API until SIGTERM."""

import argparse
import sys

from api.app import create_app
from api.http.server import serve
from schemas.logs import configure_logging
from schemas.settings import SettingsMissing, settings


def main() -> None:
    """Serves, or exits with the names of the missing settings."""
    parser = argparse.ArgumentParser(prog="api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    configure_logging("api")
    try:
        known = settings()
        app = create_app(known)
    except SettingsMissing as error:
        sys.exit(str(error))
    serve(
        app,
        host=arguments.host,
        port=arguments.port,
        trusted_proxies=known.trusted_proxies,
        head_seconds=known.stint_head_seconds,
        public_url=known.public_url,
    )


main()

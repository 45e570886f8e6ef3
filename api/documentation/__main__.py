"""`python -m api.documentation` prints the OpenAPI document, without a server or a database."""

import json
import sys

from api.app import create_routes
from api.http.openapi import make_document
from schemas.settings import Settings


def document() -> str:
    """The document of /docs/openapi.json."""
    settings = Settings(database_url="postgresql:///", secret_key="0" * 32)
    return json.dumps(make_document(create_routes(settings)).to_schema(), indent=1)


if __name__ == "__main__":
    sys.stdout.write(document() + "\n")

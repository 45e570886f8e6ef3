"""One version everywhere: in the package, the OpenAPI document, and the changelog's newest release."""

import re
import tomllib

from api.http.openapi import openapi_config
from ops.state import CHECKOUT


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert openapi_config().version == version
    releases = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[:2] == ["Unreleased", version]

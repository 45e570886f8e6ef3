"""Libraries with known holes stay above the version that closed them: in what is installed, in the lock, and in what
pyproject.toml would let somebody else install."""

import re
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.installation import CHECKOUT

# the first version without the holes that were known when it was chosen
FLOORS = {"litestar": "2.22", "pyjwt": "2.13", "urllib3": "2.7", "cryptography": "49"}


def locked() -> dict[str, Version]:
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    return {found[1].lower(): Version(found[2]) for line in lines if (found := re.match(r"([\w.-]+)==([\w.]+)", line))}


def required() -> list[Requirement]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"]]


def lowest(requirement: Requirement) -> Version:
    return max(Version(part.version) for part in requirement.specifier if part.operator in (">=", "==", "~="))


@pytest.mark.parametrize("name", FLOORS)
def test_no_library_is_older_than_the_fix_of_its_known_holes(name: str) -> None:
    floor = Version(FLOORS[name])
    assert locked()[name] >= floor
    assert Version(version(name)) >= floor
    [asked] = [requirement for requirement in required() if requirement.name.lower() == name]
    assert lowest(asked) >= floor, f"pyproject.toml would take {asked}"


def test_what_is_installed_is_what_the_lock_names() -> None:
    assert {name: Version(version(name)) for name in FLOORS} == {name: locked()[name] for name in FLOORS}

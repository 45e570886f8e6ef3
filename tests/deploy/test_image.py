"""The Dockerfile: its packages are those that Stint uses, and not those of its tests."""

import re
import tomllib
from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.installation import CHECKOUT

DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def names_needed(requirements: list[str]) -> set[str]:
    """The packages that these requirements install here, with all that those need."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wants = waiting.pop()
        key = (canonicalize_name(wants.name), frozenset(wants.extras))
        if key[0] == "stint" or key in seen:
            continue
        seen.add(key)
        for text in distribution(wants.name).requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *wants.extras}):
                waiting.append(needed)
    return {name for name, _ in seen}


def test_the_image_lacks_what_only_tests_use_and_nothing_else() -> None:
    extras = PROJECT["optional-dependencies"]
    used = names_needed(PROJECT["dependencies"] + extras["cognito"])
    only_tests = names_needed(extras["dev"]) - used
    [words] = re.findall(r" uninstall --yes --quiet \\\n((?:.*\\\n)*.*\n)", DOCKERFILE)
    assert set(words.replace("\\", " ").split()) == only_tests


def test_both_stages_have_the_same_base_which_can_be_chosen() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]


def test_the_services_of_aws_that_stint_calls_are_kept() -> None:
    [kept] = re.findall(r"botocore/data .*\\\n(.*) -exec rm", DOCKERFILE)
    sources = [path.read_text() for folder in ("api", "actors", "ops", "schemas") for path in (CHECKOUT / folder).rglob("*.py")]
    called = {service for source in sources for service in re.findall(r'boto3\.client\(\s*"([a-z0-9-]+)"', source)}
    assert len(called) == 2 and called < set(re.findall(r"! -name (\S+)", kept))


def test_the_programs_of_postgres_that_commands_run_are_kept() -> None:
    kept = set(re.findall(r"! -path '\*/bin/(\w+)'", DOCKERFILE))
    sources = [path.read_text() for path in (CHECKOUT / "ops/backup").glob("*.py")]
    assert kept == {name for source in sources for name in re.findall(r'run_program\(\s*"(\w+)"', source)}


def test_what_the_dockerfiles_copy_is_let_in() -> None:
    """.dockerignore leaves out all else, so that no secret or state of the checkout gets into an image."""
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    files = [DOCKERFILE, (CHECKOUT / "ops/deploy/sbom.Dockerfile").read_text()]
    assert {name for text in files for name in re.findall(r"^COPY (?!--)(\S+) ", text, re.MULTILINE)} == let_in
    assert "*" in lines and all((CHECKOUT / name).exists() for name in let_in)

"""Dockerfile, compose.yaml and the manifests, checked by hadolint, by the schema of Compose's specification and by those of
Kubernetes. Each check finds a fault that is put in."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT
from tests.support.locked_packages import directory_of

LOCK = CHECKOUT / "requirements-deploy.lock"
MANIFESTS = CHECKOUT / "ops" / "deploy" / "kubernetes"
COMPOSE = CHECKOUT / "compose.yaml"
# the earliest and the latest that the guide says
KUBERNETES = ("1.29", "1.37")

pytestmark = pytest.mark.processes


@cache
def tools() -> Path:
    return directory_of(LOCK, "deploy")


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tools() / "bin" / "hadolint", "--no-color", "-"], input=text, capture_output=True, text=True)


def python(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tools())}
    return subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True)


def compose_errors(*paths: Path) -> subprocess.CompletedProcess[str]:
    return python("check_jsonschema", "--builtin-schema", "vendor.compose-spec", *paths)


def manifest_errors(version: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    return python("kubernetes_validate", "--strict", "--kubernetes-version", version, *paths)


def changed(path: Path, text: str, becomes: str, directory: Path) -> Path:
    """A copy with a fault."""
    original = path.read_text()
    assert text in original
    copy = directory / path.name
    copy.write_text(original.replace(text, becomes))
    return copy


@pytest.mark.parametrize("path", ["Dockerfile", "ops/deploy/sbom.Dockerfile"])
def test_hadolint_finds_nothing(path: str) -> None:
    found = hadolint((CHECKOUT / path).read_text())
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_finds_an_image_that_runs_as_root() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    assert "USER 10001" in text
    found = hadolint(text.replace("USER 10001", "USER root"))
    assert found.returncode == 1 and "DL3002" in found.stdout


def test_compose_yaml_has_the_shape_of_its_specification(tmp_path: Path) -> None:
    wrong = changed(COMPOSE, "mem_limit: 512m", "memlimit: 512m", tmp_path)
    found = compose_errors(COMPOSE, wrong)
    assert found.returncode == 1 and "'memlimit' was unexpected" in found.stdout
    assert f"{wrong}::" in found.stdout and f"{COMPOSE}::" not in found.stdout, found.stdout


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifests_have_the_shapes_of_kubernetes(version: str, tmp_path: Path) -> None:
    paths = sorted(path for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml")
    assert len(paths) > 5
    wrong = changed(MANIFESTS / "api.yaml", "containerPort:", "containerport:", tmp_path)
    found = manifest_errors(version, *paths, wrong)
    assert found.returncode == 1, found.stdout + found.stderr
    [error] = [line for line in found.stdout.splitlines() if not line.startswith("INFO ")]
    assert error.startswith(f"ERROR {wrong} did not validate for resource deployment/stint-api against"), error
    assert [path for path in paths if f"INFO {path} passed for resource" not in found.stdout] == []

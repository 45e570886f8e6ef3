"""The manifests of ops/deploy/kubernetes: they name what exists in Stint and in each other. No cluster is needed.
tests/deploy/test_schemas.py compares them with Kubernetes' own schemas."""

import re
from typing import Any

import pytest
import yaml

from ops import cli, secret_files
from ops.up.up import _WORKERS
from schemas.messages import QUEUES
from schemas.settings import Settings
from tests.support.installation import CHECKOUT

DIRECTORY = CHECKOUT / "ops" / "deploy" / "kubernetes"
NAME = "app.kubernetes.io/name"


def manifests(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DIRECTORY / file).read_text()))


KUSTOMIZATION = manifests("kustomization.yaml")[0]
ALL = [found for file in KUSTOMIZATION["resources"] for found in manifests(file)]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in ALL if found["kind"] == kind}


PODS = {name: found["spec"]["template"] for kind in ("Deployment", "Job") for name, found in of_kind(kind).items()}


def container(name: str) -> dict[str, Any]:
    [only] = PODS[name]["spec"]["containers"]
    return dict(only)


def test_all_files_are_applied_but_the_example_of_a_secret() -> None:
    files = {path.name for path in DIRECTORY.iterdir()}
    assert files == {"kustomization.yaml", "secret.example.yaml", *KUSTOMIZATION["resources"]}


def test_they_start_the_parts_of_up_with_commands_that_exist() -> None:
    parts, queues = set(), []
    for name in PODS:
        python, m, module, *words = container(name)["command"]
        assert (python, m, module) == ("python", "-m", "ops.cli")
        args = cli._parser().parse_args(words)
        parts.add(words[0])
        queues += [args.queues] if words[0] == "work" else []
    assert parts == {"api", "relay", "work", "migrate"} and sorted(queues) == sorted(_WORKERS.values())


def test_settings_and_secrets_exist() -> None:
    [settings] = of_kind("ConfigMap").values()
    [secret] = manifests("secret.example.yaml")
    files = {name: value for name, value in settings["data"].items() if name.endswith("_FILE") and name != "STINT_ALIVE_FILE"}
    assert {name.removesuffix("_FILE") for name in files} <= set(secret_files.NAMES)
    others = set(settings["data"]) - set(files) - {"STINT_ALIVE_FILE"}
    assert {name.lower() for name in others} - set(Settings.model_fields) == set()
    [port] = of_kind("Service")["stint-api"]["spec"]["ports"]
    assert settings["data"]["STINT_URL"] == "http://stint-api" and port["port"] == 80
    assert {file.rpartition("/")[2] for file in files.values()} == set(secret["stringData"])
    for name in PODS:
        mounts = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
        assert all(file.startswith(f"{mounts['secrets']}/") for file in files.values())
        assert settings["data"]["STINT_ALIVE_FILE"].startswith(f"{mounts['tmp']}/")
        volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
        assert volumes["secrets"]["secret"]["secretName"] == secret["metadata"]["name"]
        assert container(name)["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


@pytest.mark.parametrize("name", PODS)
def test_pods_are_confined(name: str) -> None:
    """As Kubernetes' standard `restricted` demands, with a root file system that cannot be written to."""
    pod, only = PODS[name]["spec"], container(name)
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"} and not pod["automountServiceAccountToken"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert only["resources"]["limits"]["memory"] and only["resources"]["requests"]["cpu"]
    assert only["image"] == KUSTOMIZATION["images"][0]["name"]


def test_an_outage_of_postgres_restarts_nothing() -> None:
    [settings] = of_kind("ConfigMap").values()
    for name in of_kind("Deployment"):
        only = container(name)
        probes = [only[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe") if probe in only]
        asked = {probe["httpGet"]["path"] for probe in probes if "httpGet" in probe}
        if name == "stint-api":
            assert asked == {"/health/live", "/health/ready"}
            assert only["livenessProbe"]["httpGet"]["path"] == "/health/live"
        else:
            assert all(settings["data"]["STINT_ALIVE_FILE"] in str(probe["exec"]["command"]) for probe in probes) and probes


def test_selectors_find_their_pods() -> None:
    labels = {name: template["metadata"]["labels"] for name, template in PODS.items()}
    deployments = of_kind("Deployment")
    for name, deployment in deployments.items():
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    budgets = {found["spec"]["selector"]["matchLabels"][NAME] for found in of_kind("PodDisruptionBudget").values()}
    assert budgets == set(deployments)
    for found in of_kind("Service").values():
        assert found["spec"]["selector"][NAME] in deployments
    for found in of_kind("NetworkPolicy").values():
        assert any(found["spec"]["podSelector"]["matchLabels"].items() <= label.items() for label in labels.values())


def test_workers_are_scaled_by_a_metric_that_exists() -> None:
    metrics = (CHECKOUT / "docs" / "operations.md").read_text()
    scaled = of_kind("HorizontalPodAutoscaler")
    for found in scaled.values():
        target = found["spec"]["scaleTargetRef"]["name"]
        assert "replicas" not in of_kind("Deployment")[target]["spec"], "each apply would reset the number"
        for metric in found["spec"]["metrics"]:
            if metric["type"] == "External":
                external = metric["external"]["metric"]
                assert f"`{external['name']}{{queue}}`" in metrics
                queue = external["selector"]["matchLabels"]["queue"]
                assert queue in QUEUES and re.search(rf"--queues, \S*{queue}", (DIRECTORY / "workers.yaml").read_text())
    assert {"stint-api", "stint-work-timers", "stint-work-bills"} == set(scaled)

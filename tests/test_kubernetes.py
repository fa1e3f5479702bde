"""deploy/kubernetes, rendered by kustomize, fits the schemas of Kubernetes and agrees with the code. No cluster is asked."""

import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service import settings
from service.api.endpoints import Endpoints
from service.api.feedback import FeedbackApi
from service.api.similar import SimilarApi
from service.settings import Settings
from service.telemetry import metrics
from tests.containers import REPOSITORY

FOLDER = REPOSITORY / "deploy/kubernetes"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))
SCHEMAS = "1.37"  # of Kubernetes
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
NAMES = {settings.PREFIX + field.upper() for field in Settings.__struct_fields__}
OWN = {"keda.sh/v1alpha1": "ScaledObject", "monitoring.coreos.com/v1": "ServiceMonitor"}  # of operators, without a schema here
Document = dict[str, Any]


def kustomize() -> list[str]:
    """The command that renders: kubectl of the group dev, else that of the machine."""
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl renders the overlays")
    return [found, "kustomize"]


@cache
def rendered(overlay: str) -> list[Document]:
    done = subprocess.run([*kustomize(), FOLDER / "overlays" / overlay], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(overlay: str, kind: str, name: str = "hubel") -> Document:
    (found,) = [doc for doc in rendered(overlay) if doc["kind"] == kind and doc["metadata"]["name"].startswith(name)]
    return found


def pod(overlay: str) -> Document:
    return one(overlay, "Deployment")["spec"]["template"]["spec"]


def service(overlay: str) -> Document:
    (found,) = pod(overlay)["containers"]
    return found


def environment(overlay: str) -> dict[str, str]:
    (source,) = service(overlay)["envFrom"]
    return one(overlay, "ConfigMap", source["configMapRef"]["name"])["data"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_fits_its_schema_with_no_field_that_it_lacks(overlay: str) -> None:
    documents = rendered(overlay)
    assert {"Deployment", "Service", "PodDisruptionBudget", "ServiceAccount"} <= {doc["kind"] for doc in documents}
    for document in documents:
        if document["apiVersion"] not in OWN:
            kubernetes_validate.validate(document, SCHEMAS, strict=True)


def test_a_field_that_does_not_exist_is_found() -> None:
    wrong = one("cpu", "Service") | {"sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, SCHEMAS, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_pod_needs_is_there_or_a_secret_that_the_document_tells_to_make(overlay: str) -> None:
    claims = {doc["metadata"]["name"] for doc in rendered(overlay) if doc["kind"] == "PersistentVolumeClaim"}
    text = (REPOSITORY / "docs/kubernetes.md").read_text()
    mounted = {mount["name"] for mount in service(overlay)["volumeMounts"]}
    for volume in pod(overlay)["volumes"]:
        assert volume["name"] in mounted
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "secret" in volume:
            assert f"secret generic {volume['secret']['secretName']} " in text
    assert mounted == {volume["name"] for volume in pod(overlay)["volumes"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_are_settings_and_go_together(overlay: str) -> None:
    given = environment(overlay)
    assert set(given) <= NAMES
    assert "HUBEL_ALLOW_ANONYMOUS" not in given
    assert settings.read(given).api_keys_file
    files = {mount["mountPath"] for mount in service(overlay)["volumeMounts"]}
    for name in ("HUBEL_API_KEYS_FILE", "HUBEL_FEEDBACK_KEY_FILE"):
        assert str(Path(given[name]).parent) in files
    assert settings.read(given).device == ("cuda" if overlay == "gpu" else "auto")
    assert pod(overlay)["enableServiceLinks"] is False  # the Service hubel would set HUBEL_PORT


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_requests_have_time_to_end_before_a_pod_is_killed(overlay: str) -> None:
    config = settings.read(environment(overlay))
    assert pod(overlay)["terminationGracePeriodSeconds"] > config.drain_ms / 1000 + config.shutdown_seconds
    readiness = service(overlay)["readinessProbe"]
    assert config.drain_ms / 1000 > readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert pod(overlay)["shareProcessNamespace"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_routes_that_need_no_key_on_the_port_of_the_image(overlay: str) -> None:
    unstarted = Endpoints.__new__(Endpoints)
    unstarted.feedback, unstarted.similar = FeedbackApi.__new__(FeedbackApi), SimilarApi.__new__(SimilarApi)
    probes = {name: service(overlay)[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert [probe["path"] for probe in probes.values()] == ["/readyz", "/readyz", "/livez"]
    assert {probe["path"] for probe in probes.values()} <= set(unstarted.routes())
    (port,) = service(overlay)["ports"]
    assert f"HUBEL_PORT={port['containerPort']}" in DOCKERFILE
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    (offered,) = one(overlay, "Service")["spec"]["ports"]
    assert offered["targetPort"] == port["name"]
    liveness = service(overlay)["livenessProbe"]
    patience = liveness["periodSeconds"] * liveness["failureThreshold"]
    assert patience > 2 * settings.read(environment(overlay)).hang_seconds  # the supervisor is first


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_have_no_rights_and_bounds(overlay: str) -> None:
    spec = pod(overlay)
    rights = spec["securityContext"]
    assert f"USER {rights['runAsUser']}:{rights['runAsGroup']}" in DOCKERFILE
    assert rights["runAsNonRoot"]
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
    usual = COMPOSE["services"]["hubel-gpu" if overlay == "gpu" else "hubel"]["mem_limit"]
    assert service(overlay)["resources"]["limits"]["memory"] == re.sub(r".*:-(\d+)g}", r"\1Gi", usual)
    for mount in service(overlay)["volumeMounts"]:
        assert mount["mountPath"] == "/tmp" or mount["readOnly"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_of_this_version(overlay: str) -> None:
    containers = [*pod(overlay)["containers"], *pod(overlay).get("initContainers", [])]
    wanted = "hubel-gpu" if overlay == "gpu" else "hubel"
    assert {container["image"] for container in containers} == {f"{wanted}:{VERSION}"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pods_that_a_service_or_a_budget_selects_are_those_of_the_deployment(overlay: str) -> None:
    labels = one(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert one(overlay, "Service")["spec"]["selector"].items() <= labels
    assert one(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels


def test_a_gpu_is_asked_for_as_it_is_limited_and_no_surge_waits_for_one() -> None:
    resources = service("gpu")["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert one("gpu", "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_replicas_follow_a_gauge_of_the_service() -> None:
    scaled = one("production", "ScaledObject")
    assert (scaled["apiVersion"], scaled["kind"]) in OWN.items()
    spec = scaled["spec"]
    assert set(spec) == {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "advanced", "triggers"}
    assert spec["scaleTargetRef"] == {"name": one("production", "Deployment")["metadata"]["name"]}
    assert 2 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
    gauges = {family.name for m in vars(metrics).values() if isinstance(m, MetricWrapperBase) for family in m.describe()}
    assert set(re.findall(r"hubel_\w+", trigger["metadata"]["query"])) == {"hubel_queue_depth_images"} < gauges
    assert float(trigger["metadata"]["threshold"]) < Settings().max_queue
    assert "replicas" not in one("production", "Deployment")["spec"]


def test_prometheus_finds_the_port_of_the_service_and_its_key() -> None:
    monitor = one("production", "ServiceMonitor")
    assert (monitor["apiVersion"], monitor["kind"]) in OWN.items()
    offered = one("production", "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= offered["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert set(endpoint) == {"port", "path", "interval", "authorization"}
    assert endpoint["port"] == offered["spec"]["ports"][0]["name"]
    secret = endpoint["authorization"]["credentials"]["name"]
    assert f"secret generic {secret} " in (REPOSITORY / "docs/kubernetes.md").read_text()


def test_nothing_goes_out_and_only_what_is_named_comes_in() -> None:
    policy = one("production", "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy.get("egress", []) == []
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http"]
    labels = one("production", "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()

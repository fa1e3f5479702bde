"""Dockerfile, docker-compose.yml and deploy/prometheus agree with the code; and, on request, they run for real."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service import settings
from service.settings import Settings
from service.telemetry import tracing
from tests.containers import REPOSITORY, Project, docker, project, wait_until
from tests.factories import make_image

__all__ = ["project"]
COMPOSE_TEXT = (REPOSITORY / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
EXAMPLE = dict(re.findall(r"^#(\w+)=(.*)$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
NAMES = {settings.PREFIX + field.upper() for field in Settings.__struct_fields__}
SERVICES = ("hubel", "hubel-gpu", "hubel-replica")


@pytest.mark.parametrize("file", ["Dockerfile", "docker-compose.yml", ".env.example"])
def test_every_hubel_variable_in_a_file_is_a_setting(file: str) -> None:
    assert set(re.findall(r"HUBEL_[A-Z_]+", (REPOSITORY / file).read_text())) <= NAMES


@pytest.mark.parametrize("service", SERVICES)
def test_compose_passes_every_setting_but_where_the_service_listens_and_reads(service: str) -> None:
    passed = {name for name in COMPOSE["services"][service]["environment"] if name.startswith(settings.PREFIX)}
    assert passed == NAMES - {"HUBEL_HOST", "HUBEL_PORT", "HUBEL_STORE"}


@pytest.mark.parametrize("service", SERVICES)
def test_compose_passes_variables_of_opentelemetry_as_they_are_to_an_image_that_has_the_exporter(service: str) -> None:
    passed = {name: given for name, given in COMPOSE["services"][service]["environment"].items() if name.startswith("OTEL_")}
    assert {tracing.ENDPOINT, tracing.SAMPLER, tracing.ARGUMENT, "OTEL_SERVICE_NAME"} < set(passed)
    assert set(passed.values()) == {None}
    extra = "serve-gpu" if service == "hubel-gpu" else "serve-cpu"
    assert f"--extra {extra} --extra {tracing.EXTRA} " in (REPOSITORY / "Dockerfile").read_text()


def test_the_example_shows_each_variable_of_compose_and_its_default() -> None:
    read_by_compose = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT)) | set(COMPOSE["services"]["hubel"]["environment"])
    assert set(EXAMPLE) == read_by_compose
    store = {"HUBEL_STORE": str(REPOSITORY / EXAMPLE["HUBEL_STORE"])}
    assert settings.read(EXAMPLE | store) == Settings(allow_anonymous=True)  # as Docker publishes to this machine alone


@pytest.mark.parametrize("service", SERVICES)
def test_what_listens_on_all_addresses_of_its_container_is_published_to_this_machine_or_told_to_let_everyone_in(
    service: str,
) -> None:
    assert "HUBEL_HOST=0.0.0.0" in (REPOSITORY / "Dockerfile").read_text()
    assert COMPOSE["services"][service]["environment"]["HUBEL_ALLOW_ANONYMOUS"] == "${HUBEL_ALLOW_ANONYMOUS:-true}"
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][service].get("ports", []))


def test_every_image_that_others_make_can_be_pinned_by_digest_and_is_the_same_everywhere() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - stages == {"${PYTHON_IMAGE}"}
    assert f"ARG PYTHON_IMAGE={EXAMPLE['PYTHON_IMAGE']}\n" in dockerfile
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert service["build"]["args"]["PYTHON_IMAGE"] == f"${{PYTHON_IMAGE:-{EXAMPLE['PYTHON_IMAGE']}}}"
        else:
            (variable,) = re.findall(r"^\$\{(\w+_IMAGE):-", service["image"])
            assert service["image"] == f"${{{variable}:-{EXAMPLE[variable]}}}"
            assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*$", EXAMPLE[variable]), variable


@pytest.mark.parametrize("service", SERVICES)
def test_a_folder_that_git_holds_empty_is_mounted_for_keys_and_can_only_be_read(service: str) -> None:
    assert "${KEYS_FOLDER:-./deploy/keys}:/app/keys:ro" in COMPOSE["services"][service]["volumes"]
    assert (REPOSITORY / "deploy/keys/.gitignore").read_text() == "*\n!.gitignore\n"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_gives_requests_time_to_end(service: str) -> None:
    seconds = re.fullmatch(r"\$\{STOP_GRACE_PERIOD:-(\d+)s\}", COMPOSE["services"][service]["stop_grace_period"])
    assert seconds is not None
    assert int(seconds[1]) > Settings().drain_ms / 1000 + Settings().shutdown_seconds
    assert EXAMPLE["STOP_GRACE_PERIOD"] == f"{seconds[1]}s"


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_is_confined_and_reached_from_this_machine_alone(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "userns_mode", "devices"} & set(service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for mount in service["tmpfs"]:
        place, _, options = mount.partition(":")
        assert place == "/tmp"
        assert {"noexec", "nosuid", "nodev"} < set(options.split(","))
        assert re.search(r"\bsize=\d+[mg]\b", options)
    assert not any("docker.sock" in volume for volume in service["volumes"])


def test_grafana_shows_files_to_everyone_who_reaches_it_and_lets_nobody_in_who_could_change_something() -> None:
    grafana = COMPOSE["services"]["grafana"]
    assert grafana["profiles"] == COMPOSE["services"]["prometheus"]["profiles"] == ["monitoring"]
    places = {volume.split(":")[1]: REPOSITORY / volume.split(":")[0] for volume in grafana["volumes"]}
    assert all(volume.endswith(":ro") for volume in grafana["volumes"])
    assert all(place.is_dir() for place in places.values())
    environment = grafana["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert not any("PASSWORD" in name for name in environment)
    assert all(environment[f"GF_PATHS_{name}"].startswith("/tmp/") for name in ("DATA", "LOGS", "PLUGINS"))
    (home,) = [places[str(Path(value).parent)] / Path(value).name for value in environment.values() if value.endswith(".json")]
    assert home.is_file()
    (provider,) = yaml.safe_load((REPOSITORY / "deploy/grafana/provisioning/dashboards/hubel.yml").read_text())["providers"]
    assert places[provider["options"]["path"]] == home.parent


def test_prometheus_asks_services_by_names_that_compose_gives_and_grafana_asks_prometheus() -> None:
    text = (REPOSITORY / "deploy/prometheus/prometheus.yml").read_text()
    asked = {name for job in yaml.safe_load(text)["scrape_configs"] for dns in job["dns_sd_configs"] for name in dns["names"]}
    assert asked == {"hubel", "dcgm-exporter"} <= set(COMPOSE["services"])
    source = (REPOSITORY / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    assert "url: http://prometheus:9090\n" in source
    assert f"timeInterval: {yaml.safe_load(text)['global']['scrape_interval']}," in source


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_cannot_write_to_anything_of_this_machine_unless_it_is_told_to(name: str) -> None:
    writable = [volume for volume in COMPOSE["services"][name]["volumes"] if not volume.endswith((":ro", ":${STORE_ACCESS:-ro}"))]
    assert writable == ["${CAPTURE_FOLDER:-kept}:/app/kept"]
    assert EXAMPLE["CAPTURE_FOLDER"] in COMPOSE["volumes"]  # Docker's own


def test_the_images_run_as_a_user_without_rights_and_hold_no_tool_to_install_with() -> None:
    stages = re.split(r"^FROM ", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    bases = {stage.split("\n")[0].rpartition(" AS ")[2]: stage for stage in stages}
    assert "USER 10001:10001" in bases["unprivileged"]
    for target in ("serve", "serve-gpu", "train"):
        parent = bases[target].partition(" AS ")[0]
        assert parent == "unprivileged" or bases[parent].startswith("unprivileged AS ")
        assert "USER" not in bases[target]
        assert "pip" not in bases[target]


@pytest.mark.parametrize("service", SERVICES)
def test_what_signatures_need_is_put_into_an_image_on_request_alone(service: str) -> None:
    assert COMPOSE["services"][service]["build"]["args"]["SIGNING"] == "${SIGNING:-}"
    text = (REPOSITORY / "Dockerfile").read_text()
    targets = {COMPOSE["services"][name]["build"]["target"] for name in SERVICES}
    assert text.count('ARG SIGNING=""') == text.count("${SIGNING:+--extra signing}") == len(targets)


def test_the_images_and_the_verbs_use_the_same_uv() -> None:
    (verbs,) = re.findall(r"^UV_VERSION := (\S+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"uv==(\S+)", (REPOSITORY / "Dockerfile").read_text()) == [verbs]


@pytest.mark.docker
def test_up_serves_a_confined_model_that_prometheus_watches_until_down(project: Project) -> None:
    project.make("up")
    (container,) = project.containers("hubel")

    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{project.url}/v1/classify", content=make_image(color="red")).json()
        assert answer["model"] == "tiny"
        assert answer["results"][0]["label"] == "red"

        def is_scraped() -> bool:
            targets = client.get(f"http://127.0.0.1:{project.values['PROMETHEUS_PORT']}/api/v1/targets").json()
            return [target["health"] for target in targets["data"]["activeTargets"]] == ["up"]

        wait_until(is_scraped, seconds=30)

    assert docker("exec", container, "id", "-u") == "10001"
    assert docker("exec", container, "python", "-c", "import os; print(os.access('/app', os.W_OK))") == "False"
    assert docker("inspect", "-f", "{{.HostConfig.ReadonlyRootfs}}", container) == "true"
    mounts = docker("exec", container, "cat", "/proc/mounts")
    (tmp,) = (line.split()[3] for line in mounts.splitlines() if line.split()[1] == "/tmp")
    assert {"noexec", "nosuid", "nodev"} < set(tmp.split(","))
    status = dict(re.findall(r"^(\w+):\s+(\S+)$", docker("exec", container, "cat", "/proc/1/status"), re.MULTILINE))
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    missing = "import importlib.util; print(importlib.util.find_spec('torch') is None)"
    assert docker("exec", container, "python", "-c", missing) == "True"
    assert docker("exec", container, "sh", "-c", "for tool in cc gcc g++ clang ld make; do command -v $tool || true; done") == ""
    assert int(docker("image", "inspect", "-f", "{{.Size}}", "hubel")) < 700e6

    docker("stop", "-t", "30", container)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
    project.make("down")
    assert project.containers() == []

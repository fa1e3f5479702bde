"""Several replicas behind NGINX: docker-compose.yml and deploy/nginx agree with the code; and, on request, they run for real."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from models.lifecycle import promotion
from models.lifecycle.gate import GateRequest
from service.errors import BodyTooLarge, UnknownPath
from service.http.problems import PROBLEM, Problem
from service.monitoring import feedback_keys
from service.settings import Settings
from tests.containers import CLIENTS, RED, REPOSITORY, Load, Project, docker, project, wait_until
from tests.factories import make_package

__all__ = ["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
NGINX = (REPOSITORY / "deploy/nginx/nginx.conf").read_text()
ASK = """
import http.client, sys
service = http.client.HTTPConnection("127.0.0.1", 3000)
service.request("POST", "/v1/" + sys.argv[1], sys.stdin.buffer.read(), {"content-type": sys.argv[2]})
print(service.getresponse().read().decode())
"""


def test_replicas_have_no_port_of_this_machine_and_the_proxy_has_that_of_the_service() -> None:
    services = COMPOSE["services"]
    assert "ports" not in services["hubel-replica"]
    assert services["nginx"]["ports"] == services["hubel"]["ports"]
    assert services["hubel-replica"]["networks"]["default"]["aliases"] == ["hubel"]
    assert "server hubel:3000 resolve " in NGINX
    assert "HUBEL_PORT=3000" in (REPOSITORY / "Dockerfile").read_text()


def test_all_replicas_sign_answers_with_one_key() -> None:
    replica, maker = COMPOSE["services"]["hubel-replica"], COMPOSE["services"]["feedback-key"]
    assert replica["environment"]["HUBEL_FEEDBACK_KEY_FILE"] == "${HUBEL_FEEDBACK_KEY_FILE:-/app/feedback-key/key}"
    assert "feedback-key:/app/feedback-key:ro" in replica["volumes"]
    assert maker["volumes"] == ["feedback-key:/app/feedback-key"]
    assert replica["depends_on"] == {"feedback-key": {"condition": "service_completed_successfully"}}


def test_the_key_that_is_made_is_one_that_a_service_takes_and_is_made_once(tmp_path: Path) -> None:
    (script,) = COMPOSE["services"]["feedback-key"]["command"]
    script = script.replace("/app/feedback-key", str(tmp_path))
    keys: list[tuple[bytes, ...]] = []
    for _ in range(2):
        subprocess.run(["sh", "-ec", script], check=True, timeout=20, cwd=tmp_path)
        keys.append(feedback_keys.read(tmp_path / "key"))
    assert keys[0] == keys[1]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def filled(folder: Path, **limits: str) -> str:
    """nginx.conf as start.sh fills it."""
    stand_in = folder / "nginx"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    script = (REPOSITORY / "deploy/nginx/start.sh").read_text().replace("/tmp/nginx.conf", str(folder / "nginx.conf"))
    (folder / "start.sh").write_text(script.replace("folder=${0%/*}", f"folder={REPOSITORY / 'deploy/nginx'}"))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"} | limits
    subprocess.run(["sh", folder / "start.sh"], check=True, timeout=20, env=environment)
    return (folder / "nginx.conf").read_text()


def value(directive: str, text: str) -> str:
    (found,) = re.findall(rf"^ *{directive} ([^;]+);", text, re.MULTILINE)
    return found


def test_the_proxy_has_the_limits_of_the_service(tmp_path: Path) -> None:
    usual, config = filled(tmp_path), Settings()
    assert not re.search(r"@[A-Z_]+@", usual)
    assert value("client_max_body_size", usual) == str(config.max_body_bytes)
    assert 0 < int(value("keepalive_timeout", usual).rstrip("s")) < config.keep_alive_seconds
    for patience in ("proxy_read_timeout", "proxy_send_timeout", "client_body_timeout"):
        assert int(value(patience, usual).rstrip("s")) * 1000 > 2 * config.deadline_ms  # of the body, and of the answer
    other = filled(tmp_path, HUBEL_MAX_BODY_BYTES="1000", HUBEL_DEADLINE_MS="60000", HUBEL_KEEP_ALIVE_SECONDS="1")
    assert value("client_max_body_size", other) == "1000"
    assert int(value("proxy_read_timeout", other).rstrip("s")) > 120
    assert value("keepalive_timeout", other) == "1s"
    passed = COMPOSE["services"]["nginx"]["environment"]
    assert set(passed) == set(re.findall(r"HUBEL_[A-Z_]+", (REPOSITORY / "deploy/nginx/start.sh").read_text()))


def test_the_proxy_sends_no_request_twice_and_keeps_no_body() -> None:
    assert value("proxy_next_upstream", NGINX) == "error timeout"
    assert "non_idempotent;" not in NGINX
    assert value("proxy_request_buffering", NGINX) == "off"
    assert value("proxy_max_temp_file_size", NGINX) == "0"


def test_what_the_proxy_says_itself_has_the_form_of_the_service() -> None:
    problems = [json.loads(text) for text in re.findall(r"return \d+ '([^']+)'", NGINX)]
    statuses = [int(status) for status in re.findall(r"return (\d+) '", NGINX)]
    assert [problem["status"] for problem in problems] == statuses
    assert set(value("default_type", NGINX).split()) == {PROBLEM}
    ours = {kind.code: kind for kind in (UnknownPath, BodyTooLarge)}
    for problem in problems:
        assert set(problem) == set(Problem.__struct_fields__)
        assert problem["type"] == f"urn:hubel:error:{problem['code']}"
        if kind := ours.get(problem["code"]):
            assert (problem["status"], problem["title"]) == (kind.status, kind.title)
    assert {problem["code"] for problem in problems} == {*ours, "replica_lost", "replica_late"}


def test_a_replica_that_cannot_be_reached_is_left_out_until_the_list_of_them_is_asked_for_again() -> None:
    (valid,) = re.findall(r"resolver \S+ valid=(\d+)s", NGINX)
    (out,) = re.findall(r"max_fails=1 fail_timeout=(\d+)s;", NGINX)
    assert int(out) > int(valid)


def test_metrics_are_not_published_by_the_proxy() -> None:
    assert re.search(r"location = /metrics \{[^{}]*return 404 ", NGINX)


def during(load: Load, step: Callable[[], object]) -> tuple[float, float]:
    """When a step under load began and ended."""
    load.wait_for(200)
    began = time.monotonic()
    step()
    ended = time.monotonic()
    load.wait_for(500)
    return began, ended


def ask(container: str, path: str, body: bytes, kind: str = "image/jpeg") -> Any:
    """What a replica answers, asked within its container."""
    command = ["docker", "exec", "-i", container, "python", "-c", ASK, path, kind]
    return json.loads(subprocess.run(command, input=body, check=True, capture_output=True, timeout=60).stdout)


@pytest.mark.docker
def test_replicas_lose_what_a_killed_one_had_and_share_the_rest(project: Project) -> None:
    project.make("up", "SERVICE=nginx")
    replicas = project.containers("hubel-replica")
    assert len(replicas) == 3
    port = int(project.values["HUBEL_PORT"])

    answers = [ask(replica, "classify", RED)["results"][0]["answer"] for replica in replicas]
    for replica in replicas:
        told = json.dumps([{"answer": answer, "label": "red"} for answer in answers]).encode()
        results = ask(replica, "feedback", told, "application/json")["results"]
        assert [result.get("right") for result in results] == [True] * 3

    with httpx.Client(base_url=project.url, trust_env=False) as client:
        assert client.get("/metrics").json()["code"] == "unknown_path"
        assert client.post("/v1/classify", content=bytes(Settings().max_body_bytes + 1)).json()["code"] == "body_too_large"
        assert client.get("/v1/info", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"

    with Load(port) as load:
        began, ended = during(load, lambda: docker("kill", replicas[0]))
    lost = load.lost()
    sys.stdout.write(f"killed: {len(lost)} lost of {len(load.answers)}, {CLIENTS} in flight in all\n")
    assert all(answer.status == 502 for answer in lost)
    assert all(answer.began < ended and answer.ended > began for answer in lost)
    assert len(lost) <= CLIENTS

    with Load(port) as load:
        during(load, lambda: docker("start", replicas[0]))
        during(load, lambda: wait_until(lambda: is_healthy(replicas[0]), seconds=60))
    load.tell("started")
    assert load.lost() == []

    with Load(port) as load:
        during(load, lambda: docker("stop", "-t", "30", replicas[1]))
    load.tell("stopped")
    assert load.lost() == []

    make_package(project.store, name="tiny")
    with Load(port) as load:
        during(load, lambda: promotion.promote(project.store, "tiny", 2, GateRequest(), "test"))
        wait_until(lambda: {answer.version for answer in load.answers[-100:]} == {2}, seconds=60)
    load.tell("promoted")
    assert load.lost() == []


def is_healthy(container: str) -> bool:
    return docker("inspect", "-f", "{{.State.Health.Status}}", container) == "healthy"

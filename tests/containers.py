"""A Compose project of its own in a real Docker Engine, for the tests of make test-docker."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.factories import make_image, make_package

REPOSITORY = Path(__file__).parents[1]
CLIENTS = 12
RED = make_image(color="red")


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=120).stdout.strip()


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=300).returncode == 0


def why_not() -> str | None:
    """What stands against building and running the images here; None if nothing does."""
    if os.environ.get("HUBEL_TEST_DOCKER") != "1":
        return "builds images and starts containers: make test-docker"
    if shutil.which("docker") is None or not succeeds("docker", "info"):
        return "no Docker Engine answers"
    example = (REPOSITORY / ".env.example").read_text()
    for image in re.findall(r"^#(?:PYTHON|PROMETHEUS|NGINX)_IMAGE=(\S+)$", example, re.MULTILINE):
        if not (succeeds("docker", "image", "inspect", image) or succeeds("docker", "pull", image)):
            return f"the image {image} cannot be had"
    return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.5)


@dataclass
class Project:
    """``values``: what Compose reads from the environment; ``store``: what the services serve from."""

    values: dict[str, str]
    store: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.values['HUBEL_PORT']}"

    def make(self, verb: str, *variables: str) -> None:
        self._run("make", verb, *variables)

    def train(self, *arguments: str) -> None:
        """A command of the image that trains."""
        new = succeeds("docker", "compose", "version")
        self._run(*(["docker", "compose"] if new else ["docker-compose"]), "run", "--rm", "train", *arguments)

    def _run(self, *command: str) -> None:
        run = subprocess.run(command, cwd=REPOSITORY, env=os.environ | self.values, capture_output=True, text=True, timeout=900)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]

    def containers(self, service: str = "") -> list[str]:
        """Ids of those that run of a service; without one, of all that there are."""
        labels = ["-f", f"label=com.docker.compose.project={self.values['COMPOSE_PROJECT_NAME']}"]
        labels += ["-f", f"label=com.docker.compose.service={service}"] if service else ["-a"]
        return docker("ps", "-q", *labels).split()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """One with free ports and a store with a small model, not started yet. Removed at the end."""
    if reason := why_not():
        pytest.skip(reason)
    store = tmp_path / "store"
    make_package(store, name="tiny")
    values = {
        "COMPOSE_PROJECT_NAME": f"hubel-test-{os.getpid()}",
        "HUBEL_PORT": str(free_port()),
        "PROMETHEUS_PORT": str(free_port()),
        "HUBEL_STORE": str(store),
        "HUBEL_MODEL": "tiny",
    }
    made = Project(values, store)
    try:
        yield made
    finally:
        made.make("down")
        label = f"label=com.docker.compose.project={values['COMPOSE_PROJECT_NAME']}"
        for volume in docker("volume", "ls", "-q", "-f", label).split():
            docker("volume", "rm", volume)


class Answer(NamedTuple):
    """One request, times of time.monotonic. status: 0 where no answer came. version: of the model; 0 where there is none."""

    began: float
    ended: float
    status: int
    version: int


class Load:
    """Clients that ask again as soon as they are answered, each on its own connection."""

    def __init__(self, port: int, clients: int = CLIENTS) -> None:
        self.port = port
        self.answers: list[Answer] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def ask(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            while not self.stopped.is_set():
                began, status, version = time.monotonic(), 0, 0
                try:
                    connection.request("POST", "/v1/classify", RED)
                    response = connection.getresponse()
                    content = json.loads(response.read())
                    status, version = response.status, content.get("version", 0)
                except (OSError, ValueError, http.client.HTTPException):
                    connection.close()
                self.answers.append(Answer(began, time.monotonic(), status, version))

    def lost(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def wait_for(self, more: int) -> None:
        count = len(self.answers) + more
        wait_until(lambda: len(self.answers) >= count, seconds=60)

    def tell(self, step: str) -> None:
        slowest = max(answer.ended - answer.began for answer in self.answers)
        sys.stdout.write(f"{step}: {len(self.lost())} lost of {len(self.answers)}, slowest {slowest:.2f} s\n")

"""Clients of a real service that ask all the time while versions come and go."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import httpx

from tests.client import samples
from tests.factories import make_image
from tests.server import Server

PATIENCE = 60  # seconds that a version may take on a machine that does other work too
TURNED = ("green", "blue", "red")
WORDS = {1: "red", 2: "green", 3: "red", 4: "blue"}  # what each version of the store says to a red picture
RED = make_image(color="red")


class Traffic:
    """Clients that ask again as soon as they are answered; each keeps its connection. answers: version and label of an image,
    one of ``images`` after the other."""

    def __init__(self, server: Server, clients: int = 4, images: Sequence[bytes] = (RED,)) -> None:
        self.server = server
        self.images = images
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(clients)]

    def ask(self) -> None:
        with self.server.client() as client:
            for image in cycle(self.images):
                if self.stopped.is_set():
                    break
                try:
                    self.take(client.post("/v1/classify", content=image))
                except httpx.HTTPError as err:
                    self.failures.append(repr(err))
                time.sleep(0.02)

    def take(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            self.failures.append(response.text)
            return
        answer = response.json()
        assert response.headers["x-model"] == f"{answer['model']}:{answer['version']}"
        self.answers.append((answer["version"], answer["results"][0]["label"]))

    def wait_for(self, version: int) -> None:
        """Until the first answer of a version that none was of before."""
        began, seen = time.monotonic(), len(self.answers)
        while not any(found == version for found, _ in self.answers[seen:]):
            assert time.monotonic() - began < PATIENCE, self.server.output()
            time.sleep(0.02)


@contextmanager
def traffic(server: Server, clients: int = 4, images: Sequence[bytes] = (RED,)) -> Generator[Traffic]:
    """Clients while the block runs; at the end, that none of them failed."""
    made = Traffic(server, clients, images)
    for thread in made.threads:
        thread.start()
    try:
        yield made
    finally:
        made.stopped.set()
        for thread in made.threads:
            thread.join()
    assert made.failures == []


def until(condition: Callable[[], Any], server: Server, every: float = 0.1, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, server.output()
        time.sleep(every)


def versions_served(server: Server, model: str = "tiny") -> list[float]:
    with server.client() as client:
        found = samples(client)
    return [found.get(f'hubel_model_version{{model="{model}",worker="{place}"}}', 0) for place in range(2)]

"""What floods of feedback and of deletions do to a client that classifies, with full rings and a full folder of kept images."""

import hashlib
import http.client
import itertools
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from models.captures import captured
from models.captures.captured import CapturedAnswer
from tests.conftest import Figures, StartServer
from tests.hostile.siege import siege

pytestmark = [pytest.mark.server, pytest.mark.long]

JSON = {"content-type": "application/json"}
IMAGES, ANSWERS = 4000, 5
NEXT = itertools.count()


def send(port: int, going: Callable[[], bool], method: str, path: Callable[[], str], body: Callable[[], bytes]) -> None:
    """One request after another on one connection, whatever the answers say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while going():
        connection.request(method, path(), body() or None, JSON)
        connection.getresponse().read()
    connection.close()


def unknown_feedback(port: int, going: Callable[[], bool]) -> None:
    def body() -> bytes:
        return json.dumps([{"id": uuid.uuid4().hex, "wrong": True} for _ in range(100)]).encode()

    send(port, going, "POST", lambda: "/v1/feedback", body)


def known_feedback(port: int, going: Callable[[], bool]) -> None:
    """On what the folder remembers, right and wrong by turns, so that it is noted each time."""

    def body() -> bytes:
        return json.dumps([{"id": f"r{i}x0", "wrong": next(NEXT) % 2 == 0} for i in range(100)]).encode()

    send(port, going, "POST", lambda: "/v1/feedback", body)


def deep_feedback(port: int, going: Callable[[], bool]) -> None:
    send(port, going, "POST", lambda: "/v1/feedback", lambda: b'{"id": "r", "x": ' + b"[" * 200_000)


def unknown_deletions(port: int, going: Callable[[], bool]) -> None:
    send(port, going, "DELETE", lambda: f"/v1/feedback/{uuid.uuid4().hex}", lambda: b"")


def known_deletions(port: int, going: Callable[[], bool]) -> None:
    def path() -> str:
        k = next(NEXT)
        return f"/v1/feedback/r{k % IMAGES}x{k // IMAGES % ANSWERS}"

    send(port, going, "DELETE", path, lambda: b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    captured.prepare(folder := tmp_path / "kept")
    for i in range(IMAGES):
        image = hashlib.sha256(b"%d" % i).hexdigest() + ".jpg"
        (folder / captured.IMAGES / image).write_bytes(bytes(100))
        for j in range(ANSWERS):
            answer = CapturedAnswer(f"r{i}x{j}", 0, "", image, "tiny", 1, "red", 0.5, True, datetime.now(UTC))
            (folder / captured.ANSWERS / f"~r{i}x{j}.0.json").write_bytes(msgspec.json.encode(answer))
    return folder


@pytest.mark.parametrize("clients", [1, 20])
@pytest.mark.parametrize("attack", [unknown_feedback, known_feedback, deep_feedback, unknown_deletions, known_deletions])
def test_who_sends_feedback_or_deletions_slows_nobody_else(
    start_server: StartServer, folder: Path, figures: Figures, attack: Callable[..., None], clients: int
) -> None:
    server = start_server(HUBEL_FEEDBACK_DIR=str(folder), HUBEL_WORKERS="2")
    seen = siege(server, f"tests.hostile.test_siege_feedback:{attack.__name__}", clients=clients)
    figures(seen=seen)
    seen.check()
    server.stop()
    assert len(list((folder / captured.ANSWERS).glob("*" + captured.WITHDRAWN))) <= (10_000 if attack is known_deletions else 0)

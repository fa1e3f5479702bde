"""What floods of feedback and of deletions do to a client that classifies, with a full folder of kept images."""

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
from service.monitoring.answer_token import AnswerTokens
from tests.conftest import Figures, StartServer
from tests.hostile.siege import siege

pytestmark = [pytest.mark.server, pytest.mark.long]

JSON = {"content-type": "application/json"}
IMAGES, ANSWERS = 4000, 5
NEXT = itertools.count()
KEY = "k" * 64
OURS, OTHERS = (AnswerTokens([key.encode()], "tiny", 86_400) for key in (KEY, KEY[::-1] + "x"))


def id_of(i: int, j: int) -> str:
    return f"{i:016x}{j:016x}"


def token(i: int, j: int) -> str:
    return OURS.sign("", id_of(i, j), 0, 1, 0, 0.5, True)


def send(port: int, going: Callable[[], bool], method: str, path: Callable[[], str], body: Callable[[], bytes]) -> None:
    """One request after another on one connection, whatever the answers say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while going():
        connection.request(method, path(), body() or None, JSON)
        connection.getresponse().read()
    connection.close()


def unknown_feedback(port: int, going: Callable[[], bool]) -> None:
    def body() -> bytes:
        return json.dumps(
            [{"answer": OTHERS.sign("", uuid.uuid4().hex, 0, 1, 0, 0.5, False), "wrong": True} for _ in range(100)]
        ).encode()

    send(port, going, "POST", lambda: "/v1/feedback", body)


def known_feedback(port: int, going: Callable[[], bool]) -> None:
    """On what the folder remembers, right and wrong by turns, so that it is noted each time."""

    def body() -> bytes:
        return json.dumps([{"answer": token(i, 0), "wrong": next(NEXT) % 2 == 0} for i in range(100)]).encode()

    send(port, going, "POST", lambda: "/v1/feedback", body)


def deep_feedback(port: int, going: Callable[[], bool]) -> None:
    send(port, going, "POST", lambda: "/v1/feedback", lambda: b'{"answer": "r", "x": ' + b"[" * 200_000)


def unknown_deletions(port: int, going: Callable[[], bool]) -> None:
    send(port, going, "DELETE", lambda: f"/v1/feedback/{OTHERS.sign('', uuid.uuid4().hex, 0, 1, 0, 0.5, False)}", lambda: b"")


def known_deletions(port: int, going: Callable[[], bool]) -> None:
    def path() -> str:
        k = next(NEXT)
        return f"/v1/feedback/{token(k % IMAGES, k // IMAGES % ANSWERS)}"

    send(port, going, "DELETE", path, lambda: b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    captured.prepare(folder := tmp_path / "kept")
    for i in range(IMAGES):
        image = hashlib.sha256(b"%d" % i).hexdigest() + ".jpg"
        (folder / captured.IMAGES / image).write_bytes(bytes(100))
        for j in range(ANSWERS):
            answer = CapturedAnswer(id_of(i, j), 0, "", image, "tiny", 1, "red", 0.5, True, datetime.now(UTC))
            (folder / captured.ANSWERS / f"~{id_of(i, j)}.0.json").write_bytes(msgspec.json.encode(answer))
    return folder


@pytest.mark.parametrize("clients", [1, 20])
@pytest.mark.parametrize("attack", [unknown_feedback, known_feedback, deep_feedback, unknown_deletions, known_deletions])
def test_who_sends_feedback_or_deletions_slows_nobody_else(
    start_server: StartServer, folder: Path, figures: Figures, attack: Callable[..., None], clients: int
) -> None:
    (keys := folder / "keys").write_text(KEY)
    keys.chmod(0o600)
    server = start_server(HUBEL_FEEDBACK_DIR=str(folder), HUBEL_FEEDBACK_KEY_FILE=str(keys), HUBEL_WORKERS="2")
    seen = siege(server, f"tests.hostile.test_siege_feedback:{attack.__name__}", clients=clients)
    figures(seen=seen)
    seen.check()
    server.stop()
    assert len(list((folder / captured.ANSWERS).glob("*" + captured.WITHDRAWN))) <= (10_000 if attack is known_deletions else 0)

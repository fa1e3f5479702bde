"""Feedback with the real service while another process holds its lock, and when the folder of its metrics is gone."""

import fcntl
import shutil
import uuid
from pathlib import Path

import httpx
import pytest

from tests.client import assert_problem
from tests.conftest import StartServer
from tests.factories import make_image
from tests.server import Server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def own(start_server: StartServer, temporary: Path) -> Server:
    return start_server(TMPDIR=str(temporary))


def classify(client: httpx.Client) -> str:
    response = client.post("/v1/classify", content=make_image())
    assert response.status_code == 200
    return response.headers["x-answer-id"]


def tell(client: httpx.Client, answer_id: str) -> httpx.Response:
    return client.post("/v1/feedback", json={"id": answer_id, "wrong": True})


def test_a_lock_that_is_not_given_back_costs_feedback_alone(own: Server, temporary: Path) -> None:
    (lock,) = temporary.glob("hubel-metrics-*/recent.lock")
    with own.client() as client:
        known = classify(client)
        with open(lock, "ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            problem = assert_problem(response := tell(client, known), 503, "overloaded")
            assert response.headers["retry-after"] == "1"
            assert "nothing of this request was taken" in problem["detail"]
            assert_problem(tell(client, uuid.uuid4().hex), 404, "unknown_answer")
            assert client.get("/livez").status_code == 200
            classify(client)
        assert tell(client, known).status_code == 200


def test_feedback_is_taken_and_nothing_fails_when_the_folder_of_the_metrics_is_gone(own: Server, temporary: Path) -> None:
    (folder,) = temporary.glob("hubel-metrics-*")
    with own.client() as client:
        known = classify(client)
        folder.rename(temporary / "away")
        try:
            assert tell(client, known).status_code == 200
            assert tell(client, classify(client)).status_code == 200
            assert_problem(tell(client, "unknown"), 404, "unknown_answer")
        finally:
            shutil.move(temporary / "away", folder)
    assert "Traceback" not in own.output()

"""Feedback with the real service when the folder of its metrics is gone."""

import shutil
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
    return response.json()["results"][0]["answer"]


def tell(client: httpx.Client, answer: str) -> httpx.Response:
    return client.post("/v1/feedback", json={"answer": answer, "wrong": True})


def test_feedback_is_taken_and_nothing_fails_when_the_folder_of_the_metrics_is_gone(own: Server, temporary: Path) -> None:
    (folder,) = temporary.glob("hubel-metrics-*")
    with own.client() as client:
        known = classify(client)
        folder.rename(temporary / "away")
        try:
            assert tell(client, known).status_code == 200
            assert tell(client, classify(client)).status_code == 200
            assert_problem(tell(client, "unknown"), 400, "invalid_answer")
        finally:
            shutil.move(temporary / "away", folder)
    assert "Traceback" not in own.output()

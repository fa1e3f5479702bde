"""Feedback, kept images and drift with the real service: two workers, kill -9, another start."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models import kept, reference, registry
from models import manifest as manifests
from tests.client import assert_problem, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import make_files, make_image, make_manifest
from tests.server import Server

pytestmark = pytest.mark.server


def ask(client: httpx.Client, image: bytes, **headers: str) -> tuple[str, dict[str, Any]]:
    """An image classified, on a connection of its own so that any worker may answer: its request id and result."""
    response = client.post("/v1/classify", content=image, headers={"connection": "close", **headers})
    return response.headers["x-request-id"], results_of(response)[0]


def tell(client: httpx.Client, *feedback: dict[str, Any]) -> httpx.Response:
    body = feedback[0] if len(feedback) == 1 else list(feedback)
    return client.post("/v1/feedback", json=body, headers={"connection": "close"})


def wait_for(what: Callable[[], Any], seconds: float = 10) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < until:
        time.sleep(0.02)
    assert found
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "kept"


@pytest.fixture(scope="module")
def keeping(start_server: StartServer, folder: Path) -> Server:
    """Two workers that keep all images."""
    return start_server(HUBEL_WORKERS="2", HUBEL_FEEDBACK_DIR=str(folder), HUBEL_FEEDBACK_SHARE="1")


def test_feedback_on_an_answer_of_any_worker_is_counted_by_version(keeping: Server) -> None:
    with keeping.client() as client:
        before = samples(client)
        asked = [ask(client, make_image(color=color)) for color in ("red", "green", "blue") * 8]
        for i, (request_id, result) in enumerate(asked):
            label = result["label"] if i % 4 else "red" if result["label"] != "red" else "blue"
            (found,) = tell(client, {"request_id": request_id, "label": label}).json()["results"]
            assert found == {
                "request_id": request_id,
                "index": 0,
                "model": "tiny",
                "version": 1,
                "label": result["label"],
                "right": bool(i % 4),
            }
        after = samples(client)
    names = [f'hubel_feedback_total{{right="{right}",version="1"}}' for right in ("true", "false")]
    assert [after[name] - before.get(name, 0) for name in names] == [18, 6]


def test_of_several_feedbacks_in_a_request_a_bad_one_fails_alone(keeping: Server) -> None:
    with keeping.client() as client:
        response = send(client, "/v1/top-k", [make_image(color="red"), b"no image", make_image(color="blue")])
        request_id = response.headers["x-request-id"]
        told = tell(
            client,
            {"request_id": request_id, "index": 2, "label": "blue"},
            {"request_id": request_id, "index": 1, "label": "blue"},
            {"request_id": request_id, "index": 0, "label": "violet"},
            {"request_id": request_id, "index": 0, "wrong": True},
        ).json()["results"]
    assert [found.get("right", found.get("error", {}).get("code")) for found in told] == [
        True,
        "unknown_answer",
        "invalid_parameter",
        False,
    ]


def test_what_is_no_feedback_on_a_known_answer_is_a_problem(keeping: Server) -> None:
    with keeping.client() as client:
        request_id, _ = ask(client, make_image())
        features = send(client, "/v1/features", [make_image()], "raw").headers["x-request-id"]
        assert_problem(tell(client, {"request_id": "unknown", "wrong": True}), 404, "unknown_answer")
        assert_problem(tell(client, {"request_id": features, "wrong": True}), 404, "unknown_answer")
        problem = assert_problem(tell(client, {"request_id": request_id, "label": "cat"}), 422, "invalid_parameter")
        assert "tiny:1 knows red, green, blue" in problem["detail"]
        assert_problem(tell(client, {"request_id": request_id}), 400, "malformed_request")
        for kind in ({}, {"content-type": "text/plain"}, {"content-type": "image/jpeg"}):
            problem = assert_problem(client.post("/v1/feedback", content=b"{}", headers=kind), 415, "unsupported_media_type")
            assert problem["detail"].endswith("feedback is sent as application/json")
        problem = assert_problem(tell(client, *[{"request_id": "x" * 10**6, "wrong": True}] * 34), 413, "body_too_large")
        assert problem["detail"].endswith("262144 bytes, the limit for feedback; send fewer feedbacks in one request")
        assert_problem(client.get("/v1/feedback"), 405, "wrong_method")
        assert_problem(client.get("/v1/feedback/abc"), 405, "wrong_method")
        assert_problem(client.delete("/v1/feedback/"), 404, "unknown_path")
        assert_problem(client.delete("/v1/feedback/a/b"), 404, "unknown_path")


def test_answers_outlive_the_worker_that_gave_them(keeping: Server) -> None:
    with keeping.client() as client:
        asked = [ask(client, make_image(color="red", seed=i)) for i in range(12)]
        workers = keeping.processes()[1:]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(keeping.processes()[1:]) - set(workers)) == 2)
        for request_id, result in asked:
            (found,) = tell(client, {"request_id": request_id, "label": "red"}).json()["results"]
            assert found["label"] == result["label"]


def test_an_image_is_kept_as_it_came_with_what_was_answered_and_said(keeping: Server, folder: Path) -> None:
    image = make_image("WEBP", color="green", seed=77)
    with keeping.client() as client:
        request_id, result = ask(client, image, **{"x-request-id": "mine.1"})
        tell(client, {"request_id": request_id, "label": "blue"})
        path = kept.answer_path(folder, "", "mine.1", 0)
        found = wait_for(lambda: (answer := kept.read_answer(path)) and answer.given_at and answer)
        assert (found.label, found.given, found.right) == (result["label"], "blue", False)
        assert (found.model, found.version, found.unsure) == ("tiny", 1, result["unsure"])
        assert (folder / kept.IMAGES / found.image).read_bytes() == image

        again, _ = ask(client, image)
        other = wait_for(lambda: kept.read_answer(kept.answer_path(folder, "", again, 0)))
        assert other.image == found.image
        assert client.delete("/v1/feedback/mine.1").json() == {"request_id": "mine.1", "deleted": 1}
        assert_problem(client.delete("/v1/feedback/mine.1"), 404, "unknown_answer")
        assert (folder / kept.IMAGES / found.image).is_file()
        assert client.delete(f"/v1/feedback/{again}").status_code == 200
        assert not (folder / kept.IMAGES / found.image).exists()


def test_without_a_folder_nothing_is_kept_and_feedback_is_taken_all_the_same(client: httpx.Client) -> None:
    request_id, result = ask(client, make_image())
    assert tell(client, {"request_id": request_id, "label": result["label"]}).status_code == 200
    assert_problem(client.delete(f"/v1/feedback/{request_id}"), 404, "unknown_answer")


@pytest.fixture(scope="module")
def known_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny:1 with a reference of red pictures, 200 times as many as are compared."""
    root = tmp_path_factory.mktemp("known")
    (files := root / "files").mkdir()
    draft = make_manifest()
    make_files(files, draft)
    n, rng = 1000, np.random.default_rng(0)
    made = reference.make(
        answers=np.zeros(n, np.int64),
        confidence=np.full(n, 0.97),
        classes=3,
        features=rng.normal(size=(n, 4)).astype(np.float32),
        brightness=rng.normal(100, 10, n),
        sharpness=rng.normal(1, 0.1, n),
        size=np.full(n, 40.0),
    )
    reference.write(files / reference.FILE, made)
    assert manifests.MODEL in registry.publish(root / "store", files, draft).files
    return root / "store"


def test_traffic_unlike_the_reference_raises_the_gauges_of_drift(
    start_server: StartServer, known_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(known_store)
    with server.client() as client:
        send(client, "/v1/classify", [make_image(color="blue")], "raw")
        time.sleep(1.5)  # the version is known now
        images = [make_image("PNG", 20, 20, color="blue", seed=i) for i in range(25)]
        for _ in range(10):
            results_of(send(client, "/v1/classify", images))
        found = wait_for(lambda: (s := samples(client)) and 'hubel_drift_stability{of="classes",version="1"}' in s and s)
    assert found['hubel_drift_answers{version="1"}'] == 251
    assert found['hubel_drift_stability{of="classes",version="1"}'] > 0.25

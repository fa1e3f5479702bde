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

from models.captures import captured
from models.package import drift_reference
from models.package import manifest as manifests
from models.registry import registry
from tests.client import assert_problem, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import LABELS, make_files, make_image, make_manifest
from tests.server import Server
from training.review.collect import collect

pytestmark = pytest.mark.server


def ask(client: httpx.Client, image: bytes, **headers: str) -> tuple[str, dict[str, Any]]:
    """An image classified, on a connection of its own so that any worker may answer: its id and result."""
    response = client.post("/v1/classify", content=image, headers={"connection": "close", **headers})
    return response.headers["x-answer-id"], results_of(response)[0]


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
        for i, (answer_id, result) in enumerate(asked):
            label = result["label"] if i % 4 else "red" if result["label"] != "red" else "blue"
            (found,) = tell(client, {"id": answer_id, "label": label}).json()["results"]
            assert found == {
                "id": answer_id,
                "index": 0,
                "model": "tiny",
                "version": 1,
                "label": result["label"],
                "right": bool(i % 4),
            }
        after = samples(client)
    names = [f'hubel_feedback_total{{model="tiny",right="{right}",version="1"}}' for right in ("true", "false")]
    assert [after[name] - before.get(name, 0) for name in names] == [18, 6]


def test_of_several_feedbacks_in_a_request_a_bad_one_fails_alone(keeping: Server) -> None:
    with keeping.client() as client:
        response = send(client, "/v1/top-k", [make_image(color="red"), b"no image", make_image(color="blue")])
        answer_id = response.headers["x-answer-id"]
        told = tell(
            client,
            {"id": answer_id, "index": 2, "label": "blue"},
            {"id": answer_id, "index": 1, "label": "blue"},
            {"id": answer_id, "index": 0, "label": "violet"},
            {"id": answer_id, "index": 0, "wrong": True},
        ).json()["results"]
    assert [found.get("right", found.get("error", {}).get("code")) for found in told] == [
        True,
        "unknown_answer",
        "invalid_parameter",
        False,
    ]


def test_what_is_no_feedback_on_a_known_answer_is_a_problem(keeping: Server) -> None:
    with keeping.client() as client:
        answer_id, _ = ask(client, make_image())
        features = send(client, "/v1/features", [make_image()], "raw").headers["x-answer-id"]
        assert_problem(tell(client, {"id": "unknown", "wrong": True}), 404, "unknown_answer")
        assert_problem(tell(client, {"id": features, "wrong": True}), 404, "unknown_answer")
        problem = assert_problem(tell(client, {"id": answer_id, "label": "cat"}), 422, "invalid_parameter")
        assert "tiny:1 knows red, green, blue" in problem["detail"]
        assert_problem(tell(client, {"id": answer_id}), 400, "malformed_request")
        for kind in ({}, {"content-type": "text/plain"}, {"content-type": "image/jpeg"}):
            problem = assert_problem(client.post("/v1/feedback", content=b"{}", headers=kind), 415, "unsupported_media_type")
            assert problem["detail"].endswith("feedback is sent as application/json")
        problem = assert_problem(tell(client, *[{"id": "x" * 10**6, "wrong": True}] * 34), 413, "body_too_large")
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
        for answer_id, result in asked:
            (found,) = tell(client, {"id": answer_id, "label": "red"}).json()["results"]
            assert found["label"] == result["label"]


def test_an_image_is_kept_as_it_came_with_what_was_answered_and_said(keeping: Server, folder: Path) -> None:
    image = make_image("WEBP", color="green", seed=77)
    with keeping.client() as client:
        answer_id, result = ask(client, image)
        tell(client, {"id": answer_id, "label": "blue"})
        path = captured.answer_path(folder, "", answer_id, 0)
        found = wait_for(lambda: (answer := captured.read_answer(path)) and answer.given_at and answer)
        assert (found.label, found.given, found.right) == (result["label"], "blue", False)
        assert (found.model, found.version, found.unsure) == ("tiny", 1, result["unsure"])
        assert (folder / captured.IMAGES / found.image).read_bytes() == image

        again, _ = ask(client, image)
        other = wait_for(lambda: captured.read_answer(captured.answer_path(folder, "", again, 0)))
        assert other.image == found.image
        assert client.delete(f"/v1/feedback/{answer_id}").json() == {"id": answer_id, "deleted": 1}
        assert_problem(client.delete(f"/v1/feedback/{answer_id}"), 404, "unknown_answer")
        assert (folder / captured.IMAGES / found.image).is_file()
        assert client.delete(f"/v1/feedback/{again}").status_code == 200
        assert not (folder / captured.IMAGES / found.image).exists()


def test_of_a_thousand_requests_with_one_request_id_each_label_lands_on_its_own_picture(keeping: Server, folder: Path) -> None:
    images = [make_image("PNG", 12, 12, color=LABELS[i % 3], seed=i) for i in range(1000)]
    right = {captured.image_name(image): LABELS[(i // 3) % 3] for i, image in enumerate(images)}
    assert len(right) == 1000

    def found() -> dict[str, str | None]:
        return {case.path.name: case.label for case in collect(folder) if case.path.name in right}

    with keeping.client() as client:
        ids = [ask(client, image, **{"x-request-id": "of-the-mesh"})[0] for image in images]
        for begin in range(0, 1000, 100):
            pairs = list(zip(ids, right.values(), strict=True))[begin : begin + 100]
            told = tell(client, *({"id": name, "label": label} for name, label in pairs)).json()["results"]
            assert [result["id"] for result in told] == ids[begin : begin + 100]
        wait_for(lambda: found() == right, seconds=20)

        for i in (0, 500, 999):
            before = {path.name for path in (folder / captured.IMAGES).iterdir()}
            assert client.delete(f"/v1/feedback/{ids[i]}").json() == {"id": ids[i], "deleted": 1}
            assert before - {path.name for path in (folder / captured.IMAGES).iterdir()} == {captured.image_name(images[i])}
            del right[captured.image_name(images[i])]
            assert found() == right

        for problem in (
            assert_problem(tell(client, {"request_id": "of-the-mesh", "label": "red"}), 404, "unknown_answer"),
            assert_problem(client.delete("/v1/feedback/of-the-mesh"), 404, "unknown_answer"),
        ):
            assert "not by an X-Request-ID that was sent" in problem["detail"]


def test_an_answer_s_id_stands_in_it_and_is_the_request_id_where_the_client_sent_none(client: httpx.Client) -> None:
    for path in ("/v1/classify", "/v1/top-k", "/v1/features"):
        own = send(client, path, [make_image()], "raw")
        assert own.json()["id"] == own.headers["x-answer-id"] == own.headers["x-request-id"]
        other = client.post(path, content=make_image(), headers={"x-request-id": own.json()["id"]})
        assert other.headers["x-request-id"] == own.json()["id"]
        assert other.json()["id"] == other.headers["x-answer-id"] != own.json()["id"]
    answer = send(client, "/v1/classify", [make_image(color="red")], "raw")
    told = tell(client, {"request_id": answer.headers["x-request-id"], "label": "red"}).json()["results"]
    assert (told[0]["id"], told[0]["right"]) == (answer.json()["id"], True)


def test_without_a_folder_nothing_is_kept_and_feedback_is_taken_all_the_same(client: httpx.Client) -> None:
    answer_id, result = ask(client, make_image())
    assert tell(client, {"id": answer_id, "label": result["label"]}).status_code == 200
    assert_problem(client.delete(f"/v1/feedback/{answer_id}"), 404, "unknown_answer")


@pytest.fixture(scope="module")
def known_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny:1 with a reference of red pictures, 200 times as many as are compared."""
    root = tmp_path_factory.mktemp("known")
    (files := root / "files").mkdir()
    draft = make_manifest()
    make_files(files, draft)
    n, rng = 1000, np.random.default_rng(0)
    made = drift_reference.make(
        answers=np.zeros(n, np.int64),
        confidence=np.full(n, 0.97),
        classes=3,
        features=rng.normal(size=(n, 4)).astype(np.float32),
        brightness=rng.normal(100, 10, n),
        sharpness=rng.normal(1, 0.1, n),
        size=np.full(n, 40.0),
    )
    drift_reference.write(files / drift_reference.FILE, made)
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
        psi = 'hubel_drift_psi{feature="classes",model="tiny",version="1"}'
        found = wait_for(lambda: (s := samples(client)) and psi in s and s)
    assert found['hubel_drift_answers{model="tiny",version="1"}'] == 251
    assert found[psi] > 0.25

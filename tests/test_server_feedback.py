"""Feedback, kept images and drift with the real service: two workers, kill -9, another start."""

import os
import signal
import subprocess
import sys
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
from service.monitoring import answer_token
from tests.client import assert_problem, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import LABELS, make_files, make_image, make_manifest, make_package
from tests.server import ROOT, Server, environment
from training.review.collect import collect

pytestmark = pytest.mark.server


def ask(client: httpx.Client, image: bytes, **headers: str) -> tuple[str, dict[str, Any]]:
    """An image classified, on a connection of its own so that any worker may answer: its answer and result."""
    response = client.post("/v1/classify", content=image, headers={"connection": "close", **headers})
    (result,) = results_of(response)
    return result["answer"], result


def id_of(answer: str) -> str:
    """What a kept image of the answer goes by."""
    return answer_token.read_id(answer)


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
        for i, (answer, result) in enumerate(asked):
            label = result["label"] if i % 4 else "red" if result["label"] != "red" else "blue"
            (found,) = tell(client, {"answer": answer, "label": label}).json()["results"]
            assert found == {"model": "tiny", "version": 1, "label": result["label"], "right": bool(i % 4)}
        after = samples(client)
    names = [f'hubel_feedback_total{{model="tiny",right="{right}",version="1"}}' for right in ("true", "false")]
    assert [after[name] - before.get(name, 0) for name in names] == [18, 6]


def test_of_several_feedbacks_in_a_request_a_bad_one_fails_alone(keeping: Server) -> None:
    with keeping.client() as client:
        response = send(client, "/v1/top-k", [make_image(color="red"), b"no image", make_image(color="blue")])
        red, bad, blue = response.json()["results"]
        assert "answer" not in bad
        told = tell(
            client,
            {"answer": blue["answer"], "label": "blue"},
            {"answer": blue["answer"][:-1], "label": "blue"},
            {"answer": red["answer"], "label": "violet"},
            {"answer": red["answer"], "wrong": True},
        ).json()["results"]
    assert [found.get("right", found.get("error", {}).get("code")) for found in told] == [
        True,
        "invalid_answer",
        "invalid_parameter",
        False,
    ]


def test_what_is_no_feedback_on_a_known_answer_is_a_problem(keeping: Server) -> None:
    with keeping.client() as client:
        answer, _ = ask(client, make_image())
        (features,) = results_of(send(client, "/v1/features", [make_image()], "raw"))
        assert list(features) == ["features"]
        assert_problem(tell(client, {"answer": "unknown", "wrong": True}), 400, "invalid_answer")
        problem = assert_problem(tell(client, {"answer": answer, "label": "cat"}), 422, "invalid_parameter")
        assert "tiny:1 knows red, green, blue" in problem["detail"]
        assert_problem(tell(client, {"answer": answer}), 400, "malformed_request")
        for kind in ({}, {"content-type": "text/plain"}, {"content-type": "image/jpeg"}):
            problem = assert_problem(client.post("/v1/feedback", content=b"{}", headers=kind), 415, "unsupported_media_type")
            assert problem["detail"].endswith("feedback is sent as application/json")
        problem = assert_problem(tell(client, *[{"answer": "x" * 10**6, "wrong": True}] * 34), 413, "body_too_large")
        assert problem["detail"].endswith("262144 bytes, the limit for feedback; send fewer feedbacks in one request")
        assert_problem(client.get("/v1/feedback"), 405, "wrong_method")
        assert_problem(client.get("/v1/feedback/abc"), 405, "wrong_method")
        assert_problem(client.delete("/v1/feedback/"), 404, "unknown_path")
        assert_problem(client.delete("/v1/feedback/a/b"), 404, "unknown_path")


def test_answers_outlive_the_worker_that_gave_them(keeping: Server) -> None:
    with keeping.client() as client:
        asked = [ask(client, make_image(color="red", seed=i)) for i in range(12)]
        workers = keeping.workers()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(keeping.workers()) - set(workers)) == 2)
        for answer, result in asked:
            (found,) = tell(client, {"answer": answer, "label": "red"}).json()["results"]
            assert found["label"] == result["label"]


def test_an_image_is_kept_as_it_came_with_what_was_answered_and_said(keeping: Server, folder: Path) -> None:
    image = make_image("WEBP", color="green", seed=77)
    with keeping.client() as client:
        answer, result = ask(client, image)
        tell(client, {"answer": answer, "label": "blue"})
        path = captured.answer_path(folder, "", id_of(answer), 0)
        found = wait_for(lambda: (kept := captured.read_answer(path)) and kept.given_at and kept)
        assert (found.label, found.given, found.right) == (result["label"], "blue", False)
        assert (found.model, found.version, found.unsure) == ("tiny", 1, result["unsure"])
        assert (folder / captured.IMAGES / found.image).read_bytes() == image

        again, _ = ask(client, image)
        other = wait_for(lambda: captured.read_answer(captured.answer_path(folder, "", id_of(again), 0)))
        assert other.image == found.image
        assert client.delete(f"/v1/feedback/{answer}").json() == {"deleted": 1}
        assert_problem(client.delete(f"/v1/feedback/{answer}"), 404, "unknown_answer")
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
        answers = [ask(client, image, **{"x-request-id": "of-the-mesh"})[0] for image in images]
        for begin in range(0, 1000, 100):
            pairs = list(zip(answers, right.values(), strict=True))[begin : begin + 100]
            told = tell(client, *({"answer": answer, "label": label} for answer, label in pairs)).json()["results"]
            assert len(told) == 100
            assert all("label" in result for result in told)
        wait_for(lambda: found() == right, seconds=20)

        for i in (0, 500, 999):
            before = {path.name for path in (folder / captured.IMAGES).iterdir()}
            assert client.delete(f"/v1/feedback/{answers[i]}").json() == {"deleted": 1}
            assert before - {path.name for path in (folder / captured.IMAGES).iterdir()} == {captured.image_name(images[i])}
            del right[captured.image_name(images[i])]
            assert found() == right

        assert_problem(tell(client, {"answer": "of-the-mesh", "label": "red"}), 400, "invalid_answer")
        assert_problem(client.delete("/v1/feedback/of-the-mesh"), 400, "invalid_answer")


def test_without_a_folder_nothing_is_kept_and_feedback_is_taken_all_the_same(client: httpx.Client) -> None:
    answer, result = ask(client, make_image())
    assert tell(client, {"answer": answer, "label": result["label"]}).status_code == 200
    assert_problem(client.delete(f"/v1/feedback/{answer}"), 404, "unknown_answer")


def write_keys(path: Path, *keys: str) -> str:
    path.write_text("\n".join(keys))
    path.chmod(0o600)
    return str(path)


def test_another_service_with_the_same_keys_takes_feedback_and_so_does_the_same_after_a_restart(
    start_server: StartServer, tmp_path: Path
) -> None:
    keys = write_keys(tmp_path / "keys", "a" * 64)
    one, other = start_server(HUBEL_FEEDBACK_KEY_FILE=keys), start_server(HUBEL_FEEDBACK_KEY_FILE=keys)
    with one.client() as client:
        answer, result = ask(client, make_image(color="red"))
    with other.client() as client:
        assert tell(client, {"answer": answer, "label": result["label"]}).json()["results"][0]["right"]
    assert one.stop() == other.stop() == 0
    write_keys(tmp_path / "keys", "b" * 64, "a" * 64)
    rotated, theirs = (
        start_server(HUBEL_FEEDBACK_KEY_FILE=keys),
        start_server(HUBEL_FEEDBACK_KEY_FILE=write_keys(tmp_path / "c", "c" * 64)),
    )
    with rotated.client() as client:
        assert tell(client, {"answer": answer, "label": result["label"]}).status_code == 200
    with theirs.client() as client:
        assert_problem(tell(client, {"answer": answer, "wrong": True}), 400, "invalid_answer")
        assert_problem(client.delete(f"/v1/feedback/{answer}"), 400, "invalid_answer")
    for server in (rotated, theirs):
        server.stop()
        assert not any(character * 32 in server.output() for character in "abc")


def test_a_service_does_not_start_with_a_key_that_is_too_short(tiny_store: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", "hunter2")
    variables = environment(HUBEL_STORE=str(tiny_store), HUBEL_MODEL="tiny", HUBEL_FEEDBACK_KEY_FILE=keys)
    command = [sys.executable, "-m", "service", "serve"]
    ended = subprocess.run(command, env=variables, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"error: line 1 of {keys} has 7 characters, a key has 32 to 1024" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_service_that_nobody_gave_a_key_takes_feedback_on_its_answers_after_a_restart(
    start_server: StartServer, tmp_path: Path
) -> None:
    make_package(store := tmp_path / "store")
    before = start_server(store)
    with before.client() as client:
        answer, _ = ask(client, make_image())
    assert before.stop() == 0
    with start_server(store).client() as client:
        assert tell(client, {"answer": answer, "wrong": True}).status_code == 200


def test_an_answer_expires_for_feedback_and_not_for_its_deletion(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(HUBEL_FEEDBACK_DIR=str(tmp_path / "kept"), HUBEL_FEEDBACK_EXPIRY_DAYS="0.00001")
    with server.client() as client:
        answer, _ = ask(client, make_image())
        wait_for(lambda: tell(client, {"answer": answer, "wrong": True}).status_code == 410)
        problem = assert_problem(tell(client, {"answer": answer, "wrong": True}), 410, "expired_answer")
        assert "HUBEL_FEEDBACK_EXPIRY_DAYS" in problem["detail"]
        assert client.delete(f"/v1/feedback/{answer}").json() == {"deleted": 1}


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
        answers = 'hubel_drift_answers{model="tiny",version="1"}'
        found = wait_for(lambda: (s := samples(client)).get(answers) == 251 and s)  # it counts once a second
    assert found['hubel_drift_psi{feature="classes",model="tiny",version="1"}'] > 0.25

"""The real service over HTTP: what it answers, of what it tells, and what it counts."""

import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from models.image.preprocess import preprocess
from models.package import manifest as manifests
from models.package.manifest import MODEL
from tests.client import labels_of, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import LABELS, encode, make_image, make_package, run_onnx

pytestmark = pytest.mark.server

FORMATS = ("JPEG", "PNG", "WEBP")
SHAPES = ("raw", "multipart", "base64")


def true_features(store: Path, image: bytes) -> Any:
    """What the graph in a store gives for an image, of length 1, without any of the service's code."""
    folder = store / "tiny" / "1"
    features = run_onnx(folder / MODEL, preprocess(image, manifests.read(folder).input)[None])["features"][0]
    return features / np.linalg.norm(features)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/top-k"])
def test_an_image_is_recognised_in_every_format_and_shape(client: httpx.Client, path: str, format: str, shape: str) -> None:
    for color in LABELS:
        assert labels_of(path, results_of(send(client, path, [make_image(format, color=color)], shape))) == [color]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_features_are_the_graph_s_in_every_format_and_shape(
    client: httpx.Client, tiny_store: Path, format: str, shape: str
) -> None:
    image = make_image(format, seed=5)
    (result,) = results_of(send(client, "/v1/features", [image], shape))
    assert result["features"] == pytest.approx(true_features(tiny_store, image), abs=1e-5)


@pytest.mark.parametrize("shape", ["multipart", "base64"])
def test_eight_files_are_answered_in_the_order_sent(client: httpx.Client, tiny_store: Path, shape: str) -> None:
    colors = ["blue", "red", "red", "green", "blue", "green", "red", "blue"]
    images = [make_image(FORMATS[i % 3], seed=i, color=color) for i, color in enumerate(colors)]
    for path in ("/v1/classify", "/v1/top-k"):
        assert labels_of(path, results_of(send(client, path, images, shape))) == colors
    features = [result["features"] for result in results_of(send(client, "/v1/features", images, shape))]
    assert np.array(features) == pytest.approx(np.array([true_features(tiny_store, image) for image in images]), abs=1e-5)


def test_classify_tells_the_label_its_probability_and_whether_it_is_unsure(client: httpx.Client) -> None:
    (result,) = results_of(send(client, "/v1/classify", [make_image(color="red")], "raw"))
    assert set(result) == {"label", "probability", "unsure", "answer"}
    assert 0.5 < result["probability"] <= 1
    assert result["unsure"] is False


def test_of_a_package_that_tells_novelty_each_answer_has_it_and_what_is_novel_is_unsure(
    start_server: StartServer, tmp_path: Path
) -> None:
    make_package(tmp_path, novelty=0.5)
    images = [encode(Image.new("RGB", (32, 32), shade)) for shade in ((255, 160, 160), (60, 0, 0))]  # both surely red
    with start_server(tmp_path).client() as client:
        for path in ("/v1/classify", "/v1/top-k"):
            results = results_of(send(client, path, images, "multipart"))
            assert [result["novelty"] for result in results] == pytest.approx([575 / 765, 60 / 765], abs=1e-3)
            assert [result["unsure"] for result in results] == [True, False]
        assert "features" in results_of(send(client, "/v1/features", images[:1], "raw"))[0]
        assert client.get("/v1/models").json()["models"][0]["novelty_threshold"] == 0.5
        counted = client.get("/metrics").text
    assert 'hubel_novelty_bucket{le="0.25",model="tiny"} 2.0' in counted
    assert 'hubel_novelty_count{model="tiny"} 4.0' in counted


@pytest.mark.parametrize(("params", "count"), [({}, 3), ({"k": "1"}, 1), ({"k": "2"}, 2), ({"k": "3"}, 3)])
def test_top_k_tells_the_k_likeliest(client: httpx.Client, params: dict[str, str], count: int) -> None:
    (result,) = results_of(send(client, "/v1/top-k", [make_image(color="green")], "raw", **params))
    shares = [entry["probability"] for entry in result["top"]]
    assert len(shares) == count
    assert shares == sorted(shares, reverse=True)
    assert result["unsure"] is False


def test_features_can_be_had_at_full_length_and_as_base64(client: httpx.Client) -> None:
    image = make_image(seed=2)
    normal, full = (
        results_of(send(client, "/v1/features", [image], "raw", normalize=normalize))[0]["features"]
        for normalize in ("true", "false")
    )
    assert np.linalg.norm(normal) == pytest.approx(1, abs=1e-6)
    assert np.array(full) / np.linalg.norm(full) == pytest.approx(np.array(normal), abs=1e-6)
    assert np.linalg.norm(full) != pytest.approx(1, abs=0.01)
    (encoded,) = results_of(send(client, "/v1/features", [image], "raw", normalize="false", encoding="base64"))
    assert np.frombuffer(b64decode(encoded["features"]), "<f4") == pytest.approx(np.array(full), abs=1e-5)


def test_the_model_is_described(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["version"], model["labels"], model["dimensions"]) == ("tiny", 1, list(LABELS), 4)
    assert model["input"] == {"height": 32, "width": 32, "resize": 36, "interpolation": "bilinear"}
    assert set(model["evaluation"]) == {"dataset", "split", "samples", "top1", "calibration_error"}


def test_the_service_describes_its_limits_and_formats(client: httpx.Client) -> None:
    info = client.get("/v1/info").json()
    assert info["model"] == "tiny:1"
    assert info["provider"] in ("CPUExecutionProvider", "OpenVINOExecutionProvider", "CUDAExecutionProvider")
    assert (info["precision"], info["skipped_backends"]) == ("fp32", [])
    assert info["formats"] == ["jpeg", "png", "webp"]
    assert info["limits"] == {
        "max_body_bytes": 32 * 1024 * 1024,
        "max_buffered_bytes": 256 * 1024 * 1024,
        "max_pixels": 65_000_000,
        "max_side_pixels": 65_500,
        "max_images": 32,
        "max_batch": 16,
        "max_queue": 512,
        "max_wait_ms": 0.0,
        "max_queue_ms": 1500,
        "deadline_ms": 10_000,
    }


def test_it_says_that_it_lives_and_that_it_is_ready(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "tiny:1"}


@pytest.mark.parametrize("query", ["?x=1", "?verbose", "?x=1&x=2", "?", "?%00=ä"])
def test_probes_may_add_what_they_like(client: httpx.Client, query: str) -> None:
    assert client.get("/livez" + query).json() == {"status": "alive"}
    assert client.get("/readyz" + query).json() == {"status": "ready", "model": "tiny:1"}
    assert client.head("/readyz" + query).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/v1/info", "/openapi.json"])
def test_head_has_the_headers_of_get_and_no_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert client.get("/livez").status_code == 200  # the connection is still good


def test_a_safe_request_id_comes_back_and_another_does_not(client: httpx.Client) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "order-7.b"}).headers["x-request-id"] == "order-7.b"
    assert client.get("/livez", headers={"X-Request-ID": "no spaces"}).headers["x-request-id"] != "no spaces"


def test_server_timing_tells_the_stages_in_their_order(client: httpx.Client) -> None:
    timing = send(client, "/v1/classify", [make_image()], "raw").headers["server-timing"]
    stages = dict(stage.split(";dur=") for stage in timing.split(", "))
    assert list(stages) == ["read", "decode", "queue", "infer", "postprocess"]
    assert all(float(milliseconds) >= 0 for milliseconds in stages.values())


def test_metrics_count_requests_images_and_stages(client: httpx.Client) -> None:
    names = (
        'hubel_requests_total{route="/v1/classify",status="200"}',
        'hubel_request_duration_seconds_count{route="/v1/classify"}',
        'hubel_stage_duration_seconds_count{stage="postprocess"}',
        "hubel_batch_size_images_count",
    )
    before = samples(client)
    for _ in range(3):
        results_of(send(client, "/v1/classify", [make_image(), make_image(seed=1)]))
    after = samples(client)
    assert [after[name] - before.get(name, 0) for name in names[:3]] == [3, 3, 3]
    assert 3 <= after[names[3]] - before.get(names[3], 0) <= 6
    images = 'hubel_images_total{route="/v1/classify"}'
    assert after[images] - before.get(images, 0) == 6
    assert after["hubel_queue_depth_images"] == 0
    assert after["hubel_requests_in_progress"] == 1  # the scrape


def test_metrics_name_the_model_and_what_computes_it(client: httpx.Client, tiny_store: Path) -> None:
    sha256 = manifests.read(tiny_store / "tiny" / "1").files[MODEL]
    provider = client.get("/v1/info").json()["provider"]
    what = f'{{model="tiny",precision="fp32",provider="{provider}",sha256="{sha256}",version="1"}}'
    assert samples(client)["hubel_model_info" + what] == 1
    assert samples(client)['hubel_skipped_backends{model="tiny"}'] == 0


def test_unknown_paths_do_not_make_new_series(client: httpx.Client) -> None:
    client.get("/v1/some-stranger-s-path")
    text = client.get("/metrics").text
    assert "stranger" not in text
    assert 'hubel_requests_total{route="other",status="404"}' in text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian has it in prometheus)")
def test_promtool_accepts_the_metrics(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    ours = "".join(line for line in text.splitlines(True) if "hubel_" in line)
    assert ours
    for metrics in (ours, text):
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True, timeout=60)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

"""The real service over HTTP: what it answers, what it refuses, how it copes with many clients, how it starts and stops."""

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from models import manifest as manifests
from models.input import InputSpec
from models.manifest import MODEL
from models.preprocess import preprocess
from service.errors import HubelError
from tests.conftest import StartServer
from tests.factories import LABELS, make_image, make_package, run_onnx
from tests.server import ROOT, Server, launch

pytestmark = pytest.mark.server

FORMATS = ("JPEG", "PNG", "WEBP")
SHAPES = ("raw", "multipart", "base64")
CLIENTS = 32
GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers()



@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def wide_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose model takes some 10 ms of a core an image, so that requests have to wait for one another."""
    store = tmp_path_factory.mktemp("wide") / "store"
    shapes = {"logits": [3], "features": [256], "feature_map": [256, 128, 128]}
    make_package(store, input=InputSpec(height=512, width=512, resize=512), outputs=shapes)
    return store


def send(client: httpx.Client, path: str, images: list[bytes], shape: str = "multipart", **params: str) -> httpx.Response:
    return client.post(path, params=params, **body_of(images, shape))


def body_of(images: list[bytes], shape: str) -> dict[str, Any]:
    """Images as arguments of httpx; a raw body has one."""
    if shape == "raw":
        (image,) = images
        return {"content": image}
    if shape == "multipart":
        return {"files": [("images", (f"{i}.bin", image, "application/octet-stream")) for i, image in enumerate(images)]}
    return {"json": {"images": [b64encode(image).decode() for image in images]}}


def results_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert (answer["model"], answer["version"]) == ("tiny", 1)
    return answer["results"]


def labels_of(path: str, results: list[dict[str, Any]]) -> list[str]:
    """The labels of /v1/classify or the first ones of /v1/top-k."""
    return [result["label"] if path == "/v1/classify" else result["top"][0]["label"] for result in results]


def true_features(store: Path, image: bytes) -> Any:
    """What the graph in a store gives for an image, of length 1, without any of the service's code."""
    folder = store / "tiny" / "1"
    features = run_onnx(folder / MODEL, preprocess(image, manifests.read(folder).input)[None])["features"][0]
    return features / np.linalg.norm(features)


def samples(client: httpx.Client) -> dict[str, float]:
    """Values of /metrics by name and labels, as in the text."""
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that announces a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is problem details (RFC 9457) with this status and code, and tells nothing internal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:hubel:error:{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    for internal in (str(ROOT), "/tmp", "site-packages", ".py", "Traceback", "Error", "PIL", "pillow", "onnx", "numpy", "bentoml"):
        assert internal not in response.text
    return problem


# What it answers


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
    assert set(result) == {"label", "probability", "unsure"}
    assert 0.5 < result["probability"] <= 1
    assert result["unsure"] is False


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
    assert info["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert info["formats"] == ["jpeg", "png", "webp"]
    assert info["limits"] == {
        "max_body_bytes": 10 * 1024 * 1024,
        "max_pixels": 50_000_000,
        "max_side_pixels": 12_000,
        "max_images": 32,
        "max_batch": 32,
        "max_queue": 512,
        "deadline_ms": 10_000,
    }


def test_it_says_that_it_lives_and_that_it_is_ready(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "tiny:1"}


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
    assert list(stages) == ["read", "decode", "queue", "infer"] or list(stages) == [
        "read",
        "decode",
        "queue",
        "infer",
        "postprocess",
    ]
    assert all(float(milliseconds) >= 0 for milliseconds in stages.values())


# What it refuses


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "a text file": ("/v1/classify", {"content": b"hello, this is text\n" * 10}, 415, "unsupported_format"),
    "an SVG": ("/v1/classify", {"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, 415, "unsupported_format"),
    "a GIF": ("/v1/features", {"content": make_image("GIF")}, 415, "unsupported_format"),
    "a cut off JPEG": ("/v1/classify", {"content": make_image("JPEG")[:-200]}, 400, "undecodable_image"),
    "a cut off file": ("/v1/top-k", body_of([make_image("PNG")[:-200]], "multipart"), 400, "undecodable_image"),
    "an empty file": ("/v1/top-k", body_of([b""], "multipart"), 400, "undecodable_image"),
    "an empty body": ("/v1/classify", {"content": b""}, 400, "malformed_request"),
    "a body of 20 MB": ("/v1/classify", {"content": bytes(20_000_000)}, 413, "body_too_large"),
    "a huge image": ("/v1/classify", {"content": png_header(60_000, 60_000)}, 413, "image_too_large"),
    "many pixels": ("/v1/classify", {"content": png_header(11_000, 11_000)}, 413, "image_too_large"),
    "33 images": ("/v1/classify", body_of([b"x"] * 33, "multipart"), 413, "too_many_images"),
    "a compressed body": (
        "/v1/classify",
        {"content": make_image(), "headers": {"content-encoding": "gzip"}},
        415,
        "unsupported_encoding",
    ),
    "JSON of another shape": ("/v1/classify", {"json": {"image": "aGk="}}, 400, "malformed_request"),
    "JSON that is not UTF-8": (
        "/v1/classify",
        {"content": b'{"images": ["\xff"]}', "headers": {"content-type": "application/json"}},
        400,
        "malformed_request",
    ),
    "text that is not base64": ("/v1/classify", {"json": {"images": ["data:image/png;base64,aGk="]}}, 400, "malformed_request"),
    "an address": ("/v1/classify", {"json": {"images": ["http://127.0.0.1:1/cat.jpg"]}}, 400, "malformed_request"),
    "a form field": ("/v1/classify", {"files": {"k": (None, "5")}}, 400, "malformed_request"),
    "multipart without a boundary": (
        "/v1/classify",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "malformed_request",
    ),
    "k = 0": ("/v1/top-k?k=0", {"content": make_image()}, 422, "invalid_parameter"),
    "k = x": ("/v1/top-k?k=x", {"content": make_image()}, 422, "invalid_parameter"),
    "an empty k": ("/v1/top-k?k=", {"content": make_image()}, 422, "invalid_parameter"),
    "a negative k": ("/v1/top-k?k=-1", {"content": make_image()}, 422, "invalid_parameter"),
    "k of other digits": ("/v1/top-k?k=%C2%B2", {"content": make_image()}, 422, "invalid_parameter"),
    "more than there is": ("/v1/top-k?k=4", {"content": make_image()}, 422, "invalid_parameter"),
    "k of ten digits": ("/v1/top-k?k=0000000012", {"content": make_image()}, 422, "invalid_parameter"),
    "k of 5000 digits": ("/v1/top-k?k=000000001" + "0" * 5000, {"content": make_image()}, 422, "invalid_parameter"),
    "k twice": ("/v1/top-k?k=1&k=2", {"content": make_image()}, 422, "invalid_parameter"),
    "another switch": ("/v1/features?normalize=yes", {"content": make_image()}, 422, "invalid_parameter"),
    "another encoding": ("/v1/features?encoding=hex", {"content": make_image()}, 422, "invalid_parameter"),
    "an unknown parameter": ("/v1/classify?top=3", {"content": make_image()}, 422, "invalid_parameter"),
    "an unknown path": ("/v1/classfy", {"content": make_image()}, 404, "unknown_path"),
    "the root": ("/", {"content": make_image()}, 404, "unknown_path"),
    "a trailing slash": ("/v1/classify/", {"content": make_image()}, 404, "unknown_path"),
    "a path out of here": ("/v1/%2e%2e/%2e%2e/etc/passwd", {}, 404, "unknown_path"),
}


@pytest.mark.parametrize(("path", "body", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_with_its_code_and_the_next_good_one_is_answered(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(client.post(path, **body), status, code)
    assert labels_of("/v1/classify", results_of(send(client, "/v1/classify", [make_image(color="blue")], "raw"))) == ["blue"]


def test_every_code_that_a_client_can_cause_is_caused_here_or_elsewhere_in_this_file() -> None:
    caused = {code for _, _, _, code in REFUSED.values()} | {"wrong_method", "overloaded", "deadline_exceeded"}
    kinds = [kind for base in HubelError.__subclasses__() for kind in base.__subclasses__()]
    assert caused == {kind.code for kind in kinds} - {"internal_error"}


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/classify", "GET", "POST"),
        ("/v1/classify", "HEAD", "POST"),
        ("/v1/top-k", "PUT", "POST"),
        ("/v1/models", "POST", "GET"),
        ("/metrics", "DELETE", "GET"),
    ],
)
def test_a_wrong_method_is_refused_with_the_allowed_one(client: httpx.Client, path: str, method: str, allowed: str) -> None:
    response = client.request(method, path)
    assert response.headers["allow"].split(", ")[0] == allowed
    if method == "HEAD":
        assert (response.status_code, response.content) == (405, b"")
    else:
        assert_problem(response, 405, "wrong_method")


def test_a_limit_is_told_with_the_value_and_its_setting(client: httpx.Client) -> None:
    problem = assert_problem(client.post("/v1/classify", content=png_header(60_000, 10)), 413, "image_too_large")
    assert "60000x10 pixels, the limit is 12000 a side (HUBEL_MAX_SIDE_PIXELS)" in problem["detail"]


def test_a_body_without_an_announced_length_is_limited_too(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(1_000_000)

    assert_problem(client.post("/v1/classify", content=chunks()), 413, "body_too_large")


def test_of_several_images_the_bad_ones_fail_in_their_places_and_the_others_are_answered(client: httpx.Client) -> None:
    cut_off = make_image("JPEG")[:-200]
    images = [make_image(color="red"), b"text", make_image(color="green"), cut_off, b"", png_header(60_000, 60_000)]
    images.append(make_image(color="blue"))
    results = results_of(send(client, "/v1/classify", images))
    assert [result.get("label") for result in results] == ["red", None, "green", None, None, None, "blue"]
    errors = [(result["error"]["status"], result["error"]["code"]) for result in results if "error" in result]
    assert errors == [
        (415, "unsupported_format"),
        (400, "undecodable_image"),
        (400, "undecodable_image"),
        (413, "image_too_large"),
    ]


def test_several_images_that_are_all_bad_each_say_why(client: httpx.Client) -> None:
    results = results_of(send(client, "/v1/features", [b"text", b""], "base64"))
    assert [result["error"]["code"] for result in results] == ["unsupported_format", "undecodable_image"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"hello\r\n\r\n", id="not HTTP"),
        pytest.param(b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n", id="a path that is not ASCII"),
        pytest.param(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf", id="a client that hangs up"),
        pytest.param(b"", id="a client that says nothing"),
    ],
)
def test_what_is_no_whole_request_does_no_harm(server: Server, client: httpx.Client, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert labels_of("/v1/classify", results_of(send(client, "/v1/classify", [make_image(color="red")], "raw"))) == ["red"]


# Metrics


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
    assert samples(client)[f'hubel_model_info{{name="tiny",provider="{provider}",sha256="{sha256}",version="1"}}'] == 1


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


# Many clients


def test_many_clients_are_computed_together_and_each_gets_its_own_answer(start_server: StartServer, wide_store: Path) -> None:
    server = start_server(wide_store, HUBEL_MAX_BATCH="8", HUBEL_THREADS="1")
    images = [make_image(FORMATS[i % 3], seed=i) for i in range(CLIENTS)]
    with server.client() as client:
        alone = [results_of(send(client, "/v1/features", [image], "raw"))[0]["features"] for image in images]
        assert len({tuple(features) for features in alone}) == CLIENTS
        before = samples(client)
        together = asyncio.run(features_from_many_clients(server.url, images, rounds=2))
        after = samples(client)
    for features in together:
        assert np.array(features) == pytest.approx(np.array(alone), abs=1e-5)
    passes, computed = (
        after[f"hubel_batch_size_images_{name}"] - before[f"hubel_batch_size_images_{name}"] for name in ("count", "sum")
    )
    assert computed == 2 * CLIENTS
    assert computed / passes > 2
    assert server.stop() == 0


async def features_from_many_clients(url: str, images: list[bytes], rounds: int) -> list[list[list[float]]]:
    """For each round the features of every image; each image has a client of its own, all send at once."""

    async def features(client: httpx.AsyncClient, image: bytes) -> list[float]:
        response = await client.post("/v1/features", content=image)
        return results_of(response)[0]["features"]

    async with asyncio_client(url) as client:
        return [list(await asyncio.gather(*(features(client, image) for image in images))) for _ in range(rounds)]


def asyncio_client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CLIENTS)
    return httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False)


def test_overload_is_refused_with_a_time_to_come_back_and_the_rest_is_answered(
    start_server: StartServer, wide_store: Path
) -> None:
    server = start_server(wide_store, HUBEL_MAX_QUEUE="4", HUBEL_MAX_IMAGES="4", HUBEL_MAX_BATCH="1", HUBEL_THREADS="1")
    responses = asyncio.run(posts_from_many_clients(server.url, [make_image()] * CLIENTS))
    refused = [response for response in responses if response.status_code != 200]
    assert 4 <= len(responses) - len(refused) < CLIENTS
    for response in refused:
        problem = assert_problem(response, 503, "overloaded")
        assert "the limit of 4 (HUBEL_MAX_QUEUE)" in problem["detail"]
        assert int(response.headers["retry-after"]) >= 1
    with server.client() as client:
        assert send(client, "/v1/classify", [make_image()] * 4).status_code == 200
        assert samples(client)['hubel_rejections_total{reason="overloaded"}'] == len(refused)
        assert samples(client)["hubel_queue_depth_images"] == 0
    assert server.stop() == 0


async def posts_from_many_clients(url: str, images: list[bytes]) -> list[httpx.Response]:
    async with asyncio_client(url) as client:
        return list(await asyncio.gather(*(client.post("/v1/classify", content=image) for image in images)))


# Several workers


@pytest.fixture(scope="module")
def workers(start_server: StartServer) -> Server:
    """Two worker processes with a short deadline."""
    return start_server(HUBEL_WORKERS="2", HUBEL_DEADLINE_MS="2000")


def test_two_workers_answer_and_their_metrics_are_added_up(workers: Server) -> None:
    responses = asyncio.run(posts_from_many_clients(workers.url, [make_image(color="red")] * 60))
    assert [labels_of("/v1/classify", results_of(response)) for response in responses] == [["red"]] * 60
    name = 'hubel_requests_total{route="/v1/classify",status="200"}'
    assert [one_scrape(workers, name, 60) for _ in range(10)] == [60] * 10
    assert len(children(workers.process.pid)) >= 2


def one_scrape(server: Server, name: str, expected: float) -> float:
    """A value over a new connection, so that either worker may answer; an answer is sent just before it is counted."""
    until = time.monotonic() + 5
    while True:
        with server.client() as client:
            value = samples(client)[name]
        if value == expected or time.monotonic() > until:
            return value


def test_a_body_that_does_not_come_is_refused_at_the_deadline(workers: Server) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield make_image()[:100]
        await asyncio.sleep(3600)

    async def scenario() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", workers.port)
        writer.write(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return answer

    assert asyncio.run(scenario()).startswith(b"HTTP/1.1 504")


# How it stops


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """The process is there and not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


@pytest.mark.parametrize("workers", ["1", "2"], ids=["one worker", "two workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_well_with_no_process_left_and_the_port_free(
    start_server: StartServer, number: signal.Signals, workers: str
) -> None:
    server = start_server(HUBEL_WORKERS=workers)
    processes = [server.process.pid, *children(server.process.pid)]
    with server.client() as client:
        assert client.get("/livez").status_code == 200
        assert server.stop(number) == 0
    until = time.monotonic() + 5
    while any(map(runs, processes)) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in processes if runs(pid)] == []
    socket.create_server(("127.0.0.1", server.port)).close()
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_while_the_model_is_loading_ends_it_well(tiny_store: Path, tmp_path: Path, number: signal.Signals) -> None:
    server = launch(tiny_store, tmp_path / "log.txt")
    until = time.monotonic() + 30
    while "loading tiny:1" not in server.output() and time.monotonic() < until:
        time.sleep(0.01)
    assert server.stop(number) == 0
    assert "serving" not in server.output()
    assert "Traceback" not in server.output()


def test_requests_in_flight_at_sigterm_are_answered(start_server: StartServer, wide_store: Path) -> None:
    server = start_server(wide_store, HUBEL_MAX_BATCH="8", HUBEL_THREADS="1")
    images = [make_image("PNG", seed=i) for i in range(32)]

    async def scenario() -> list[httpx.Response]:
        async with asyncio_client(server.url) as client:
            requests = [asyncio.create_task(client.post("/v1/classify", **body_of(images, "multipart"))) for _ in range(4)]
            while "hubel_requests_in_progress 5.0" not in (await client.get("/metrics")).text:
                assert not any(request.done() for request in requests)
            server.process.send_signal(signal.SIGTERM)
            return list(await asyncio.gather(*requests))

    for response in asyncio.run(scenario()):
        assert len(results_of(response)) == 32
    assert server.stop() == 0


# How it does not start


def end_of(server: Server) -> list[str]:
    """The lines that a service wrote which should not have started; it has the exit code 1."""
    try:
        assert server.process.wait(30) == 1, server.output()
    finally:
        server.process.kill()
        server.process.wait()
    return server.output().splitlines()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"HUBEL_MODEL": "nobody"}, "no model 'nobody' in ", id="unknown model"),
        pytest.param({"HUBEL_MODEL": "tiny:9"}, "no version '9' of model tiny", id="unknown version"),
        pytest.param({"HUBEL_STORE": "/nowhere"}, "no model 'tiny' in /nowhere; there is none", id="no store"),
        pytest.param({"HUBEL_PORT": "http"}, "HUBEL_PORT is 'http': ", id="bad setting"),
        pytest.param({"HUBEL_MAX_QUEUE": "1"}, "the settings do not fit together: ", id="settings that do not fit"),
        pytest.param({"HUBEL_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1:", id="an address of another machine"),
        pytest.param(
            {"HUBEL_DEVICE": "cuda"},
            "HUBEL_DEVICE is cuda but ",
            id="no GPU",
            marks=pytest.mark.skipif(GPU, reason="this machine may have a usable GPU"),
        ),
        pytest.param(
            {"HUBEL_DEVICE": "cuda", "HUBEL_WORKERS": "2"},
            "HUBEL_DEVICE is cuda but ",
            id="no GPU for two workers",
            marks=pytest.mark.skipif(GPU, reason="this machine may have a usable GPU"),
        ),
    ],
)
def test_what_it_cannot_start_with_is_told_in_one_line(
    tiny_store: Path, tmp_path: Path, settings: dict[str, str], reason: str
) -> None:
    lines = end_of(launch(tiny_store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", **settings))
    assert lines[0].startswith(f"error: {reason}")
    several = int(settings.get("HUBEL_WORKERS", "1")) > 1
    assert {line for line in lines if line != lines[0]} == set() or several


def test_a_port_in_use_is_told_in_one_line(tiny_store: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        lines = end_of(launch(tiny_store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", HUBEL_PORT=port))
    assert lines == [f"error: cannot listen on 127.0.0.1:{port}: Address already in use; set HUBEL_HOST or HUBEL_PORT"]


@pytest.mark.parametrize("workers", ["1", "2"], ids=["one worker", "two workers"])
def test_a_damaged_package_is_told_in_one_line(tiny_store: Path, tmp_path: Path, workers: str) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    with open(store / "tiny" / "1" / MODEL, "ab") as file:
        file.write(b"\0")
    (line,) = end_of(launch(store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", HUBEL_WORKERS=workers))
    assert line.startswith("error: ")
    assert "model.onnx was changed: its SHA-256 is " in line


@pytest.mark.parametrize("workers", ["1", "2"], ids=["one worker", "two workers"])
def test_a_package_that_answers_otherwise_than_promised_is_not_served(tmp_path: Path, workers: str) -> None:
    make_package(tmp_path / "store", golden_error=3.0)
    lines = end_of(launch(tmp_path / "store", tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", HUBEL_WORKERS=workers))
    assert lines[0].startswith("error: tiny:1 answers its golden inputs differently")
    assert "Traceback" not in "\n".join(lines)


def test_nothing_outside_is_asked_to_serve() -> None:
    """The suite itself talks to 127.0.0.1 alone."""
    assert os.environ.get("HUBEL_HOST") is None

"""The real service over HTTP: which places of an image speak for a class, as numbers and as a picture."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.image.preprocess import preprocess
from models.package import manifest as manifests
from models.package.manifest import MODEL
from tests.client import assert_problem, body_of, labels_of, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import LABELS, encode, make_image, make_package, png_header, run_onnx

pytestmark = pytest.mark.server

PATH = "/v1/explain"
PNG = {"accept": "image/png"}
ORIENTATION = 0x0112


def true_map(store: Path, image: bytes, index: int) -> NDArray[np.floating]:
    """By hand: the class's weights, 2 for its own colour and 0 for the others, times the feature map; from 0 to 1."""
    folder = store / "tiny" / "1"
    feature_map = run_onnx(folder / MODEL, preprocess(image, manifests.read(folder).input)[None])["feature_map"][0]
    evidence = 2 * feature_map[index]
    return evidence / max(float(evidence.max()), 1e-12)


def spotted(colour: str = "red") -> bytes:
    """64 x 48 pixels with a spot of the colour at the top left of what is seen, on black."""
    image = Image.new("RGB", (64, 48), "black")
    image.paste(colour, (12, 4, 24, 16))
    return encode(image)


def picture_of(response: httpx.Response) -> NDArray[np.int64]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-model"] == "tiny:1"
    with Image.open(BytesIO(response.content), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


@pytest.mark.parametrize("shape", ["raw", "multipart", "base64"])
def test_the_answer_is_explained_in_every_shape_of_a_body(client: httpx.Client, tiny_store: Path, shape: str) -> None:
    image = make_image("PNG", seed=3, color="green")
    (result,) = results_of(send(client, PATH, [image], shape))
    assert set(result) == {"label", "index", "probability", "map", "seen", "size"}
    (answer,) = results_of(send(client, "/v1/classify", [image], shape))
    assert (result["label"], result["index"]) == ("green", 1)
    assert result["probability"] == pytest.approx(answer["probability"], abs=1e-6)
    assert (result["map"]["width"], result["map"]["height"]) == (8, 8)
    np.testing.assert_allclose(result["map"]["values"], true_map(tiny_store, image, 1), atol=1e-5)
    assert result["size"] == {"width": 64, "height": 48}
    assert result["seen"] == pytest.approx({"x": 32 - 64 / 3, "y": 24 - 64 / 3, "width": 128 / 3, "height": 128 / 3}, abs=1e-3)


@pytest.mark.parametrize(("named", "index"), [("red", 0), ("0", 0), ("blue", 2), ("2", 2)])
def test_a_class_can_be_named_by_label_or_index(client: httpx.Client, tiny_store: Path, named: str, index: int) -> None:
    image = make_image("PNG", seed=7)
    (result,) = results_of(send(client, PATH, [image], "raw", **{"class": named}))
    assert (result["label"], result["index"]) == (LABELS[index], index)
    np.testing.assert_allclose(result["map"]["values"], true_map(tiny_store, image, index), atol=1e-5)


def test_the_map_speaks_for_the_place_where_the_thing_is(client: httpx.Client) -> None:
    (result,) = results_of(send(client, PATH, [spotted()], "raw", **{"class": "red"}))
    values = np.array(result["map"]["values"])
    assert values[:3, :3].max() == 1
    assert not values[4:].any()
    assert not values[:, 4:].any()
    (other,) = results_of(send(client, PATH, [spotted()], "raw", **{"class": "blue"}))
    assert not np.any(other["map"]["values"])


def test_base64_holds_the_same_numbers(client: httpx.Client) -> None:
    numbers, packed = (results_of(send(client, PATH, [make_image()], "raw", encoding=e))[0]["map"] for e in ("float", "base64"))
    unpacked = np.frombuffer(b64decode(packed["values"]), "<f4").reshape(packed["height"], packed["width"])
    np.testing.assert_allclose(unpacked, numbers["values"], atol=1e-5)


def test_several_images_have_each_their_own_map_and_a_bad_one_fails_alone(client: httpx.Client, tiny_store: Path) -> None:
    images = [make_image("PNG", seed=i, color=color) for i, color in enumerate((*LABELS, *LABELS))]
    results = results_of(send(client, PATH, [*images[:2], b"no image", *images[2:]]))
    assert results.pop(2)["error"]["code"] == "unsupported_format"
    assert [result["label"] for result in results] == [*LABELS, *LABELS]
    for i, (image, result) in enumerate(zip(images, results, strict=True)):
        np.testing.assert_allclose(result["map"]["values"], true_map(tiny_store, image, i % 3), atol=1e-5)


def test_a_picture_has_the_map_over_it(client: httpx.Client) -> None:
    shown = picture_of(client.post(PATH, content=spotted(), params={"class": "red"}, headers=PNG))
    assert shown.shape == (48 * 4, 64 * 4, 3)
    colour = shown.max(2) - shown.min(2)
    y, x = np.unravel_index(colour.argmax(), colour.shape)
    assert 12 <= x / 4 <= 24
    assert 4 <= y / 4 <= 16
    assert not colour[140:].any()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_upright(client: httpx.Client, format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = make_image(format, 300, 200, exif=exif)
    width, height = (200, 300) if orientation > 4 else (300, 200)
    assert picture_of(client.post(PATH, content=image, headers=PNG)).shape == (height, width, 3)
    assert results_of(send(client, PATH, [image], "raw"))[0]["size"] == {"width": width, "height": height}


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (17, 333), (2048, 1023), (1500, 1500)], ids=str)
def test_pictures_of_odd_sizes_are_bounded(client: httpx.Client, size: tuple[int, int]) -> None:
    image = encode(Image.new("RGB", size, (200, 30, 30)))
    height, width, _ = picture_of(client.post(PATH, content=image, headers=PNG)).shape
    assert max(width, height) <= 1024
    assert min(width, height) >= 1
    assert results_of(send(client, PATH, [image], "raw"))[0]["label"] == "red"


REFUSED: dict[str, tuple[dict[str, str], dict[str, Any], int, str]] = {
    "an unknown class": ({"class": "cat"}, {"content": make_image()}, 422, "invalid_parameter"),
    "an index beyond the last": ({"class": "3"}, {"content": make_image()}, 422, "invalid_parameter"),
    "a negative index": ({"class": "-1"}, {"content": make_image()}, 422, "invalid_parameter"),
    "an empty class": ({"class": ""}, {"content": make_image()}, 422, "invalid_parameter"),
    "a class of 5000 letters": ({"class": "x" * 5000}, {"content": make_image()}, 422, "invalid_parameter"),
    "another encoding": ({"encoding": "hex"}, {"content": make_image()}, 422, "invalid_parameter"),
    "an unknown parameter": ({"k": "1"}, {"content": make_image()}, 422, "invalid_parameter"),
    "a text file": ({}, {"content": b"hello, this is text\n" * 10}, 415, "unsupported_format"),
    "a cut off JPEG": ({}, {"content": make_image("JPEG")[:-200]}, 400, "undecodable_image"),
    "many pixels": ({}, {"content": png_header(11_000, 11_000)}, 413, "image_too_large"),
    "an empty body": ({}, {"content": b""}, 400, "malformed_request"),
}


@pytest.mark.parametrize("headers", [{}, PNG], ids=["numbers", "a picture"])
@pytest.mark.parametrize(("params", "body", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_and_the_next_good_one_answered(
    client: httpx.Client, params: dict[str, str], body: dict[str, Any], status: int, code: str, headers: dict[str, str]
) -> None:
    assert_problem(client.post(PATH, params=params, headers=headers, **body), status, code)
    assert results_of(send(client, PATH, [make_image(color="red")], "raw"))[0]["label"] == "red"


def test_an_unknown_class_is_told_with_the_limit_and_the_way_out(client: httpx.Client) -> None:
    detail = assert_problem(client.post(f"{PATH}?class=cat", content=make_image()), 422, "invalid_parameter")["detail"]
    assert detail == "class is 'cat', it must be a label of tiny:1, as /v1/models spells it, or its index, from 0 to 2"


@pytest.mark.parametrize("images", [[make_image()] * 2, [b"no image"] * 3, [make_image()] * 32])
def test_a_picture_of_several_images_is_refused(client: httpx.Client, images: list[bytes]) -> None:
    problem = assert_problem(client.post(PATH, headers=PNG, **body_of(images, "multipart")), 413, "too_many_images")
    assert problem["detail"].startswith(f"{len(images)} images were sent, a picture (Accept: image/png) shows one")


def test_the_stages_are_timed_and_counted_as_of_other_routes(client: httpx.Client) -> None:
    names = (
        'hubel_requests_total{route="/v1/explain",status="200"}',
        'hubel_images_total{route="/v1/explain"}',
        'hubel_request_duration_seconds_count{route="/v1/explain"}',
    )
    before = samples(client)
    for headers in ({}, PNG):
        timing = client.post(PATH, content=make_image(), headers=headers).headers["server-timing"]
        assert [stage.partition(";")[0] for stage in timing.split(", ")] == ["read", "decode", "queue", "infer", "postprocess"]
    after = samples(client)
    assert [after[name] - before.get(name, 0) for name in names] == [2, 2, 2]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [({}, 504, "deadline_exceeded"), (PNG, 503, "overloaded")],  # which is decoded twice, so it is known before
    ids=["numbers", "a picture"],
)
def test_an_answer_that_would_come_too_late_is_told_so(
    client: httpx.Client, headers: dict[str, str], status: int, code: str
) -> None:
    large = make_image("PNG", 3000, 2000)
    tries = (client.post(PATH, content=large, headers=headers | {"x-deadline-ms": "20"}) for _ in range(100))
    arrived = next(answer for answer in tries if answer.status_code != 408)  # on a busy machine the body alone may take as long
    assert_problem(arrived, status, code)
    assert labels_of("/v1/classify", results_of(send(client, "/v1/classify", [make_image(color="red")], "raw"))) == ["red"]


def test_a_model_without_a_map_says_why(start_server: StartServer, tmp_path: Path) -> None:
    make_package(tmp_path, outputs={"logits": [3], "features": [1], "feature_map": [1, 8, 8]})
    with start_server(tmp_path).client() as client:
        for headers in ({}, PNG):
            problem = assert_problem(client.post(PATH, content=make_image(), headers=headers), 422, "not_explainable")
            assert "tiny:1 cannot be explained: its feature map is 1 x 8 x 8" in problem["detail"]
        assert results_of(send(client, "/v1/classify", [make_image()], "raw"))

"""The real service with an index: what is most alike, its thumbnails, and that nothing else of the disk can be had."""

import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from hubel import Client, Refusal, ServiceError
from models.package.similar import Similar
from models.registry import registry
from service.http import api_keys
from service.similar.index import Index
from tests.client import assert_problem, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import make_image, make_package
from tests.server import Server
from tests.service.similar.indexes import build_index, load, make_photos
from tests.traffic import until

pytestmark = pytest.mark.server
PAGE = "https://page.example"
SIMILAR = "/v1/similar"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("similar") / "photos", 5)


@pytest.fixture(scope="module")
def root(photos: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of indexes, with that of tiny:1."""
    found = tmp_path_factory.mktemp("index")
    build_index(photos, found, load(tiny_store / "tiny/1"))
    return found


@pytest.fixture(scope="module")
def finder(start_server: StartServer, root: Path) -> Server:
    server = start_server(HUBEL_INDEX_DIR=str(root))
    with server.client() as client:
        until(lambda: client.get("/v1/info").json()["index"], server)
    return server


@pytest.fixture
def visitor(finder: Server) -> Iterator[httpx.Client]:
    with finder.client() as client:
        yield client


def names_of(result: dict[str, Any]) -> list[str]:
    return [neighbour["name"] for neighbour in result["similar"]]


@pytest.mark.parametrize("shape", ["raw", "multipart", "base64"])
def test_an_image_of_the_index_finds_itself_first_and_then_what_is_alike(
    visitor: httpx.Client, photos: Path, root: Path, shape: str
) -> None:
    images = [(photos / name).read_bytes() for name in ("red/3.png", "blue/1.png")]
    given = images[:1] if shape == "raw" else images
    results = results_of(send(visitor, SIMILAR, given, shape))
    index = Index(root / "tiny/1")
    for result, name in zip(results, ("red/3.png", "blue/1.png"), strict=False):
        first = result["similar"][0]
        assert set(first) == {"id", "name", "class", "score", "thumbnail"}
        assert (first["name"], first["class"], first["score"]) == (name, name.partition("/")[0], pytest.approx(1, abs=1e-5))
        row = index.vectors[first["id"]].astype(np.float64)
        expected = np.sort(index.vectors.astype(np.float64) @ row)[::-1][:10]
        assert [neighbour["score"] for neighbour in result["similar"]] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("k", "n"), [(None, 10), ("1", 1), ("15", 15), ("100", 15), ("007", 7)])
def test_k_is_how_many_are_answered(visitor: httpx.Client, k: str | None, n: int) -> None:
    (result,) = results_of(send(visitor, SIMILAR, [make_image()], "raw", **({} if k is None else {"k": k})))
    assert len(result["similar"]) == n


@pytest.mark.parametrize("k", ["0", "-1", "101", "1.5", "", "ten", "9" * 30, "1e1", "٣", "%00"])
def test_k_out_of_range_is_refused(visitor: httpx.Client, k: str) -> None:
    problem = assert_problem(send(visitor, SIMILAR, [make_image()], "raw", k=k), 422, "invalid_parameter")
    assert "from 1 to 100" in problem["detail"]


def test_other_parameters_are_refused(visitor: httpx.Client) -> None:
    assert_problem(send(visitor, SIMILAR, [make_image()], "raw", index="../other"), 422, "invalid_parameter")
    assert_problem(visitor.post(f"{SIMILAR}?k=1&k=2", content=make_image()), 422, "invalid_parameter")


def test_a_bad_image_among_several_fails_alone(visitor: httpx.Client) -> None:
    first, second, third = results_of(send(visitor, SIMILAR, [make_image(color="red"), b"no image", make_image(color="blue")]))
    assert (first["similar"][0]["class"], third["similar"][0]["class"]) == ("red", "blue")
    assert second["error"]["code"] == "unsupported_format"
    assert_problem(send(visitor, SIMILAR, [b"no image"], "raw"), 415, "unsupported_format")


def test_its_time_is_told_by_the_words_of_all_stages_and_counted(visitor: httpx.Client) -> None:
    response = send(visitor, SIMILAR, [make_image()], "raw")
    stages = [part.partition(";")[0] for part in response.headers["server-timing"].split(", ")]
    assert stages == ["read", "decode", "queue", "infer", "postprocess"]
    assert response.headers["x-model"] == "tiny:1"
    counted = samples(visitor)
    assert counted['hubel_images_total{route="/v1/similar"}'] >= 1
    assert counted['hubel_index_images{model="tiny"}'] == 15


def test_info_tells_of_the_index(visitor: httpx.Client, client: httpx.Client) -> None:
    found = visitor.get("/v1/info").json()["index"]
    assert (found["images"], found["dimensions"], set(found)) == (15, 4, {"images", "dimensions", "created"})
    assert client.get("/v1/info").json()["index"] is None


def test_a_thumbnail_is_a_small_jpeg_of_the_image(visitor: httpx.Client, photos: Path) -> None:
    (result,) = results_of(send(visitor, SIMILAR, [(photos / "green/2.png").read_bytes()], "raw"))
    response = visitor.get(result["similar"][0]["thumbnail"])
    assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "private, max-age=86400, immutable"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    with Image.open(BytesIO(response.content)) as image, Image.open(photos / "green/2.png") as original:
        assert (image.format, image.size) == ("JPEG", (90, 60))
        assert np.abs(np.asarray(image, float) - np.asarray(original.convert("RGB"), float)).mean() < 8
    assert visitor.head(result["similar"][0]["thumbnail"]).status_code == 200
    assert_problem(visitor.post(result["similar"][0]["thumbnail"]), 405, "wrong_method")


STRANGE = (
    *("0", "-1", "15-STAMP", "00-STAMP", "+1-STAMP", "1 -STAMP", "1-stamp", "1-", "-STAMP", "1-STAMP0", "999999999999-STAMP"),
    *("red%2F0.png", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2fmanifest.json", "manifest.json", "0-STAMP%00", "0-STAMP%0a"),
    *("0-000000000000", "٣-STAMP", "%2Fetc%2Fpasswd", "0-STAMP.jpg", "0x1-STAMP", "1e0-STAMP", "0-STAMP;x", "$(id)", "0-%53TAMP"),
)


@pytest.mark.parametrize("strange", STRANGE)
def test_nothing_but_a_number_of_this_index_is_a_thumbnail(visitor: httpx.Client, root: Path, strange: str) -> None:
    address = f"{SIMILAR}/thumbnails/{strange.replace('STAMP', Index(root / 'tiny/1').stamp)}"
    response = visitor.get(httpx.URL(f"{visitor.base_url}{address}"))
    assert response.status_code == 404
    assert response.json()["code"] in ("unknown_thumbnail", "unknown_path")


@pytest.mark.parametrize(
    "path", ["/v1/similar/thumbnails/", "/v1/similar/thumbnails", "/v1/similar/%2e%2e/similar", "/v1//similar", "/v1/similar/"]
)
def test_other_paths_beside_it_lead_nowhere(finder: Server, path: str) -> None:
    with finder.client() as client:
        request = client.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        assert_problem(client.send(request), 404, "unknown_path")


def test_the_python_client_asks_for_one_or_many(finder: Server, photos: Path, server: Server) -> None:
    paths = [photos / "red/0.png", photos / "blue/4.png"]
    with Client(finder.url) as client:
        found = client.similar(paths[0], k=3)
        assert (len(found.similar), found.similar[0].name, found.similar[0].folder) == (3, "red/0.png", "red")
        first, refused, second = client.similar_all([paths[0], b"no image", paths[1]], k=1)
        assert isinstance(refused, Refusal)
        names = [one.similar[0].name for one in (first, second) if isinstance(one, Similar)]
        assert names == ["red/0.png", "blue/4.png"]
    with Client(server.url) as client, pytest.raises(ServiceError, match="HUBEL_INDEX_DIR"):
        client.similar(paths[0])


def test_without_an_index_the_command_that_makes_one_is_told_before_the_body_is_read(client: httpx.Client) -> None:
    problem = assert_problem(send(client, SIMILAR, [b"no image"], "raw"), 404, "no_index")
    assert "HUBEL_INDEX_DIR" in problem["detail"]
    assert_problem(client.get("/v1/similar/thumbnails/0-000000000000"), 404, "unknown_thumbnail")


def test_keys_and_pages_are_as_for_the_other_routes(start_server: StartServer, root: Path, tmp_path: Path) -> None:
    key, block = api_keys.make("web")
    (tmp_path / "keys.toml").write_text(block)
    server = start_server(HUBEL_INDEX_DIR=str(root), HUBEL_API_KEYS_FILE=str(tmp_path / "keys.toml"), HUBEL_CORS_ORIGINS=PAGE)
    thumbnail = f"{SIMILAR}/thumbnails/0-{Index(root / 'tiny/1').stamp}"
    right = {"authorization": f"Bearer {key}"}
    with server.client() as client:
        until(lambda: client.get("/v1/info", headers=right).json()["index"], server)
        for headers in ({}, {"authorization": "Bearer wrong"}):
            assert_problem(client.post(SIMILAR, content=make_image(), headers=headers), 401, "unauthorized")
            assert_problem(client.get(thumbnail, headers=headers), 401, "unauthorized")
            assert_problem(client.get(thumbnail + "0", headers=headers), 401, "unauthorized")
        answers = client.post(SIMILAR, content=make_image(), headers=right), client.get(thumbnail, headers=right)
        assert [answer.status_code for answer in answers] == [200, 200]
        for origin, allowed in ((PAGE, True), ("https://evil.example", False)):
            answer = client.get(thumbnail, headers={"origin": origin, **right})
            assert ("access-control-allow-origin" in answer.headers) == allowed
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert client.options(SIMILAR, headers={"origin": PAGE, **asks}).status_code == 204
        assert_problem(client.options(SIMILAR, headers={"origin": "https://evil.example", **asks}), 403, "cors_refused")


def test_without_keys_other_pages_may_not_ask(visitor: httpx.Client) -> None:
    assert_problem(visitor.post(SIMILAR, content=make_image(), headers={"origin": PAGE}), 403, "cors_refused")
    assert_problem(visitor.get(f"{SIMILAR}/thumbnails/0", headers={"host": "rebound.example"}), 421, "wrong_host")


def test_a_swap_to_a_version_without_an_index_is_told_at_once_and_a_new_index_is_taken_up(
    start_server: StartServer, photos: Path, tmp_path: Path
) -> None:
    store, indexes = tmp_path / "store", tmp_path / "index"
    make_package(store)
    build_index(photos, indexes, load(store / "tiny/1"))
    make_package(store, novelty=0.5)
    server = start_server(store, HUBEL_INDEX_DIR=str(indexes))
    with server.client() as client:
        found = until_index(client, server, 15)
        registry.promote(store, "tiny", 2, "test")
        until(lambda: client.get("/v1/models").json()["models"][0]["version"] == 2, server)
        assert client.get("/v1/info").json()["index"] is None
        until(lambda: client.post(SIMILAR, content=make_image()).status_code == 404, server)
        problem = assert_problem(client.post(SIMILAR, content=make_image()), 404, "no_index")
        assert problem["detail"] == (
            "version 2 of tiny has no index; who runs the service makes one: hubel index FOLDER --model tiny:2"
        )
        until(lambda: "tiny:2 has no index" in server.output(), server)
        assert_problem(client.get(found), 404, "unknown_thumbnail")
        build_index(photos / "red", indexes, load(store / "tiny/2"))
        until_index(client, server, 5)
        build_index(photos, indexes, load(store / "tiny/2"))
        until_index(client, server, 15)
        registry.roll_back(store, "tiny")
        until(lambda: client.get("/v1/models").json()["models"][0]["version"] == 1, server)
        until_index(client, server, 15)
        damage(indexes / "tiny/1")
        until(lambda: "cannot be used" in server.output() or "was cut off" in server.output(), server)
        until(lambda: client.post(SIMILAR, content=make_image()).json().get("code") == "no_index", server)
        assert client.post("/v1/classify", content=make_image()).status_code == 200
        shutil.rmtree(indexes)
        assert client.post("/v1/classify", content=make_image()).status_code == 200


def until_index(client: httpx.Client, server: Server, images: int) -> str:
    """The thumbnail of a first neighbour, once the service has an index of so many images."""

    def answered() -> bool:
        info = client.get("/v1/info").json()["index"]
        return info is not None and info["images"] == images

    until(answered, server)
    response = client.post(SIMILAR, content=make_image())
    assert response.status_code == 200, response.text
    return response.json()["results"][0]["similar"][0]["thumbnail"]


def damage(place: Path) -> None:
    """Cut its vectors off, in place, while they are mapped."""
    index = Index(place)
    os.truncate(place / index.manifest.files["vectors"].name, 16)

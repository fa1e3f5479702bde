"""The real service under many clients: batches, overload, several worker processes, the deadline."""

import asyncio
import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.client import assert_problem, labels_of, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import encode, make_image
from tests.server import Server

pytestmark = pytest.mark.server

CLIENTS = 32
FORMATS = ("JPEG", "PNG", "WEBP")
PATIENT = {"HUBEL_DEADLINE_MS": "60000", "HUBEL_MAX_QUEUE_MS": "60000"}  # where none is to be refused, however slow the machine


@pytest.fixture(scope="module")
def wide(start_server: StartServer, wide_store: Path) -> Server:
    return start_server(wide_store, HUBEL_MAX_BATCH="8", HUBEL_THREADS="1", **PATIENT)


def test_many_clients_are_computed_together_and_each_gets_its_own_answer(wide: Server) -> None:
    images = [make_image(FORMATS[i % 3], seed=i) for i in range(CLIENTS)]
    with wide.client() as client:
        alone = [results_of(send(client, "/v1/features", [image], "raw"))[0]["features"] for image in images]
        assert len({tuple(features) for features in alone}) == CLIENTS
        before = samples(client)
        together = asyncio.run(features_from_many_clients(wide.url, images, rounds=2))
        after = samples(client)
    for features in together:
        assert np.array(features) == pytest.approx(np.array(alone), abs=1e-5)
    passes, computed = (
        after[f"hubel_batch_size_images_{name}"] - before[f"hubel_batch_size_images_{name}"] for name in ("count", "sum")
    )
    assert computed == 2 * CLIENTS
    assert computed / passes > 1.2


async def features_from_many_clients(url: str, images: list[bytes], rounds: int) -> list[list[list[float]]]:
    """For each round the features of every image; each image has a client of its own, all send at once."""

    async def features(client: httpx.AsyncClient, image: bytes) -> list[float]:
        response = await client.post("/v1/features", content=image)
        return results_of(response)[0]["features"]

    async with make_client(url) as client:
        return [list(await asyncio.gather(*(features(client, image) for image in images))) for _ in range(rounds)]


def make_client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CLIENTS)
    return httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False)


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/explain"])
def test_overload_is_refused_with_a_time_to_come_back_and_the_rest_is_answered(
    start_server: StartServer, wide_store: Path, path: str
) -> None:
    server = start_server(wide_store, HUBEL_MAX_QUEUE="4", HUBEL_MAX_IMAGES="4", HUBEL_MAX_BATCH="1", HUBEL_THREADS="1")
    responses = asyncio.run(posts_from_many_clients(server.url, [make_image()] * CLIENTS, path))
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


async def posts_from_many_clients(url: str, images: list[bytes], path: str = "/v1/classify") -> list[httpx.Response]:
    async with make_client(url) as client:
        return list(await asyncio.gather(*(client.post(path, content=image) for image in images)))


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/explain"])
def test_what_nobody_waits_for_any_more_is_not_computed(start_server: StartServer, wide_store: Path, path: str) -> None:
    server = start_server(wide_store, HUBEL_MAX_BATCH="1", HUBEL_THREADS="1", **PATIENT)
    image = make_image()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(image)}\r\n\r\n".encode()
    gone = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(40)]
    for connection in gone:
        connection.sendall(head + image)
    with server.client() as client:
        until = time.monotonic() + 30
        while (
            samples(client)["hubel_queue_depth_images"] < 10 and time.monotonic() < until
        ):  # who is gone before is not begun for
            time.sleep(0.005)
        for connection in gone:
            connection.close()
        assert send(client, "/v1/classify", [image]).status_code == 200
        counts = settled(client)
    hung_up = counts[f'hubel_requests_total{{route="{path}",status="499"}}']
    dropped = counts.get('hubel_dropped_images_total{reason="disconnected"}', 0)  # the others left while being decoded
    computed = counts["hubel_batch_size_images_sum"]
    assert hung_up > 5
    assert dropped <= hung_up
    assert computed <= 41 - dropped
    assert computed < 41
    assert counts["hubel_queue_depth_images"] == 0
    assert server.stop() == 0


def settled(client: httpx.Client) -> dict[str, float]:
    """Metrics once nothing is in progress but their own request."""
    until = time.monotonic() + 30
    while (values := samples(client))["hubel_requests_in_progress"] > 1 and time.monotonic() < until:
        time.sleep(0.05)
    return values


def test_a_bad_image_among_good_ones_harms_none_of_them(wide: Server) -> None:
    good, rounds = make_image(), 3
    for _ in range(rounds):
        responses = asyncio.run(posts_from_many_clients(wide.url, [good] * 31 + [good[: len(good) // 2]] + [good] * 32))
        assert [response.status_code for response in responses] == [200] * 31 + [400] + [200] * 32


@pytest.fixture(scope="module")
def workers(start_server: StartServer) -> Iterator[Server]:
    """Two worker processes with a short deadline. SIGTERM ends them too."""
    server = start_server(HUBEL_WORKERS="2", HUBEL_DEADLINE_MS="2000")
    assert len(server.workers()) == 2
    yield server
    assert server.stop() == 0


def test_two_workers_answer_and_their_metrics_are_added_up(workers: Server) -> None:
    responses = asyncio.run(posts_from_many_clients(workers.url, [make_image(color="red")] * 60))
    assert [labels_of("/v1/classify", results_of(response)) for response in responses] == [["red"]] * 60
    name = 'hubel_requests_total{route="/v1/classify",status="200"}'
    assert [one_scrape(workers, name, 60) for _ in range(10)] == [60] * 10


def one_scrape(server: Server, name: str, expected: float) -> float:
    """A value over a new connection, so that either worker may answer; an answer is sent just before it is counted."""
    until = time.monotonic() + 5
    while True:
        with server.client() as client:
            value = samples(client)[name]
        if value == expected or time.monotonic() > until:
            return value


def test_a_body_that_does_not_come_is_refused_at_the_deadline(workers: Server) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", workers.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf of it")
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert time.monotonic() - began >= 2
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    problem = json.loads(body)
    assert problem["code"] == "request_timeout"
    assert problem["detail"].startswith("the body did not arrive within 2000 ms (HUBEL_DEADLINE_MS)")


def test_a_client_may_ask_for_an_earlier_deadline(workers: Server) -> None:
    """It is refused before another one, who asked earlier and waits as long as the service lets him."""
    with socket.create_connection(("127.0.0.1", workers.port), timeout=30) as other, workers.client() as client:
        other.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf of it")

        def slowly() -> Iterator[bytes]:
            time.sleep(0.5)
            yield make_image()

        response = client.post("/v1/classify", content=slowly(), headers={"x-deadline-ms": "100"})
        assert select.select([other], [], [], 0)[0] == []
        detail = assert_problem(response, 408, "request_timeout")["detail"]
        assert "within 100 ms (X-Deadline-Ms); send it faster, or a smaller image, or allow more time" in detail
        assert other.recv(12) == b"HTTP/1.1 408"
        assert results_of(client.post("/v1/classify", content=make_image(), headers={"x-deadline-ms": "999999999"}))


def test_an_answer_that_comes_too_late_is_told_where_the_time_went(workers: Server) -> None:
    slow = encode(Image.new("RGBA", (7000, 7000)), "WEBP", lossless=True, quality=0, method=0)  # decoded in half a second
    with workers.client() as client:
        response = client.post("/v1/classify", content=slow, headers={"x-deadline-ms": "200"})
    detail = assert_problem(response, 504, "deadline_exceeded")["detail"]
    assert detail.startswith("no answer to 1 image within 200 ms (X-Deadline-Ms): ")
    assert detail.endswith("send a smaller image, or allow more time (X-Deadline-Ms, at most 2000), or try again")


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "soon", "", "9" * 10, "\xb2"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(workers: Server, given: str) -> None:
    with workers.client() as client:
        response = client.post("/v1/classify", content=make_image(), headers=[(b"x-deadline-ms", given.encode("latin-1"))])
        assert "it must be a whole number of milliseconds" in assert_problem(response, 422, "invalid_parameter")["detail"]

"""Bodies around the limit, however their length is told, and many at once: no more memory than the limits say."""

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.client import assert_problem, results_of, samples
from tests.conftest import StartServer
from tests.factories import make_image
from tests.hostile.memory import MIB, Peak
from tests.server import Server

pytestmark = pytest.mark.server

LIMIT = 32 * MIB  # HUBEL_MAX_BODY_BYTES
BELOW, ABOVE = LIMIT - MIB, LIMIT + MIB
PIECES = 32 * MIB  # in which a body came, which the C library may keep for the next


def image_of(size: int) -> bytes:
    """A JPEG with zeros after its end."""
    image = make_image(color="green")
    return image + bytes(size - len(image))


def chunked(body: bytes) -> Iterator[bytes]:
    yield from (body[at : at + 65_536] for at in range(0, len(body), 65_536))


@pytest.mark.parametrize("shape", ["with its length", "chunked", "multipart"])
@pytest.mark.parametrize(("size", "status"), [(BELOW, 200), (LIMIT, 200), (ABOVE, 413), (2 * LIMIT, 413)])
def test_a_body_is_taken_up_to_the_limit_and_costs_three_times_it_at_most(
    server: Server, client: httpx.Client, size: int, status: int, shape: str
) -> None:
    body = image_of(size if shape != "multipart" or size > LIMIT else size - 1000)
    sent: dict[str, Any] = {"content": chunked(body) if shape == "chunked" else body}
    if shape == "multipart":
        sent = {"files": {"images": ("cat.jpg", body)}}
    client.post("/v1/classify", content=image_of(BELOW))  # what is made once is there then
    peak = Peak(server.processes())
    answer = client.post("/v1/classify", **sent)
    if status == 200:
        assert results_of(answer)[0]["label"] == "green"
    else:
        assert_problem(answer, status, "body_too_large")
    assert peak.grown() <= 3 * LIMIT + PIECES


@pytest.mark.parametrize("size", [BELOW, ABOVE, 100 * MIB])
def test_a_packed_body_is_refused_whatever_its_size_and_not_unpacked(server: Server, client: httpx.Client, size: int) -> None:
    body = gzip.compress(image_of(size), 1)
    peak = Peak(server.processes())
    for encoding in ("gzip", "deflate", "br", "zstd", "x-gzip, identity"):
        answer = client.post("/v1/classify", content=body, headers={"content-encoding": encoding})
        assert_problem(answer, 415, "unsupported_encoding")
    assert peak.grown() <= LIMIT


def open_body(server: Server, announced: int | None, sent: bytes) -> socket.socket:
    """A request whose body has begun and does not end."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    length = "transfer-encoding: chunked" if announced is None else f"content-length: {announced}"
    body = sent if announced is not None else b"%x\r\n%b\r\n" % (len(sent), sent)
    connection.sendall(f"POST /v1/classify HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode() + body)
    return connection


@pytest.fixture(scope="module")
def narrow(start_server: StartServer) -> Server:
    """A service that holds two bodies of the largest size."""
    return start_server(HUBEL_MAX_BODY_BYTES=str(MIB), HUBEL_MAX_BUFFERED_BYTES=str(2 * MIB), HUBEL_DEADLINE_MS="60000")


def wait_until_held(client: httpx.Client, size: int) -> None:
    until = time.monotonic() + 20
    while (held := samples(client)["hubel_buffered_bytes"]) != size:
        assert time.monotonic() < until, held
        time.sleep(0.02)


def test_bodies_that_together_would_pass_the_buffer_are_refused_until_others_end(narrow: Server) -> None:
    with narrow.client() as client:
        whole = image_of(MIB)
        waiting = [open_body(narrow, announced, bytes(900_000)) for announced in (MIB, None)]
        wait_until_held(client, 1_800_000)
        for content in (whole, chunked(whole)):
            answer = client.post("/v1/classify", content=content)
            problem = assert_problem(answer, 503, "overloaded")
            assert "the limit of 2097152 (HUBEL_MAX_BUFFERED_BYTES)" in problem["detail"]
            assert int(answer.headers["retry-after"]) >= 1
        assert results_of(client.post("/v1/classify", content=make_image(color="red")))[0]["label"] == "red"  # a small one fits
        for connection in waiting:
            connection.close()
        wait_until_held(client, 0)
        assert client.post("/v1/classify", content=whole).status_code == 200


def test_announcing_much_and_sending_little_shuts_nobody_out(narrow: Server) -> None:
    waiting = [open_body(narrow, MIB, sent) for _ in range(25) for sent in (b"", b"x")]
    with narrow.client() as client:
        wait_until_held(client, 25)
        assert results_of(client.post("/v1/classify", content=image_of(MIB)))[0]["label"] == "green"
        for connection in waiting:
            connection.close()
        wait_until_held(client, 0)


@pytest.mark.parametrize(("make", "status"), [(lambda: bytes(MIB), 415), (lambda: image_of(MIB), 200)], ids=["error", "answer"])
def test_places_are_given_back_with_the_answer(narrow: Server, make: Callable[[], bytes], status: int) -> None:
    with narrow.client() as client:
        for _ in range(5):
            assert client.post("/v1/classify", content=make()).status_code == status
            wait_until_held(client, 0)


def test_places_are_given_back_at_the_deadline(start_server: StartServer) -> None:
    server = start_server(HUBEL_MAX_BODY_BYTES=str(MIB), HUBEL_MAX_BUFFERED_BYTES=str(2 * MIB), HUBEL_DEADLINE_MS="500")
    with server.client() as client:
        for _ in range(3):
            with open_body(server, MIB, bytes(900_000)) as connection:
                assert connection.recv(20)[9:12] in (b"408", b"504")
            wait_until_held(client, 0)

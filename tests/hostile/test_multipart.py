"""Forms, JSON and chunks that are made to be slow or large to take apart: refused or answered at once."""

import socket
import statistics
import threading
import time
from collections.abc import Callable
from itertools import cycle

import httpx
import pytest

from tests.client import assert_problem, results_of, send
from tests.factories import make_image
from tests.hostile.memory import MIB, Peak, resident
from tests.server import Server

pytestmark = pytest.mark.server

MAX_SECONDS = 1.0  # measured in the long tier, on a machine that does nothing else
PERIOD = 0.05  # seconds from one large body to the next
FULL = 10 * MIB - 1000
END = b"--xyz--\r\n"


def part(data: bytes, disposition: bytes = b'form-data; name="images"; filename="cat.jpg"', more: bytes = b"") -> bytes:
    return b"--xyz\r\ncontent-disposition: " + disposition + b"\r\n" + more + b"\r\n" + data + b"\r\n"


FORMS: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {  # a maker, and the statuses that are right
    "10,001 parts": (lambda: part(b"x") * 10_001 + END, (413,)),
    "10,001 fields": (lambda: part(b"x", b"form-data; name=k") * 10_001 + END, (400,)),
    "100,000 parts without headers": (lambda: b"--xyz\r\n\r\n\r\n" * 100_000 + END, (400,)),
    "a header of 1 MB": (lambda: part(b"x", b"form-data; filename=" + b"x" * 1_000_000) + END, (400,)),
    "a header of a million options": (lambda: part(b"x", b"form-data" + b";a=b" * 1_000_000) + END, (400,)),
    "a million headers": (lambda: part(b"x", more=b"a: b\r\n" * 1_000_000) + END, (400,)),
    "a header name of 10 MB": (lambda: b"--xyz\r\n" + b"a" * FULL, (400,)),
    "a preamble of 10 MB": (lambda: b"x" * (FULL - 1000) + part(b"x") + END, (400,)),
    "a preamble of 10 MB of lines": (lambda: b"\r\n" * (FULL // 2 - 500) + part(make_image()) + END, (200,)),
    "an epilogue of 10 MB": (lambda: part(make_image()) + END + b"x" * (FULL - 5000), (200,)),
    "no last boundary": (lambda: part(bytes(FULL - 1000)), (400,)),
    "half of the last boundary": (lambda: part(bytes(FULL - 1000)) + END[:4], (400,)),
    "boundaries that are almost one": (lambda: part(b"\r\n--xy" * (FULL // 6 - 100)) + END, (415,)),
    "carriage returns alone": (lambda: part(b"\r" * (FULL - 1000)) + END, (415,)),
    "forms in a form": (lambda: part(part(part(part(b"x") * 3) * 3) * 3) + END, (200,)),  # 27 files, none an image
    "another form in a file": (
        lambda: part(b"--abc\r\n\r\nx\r\n--abc--\r\n", more=b"content-type: multipart/mixed; boundary=abc\r\n") + END,
        (415,),
    ),
    "a transfer encoding": (lambda: part(b"x", more=b"content-transfer-encoding: base64\r\n") + END, (415,)),
}
DOCUMENTS: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    "10 MB of brackets": (lambda: b"[" * FULL, (400,)),
    "brackets where an image should be": (lambda: b'{"images": [' + b"[" * FULL, (400,)),
    "brackets under an unknown name": (lambda: b'{"x": ' + b'{"x":' * (FULL // 6), (400,)),
    "a number of 10 MB": (lambda: b'{"images": [' + b"1" * FULL + b"]}", (400,)),
    "an exponent of 10 MB": (lambda: b'{"images": 1e' + b"1" * FULL + b"}", (400,)),
    "a million strings": (lambda: b'{"images": [' + b'"aGk=",' * 1_000_000 + b'""]}', (413,)),
    "a name 500,000 times": (lambda: b"{" + b'"images": [],' * 500_000 + b'"images": []}', (400,)),
    "a name of 10 MB": (lambda: b'{"' + b"x" * FULL + b'": 1}', (400,)),
    "10 MB of spaces": (lambda: b" " * (FULL - 100) + b'{"images": ["aGk="]}', (415,)),
    "10 MB of escapes": (lambda: b'{"images": ["' + rb"\u0041" * (FULL // 6 - 10) + b'"]}', (400, 415)),
    "base64 of 10 MB": (lambda: b'{"images": ["' + b"A" * (FULL // 4 * 4 - 100) + b'"]}', (415,)),
    "base64 of 10 MB with a fault at its end": (lambda: b'{"images": ["' + b"A" * (FULL - 102) + b'!"]}', (400,)),
}


def ask(client: httpx.Client, body: bytes, content_type: str) -> tuple[int, float]:
    """Status of the answer, which is well formed, and seconds."""
    began = time.perf_counter()
    answer = client.post("/v1/classify", content=body, headers={"content-type": content_type})
    seconds = time.perf_counter() - began
    if answer.status_code != 200:
        assert_problem(answer, answer.status_code, answer.json()["code"])
    return answer.status_code, seconds


CASES = {
    **{name: (*case, "multipart/form-data; boundary=xyz") for name, case in FORMS.items()},
    **{name: (*case, "application/json") for name, case in DOCUMENTS.items()},
}


@pytest.mark.parametrize(("make", "statuses", "content_type"), CASES.values(), ids=CASES)
def test_a_body_made_to_be_slow_is_answered_in_time(
    client: httpx.Client, make: Callable[[], bytes], statuses: tuple[int, ...], content_type: str
) -> None:
    status, _ = ask(client, make(), content_type)
    assert status in statuses  # after the deadline it would be 408 or 504


@pytest.mark.long
@pytest.mark.parametrize(("make", "statuses", "content_type"), CASES.values(), ids=CASES)
def test_a_body_made_to_be_slow_takes_a_second_at_most(
    client: httpx.Client, make: Callable[[], bytes], statuses: tuple[int, ...], content_type: str
) -> None:
    body = make()
    answers = [ask(client, body, content_type) for _ in range(5)]
    assert {status for status, _ in answers} <= {*statuses}
    assert statistics.median(seconds for _, seconds in answers) <= MAX_SECONDS


@pytest.mark.parametrize("length", [257, 8_000])
def test_a_boundary_longer_than_any_is_refused(client: httpx.Client, length: int) -> None:
    status, _ = ask(client, b"x", "multipart/form-data; boundary=" + "x" * length)
    assert status in (400, 415)


def in_chunks(body: bytes) -> bytes:
    """A request whose body comes byte by byte."""
    head = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def exchange(server: Server, sent: bytes, then_close: bool = False) -> bytes:
    """What the service answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sent)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("chunks", [65_537, 1_000_000])
def test_an_image_in_chunks_of_one_byte_is_answered(server: Server, chunks: int) -> None:
    image = make_image(color="red")
    sent = in_chunks(image + bytes(chunks - len(image)))
    peak = Peak(server.processes())
    assert b'"label":"red"' in exchange(server, sent)  # within the deadline
    assert peak.grown() <= 8 * MIB


@pytest.mark.parametrize(
    ("announced", "body", "first"),
    [
        pytest.param("10", bytes(1000), (b"4", b""), id="shorter than it is"),
        pytest.param("-1", b"x", (b"4",), id="negative"),
        pytest.param("9" * 30, b"x", (b"4",), id="beyond all numbers"),
        pytest.param("0x10", b"x", (b"4",), id="hexadecimal"),
        pytest.param("5\r\ncontent-length: 6", b"xxxxxx", (b"4",), id="twice"),
        pytest.param("5\r\ntransfer-encoding: chunked", b"0\r\n\r\n", (b"4",), id="and chunked"),
        pytest.param("99999999999", b"x", (b"4",), id="far over the limit"),
        pytest.param("1000", b"half", (), id="longer than it is"),
    ],
)
def test_a_length_that_lies_is_refused_or_the_connection_closed(
    server: Server, client: httpx.Client, announced: str, body: bytes, first: tuple[bytes, ...]
) -> None:
    head = f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: {announced}\r\n\r\n".encode()
    answer = exchange(server, head + body, then_close=not first)
    assert answer == b"" if not first else answer[9:10] in first
    assert results_of(send(client, "/v1/classify", [make_image(color="red")]))[0]["label"] == "red"


@pytest.mark.long
def test_other_clients_hardly_notice_bodies_made_to_be_slow(server: Server) -> None:
    """The 99th percentile is at most twice what it is with as many well-formed bodies of the same sizes; little memory is
    kept."""

    def requests(bodies: list[tuple[bytes, str]]) -> list[bytes]:
        head = "POST /v1/classify HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n"
        return [head.format(content_type, len(body)).encode() + body for body, content_type in bodies]

    bodies = [(make(), content_type) for make, _, content_type in CASES.values()]
    good = [(make_image() + bytes(len(body)), "image/jpeg") for body, _ in bodies]
    hostile, usual = requests(bodies), requests([(body[: 10 * MIB], content_type) for body, content_type in good])

    sent = list[int]()

    def measure(requests: list[bytes]) -> list[float]:
        stop = threading.Event()

        def annoy() -> None:
            due = time.monotonic()
            for request in cycle(requests):
                if stop.wait(max(0.0, (due := due + PERIOD) - time.monotonic())):
                    return
                exchange(server, request)
                sent.append(1)

        thread = threading.Thread(target=annoy)
        thread.start()
        image, seconds = make_image(), list[float]()
        try:
            with server.client() as client:
                until = time.monotonic() + 15
                while time.monotonic() < until:
                    seconds.append(ask(client, image, "image/jpeg")[1])
                    time.sleep(0.005)
        finally:
            stop.set()
            thread.join()
        return seconds

    measure(hostile)
    baseline, before = measure(usual), resident(server.processes())
    sent.clear()
    during = measure(hostile)
    grown = resident(server.processes()) - before
    slow, usual_slow = (statistics.quantiles(seconds, n=100)[98] for seconds in (during, baseline))
    assert slow <= 2 * usual_slow + 0.01
    assert sum(sent) > 15 / PERIOD / 2
    assert grown <= min(32, 8 * sum(sent) / 100) * MIB

"""The real service over HTTP: what it refuses, with which code, and that it goes on answering."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.errors import HubelError
from tests.client import assert_problem, body_of, labels_of, results_of, send
from tests.factories import make_image, png_header
from tests.server import Server

pytestmark = pytest.mark.server


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "a text file": ("/v1/classify", {"content": b"hello, this is text\n" * 10}, 415, "unsupported_format"),
    "an SVG": ("/v1/classify", {"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, 415, "unsupported_format"),
    "a GIF": ("/v1/features", {"content": make_image("GIF")}, 415, "unsupported_format"),
    "a cut off JPEG": ("/v1/classify", {"content": make_image("JPEG")[:-200]}, 400, "undecodable_image"),
    "a cut off file": ("/v1/top-k", body_of([make_image("PNG")[:-200]], "multipart"), 400, "undecodable_image"),
    "an empty file": ("/v1/top-k", body_of([b""], "multipart"), 400, "undecodable_image"),
    "an empty body": ("/v1/classify", {"content": b""}, 400, "malformed_request"),
    "a body of 40 MB": ("/v1/classify", {"content": bytes(40_000_000)}, 413, "body_too_large"),
    "a huge image": ("/v1/classify", {"content": png_header(60_000, 60_000)}, 413, "image_too_large"),
    "many pixels": ("/v1/classify", {"content": png_header(11_000, 11_000)}, 413, "image_too_large"),
    "33 images": ("/v1/classify", body_of([b"x"] * 33, "multipart"), 413, "too_many_images"),
    "a compressed body": (
        "/v1/classify",
        {"content": make_image(), "headers": {"content-encoding": "gzip"}},
        415,
        "unsupported_encoding",
    ),
    "a text": (
        "/v1/classify",
        {"content": make_image(), "headers": {"content-type": "text/plain"}},
        415,
        "unsupported_media_type",
    ),
    "JSON of another shape": ("/v1/classify", {"json": {"image": "aGk="}}, 400, "malformed_request"),
    "JSON that is not UTF-8": (
        "/v1/classify",
        {"content": b'{"images": ["\xff"]}', "headers": {"content-type": "application/json"}},
        400,
        "malformed_request",
    ),
    "text that is not base64": ("/v1/classify", {"json": {"images": ["data:image/png;base64,aGk=!"]}}, 400, "malformed_request"),
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
    "an unknown class": ("/v1/explain?class=cat", {"content": make_image()}, 422, "invalid_parameter"),
    "an unknown parameter": ("/v1/classify?top=3", {"content": make_image()}, 422, "invalid_parameter"),
    "an unknown path": ("/v1/classfy", {"content": make_image()}, 404, "unknown_path"),
    "a path out of the page": ("/page/..%2f..%2fsettings", {}, 404, "unknown_path"),
    "a trailing slash": ("/v1/classify/", {"content": make_image()}, 404, "unknown_path"),
    "feedback on nothing": ("/v1/feedback", {"json": {"answer": "nobody-asked", "label": "red"}}, 400, "invalid_answer"),
    "a path out of here": ("/v1/%2e%2e/%2e%2e/etc/passwd", {}, 404, "unknown_path"),
}


@pytest.mark.parametrize(("path", "body", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_with_its_code_and_the_next_good_one_is_answered(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(client.post(path, **body), status, code)
    assert labels_of("/v1/classify", results_of(send(client, "/v1/classify", [make_image(color="blue")], "raw"))) == ["blue"]


def test_every_code_but_that_of_our_own_faults_is_provoked() -> None:
    # Below, in test_server_load.py, test_server_process.py and service/test_protocol.py.
    elsewhere = {"wrong_method", "overloaded", "deadline_exceeded", "request_timeout", "draining", "head_too_large"}
    elsewhere |= {"not_explainable"}  # in test_server_explain.py
    elsewhere |= {"no_index", "unknown_thumbnail"}  # in test_server_similar.py
    elsewhere |= {"unauthorized", "rate_limited", "cors_refused", "wrong_host", "foreign_answer"}  # in test_server_access.py
    elsewhere |= {"unknown_answer", "expired_answer"}  # in test_server_feedback.py
    caused = {code for _, _, _, code in REFUSED.values()} | elsewhere
    kinds = [kind for base in HubelError.__subclasses__() for kind in base.__subclasses__()]
    assert caused == {kind.code for kind in kinds} - {"internal_error", "out_of_memory", "kept_unavailable"}


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
    problem = assert_problem(client.post("/v1/classify", content=png_header(70_000, 10)), 413, "image_too_large")
    assert "70000x10 pixels, the limit is 65500 a side (HUBEL_MAX_SIDE_PIXELS)" in problem["detail"]


def test_a_body_without_an_announced_length_is_limited_too(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
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


@pytest.mark.parametrize("target", ["//", "/..%2f", "/%2e%2e/", "/page/..%2fapp.js", "/page/%00", "/page//app.js", "."])
def test_no_way_of_writing_a_path_leads_out_of_the_page(server: Server, target: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert re.match(rb"HTTP/1.1 40[04] ", answer), answer[:200]
    assert b"application/problem+json" in answer

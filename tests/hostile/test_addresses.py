"""Addresses and paths where an image should be: refused, and nothing is fetched or read."""

import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from tests.client import assert_problem

pytestmark = pytest.mark.server


@dataclass
class Canary:
    """Listens on a port of this machine and counts who connects."""

    port: int
    connections: list[str] = field(default_factory=list[str])


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        found = Canary(listener.getsockname()[1])

        def count() -> None:
            while True:
                try:
                    connection, address = listener.accept()
                except OSError:
                    return
                found.connections.append(str(address))
                connection.close()

        thread = threading.Thread(target=count)
        thread.start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


ADDRESSES = (
    "http://127.0.0.1:{port}/cat.jpg",
    "http://localhost:{port}/cat.jpg",
    "http://[::1]:{port}/cat.jpg",
    "http://2130706433:{port}/cat.jpg",
    "http://0x7f000001:{port}/cat.jpg",
    "http://0177.0.0.1:{port}/cat.jpg",
    "http://0.0.0.0:{port}/cat.jpg",
    "http://127.0.0.1.nip.io:{port}/cat.jpg",
    "https://user:password@127.0.0.1:{port}/?redirect=http://169.254.169.254/",
    "//127.0.0.1:{port}/cat.jpg",
    "ftp://127.0.0.1:{port}/cat.jpg",
    "gopher://127.0.0.1:{port}/_GET",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "/etc/passwd",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_wherever_it_stands_and_nobody_is_called(
    client: httpx.Client, canary: Canary, address: str
) -> None:
    text = address.format(port=canary.port)
    raw = text.encode()
    encoded = b64encode(raw).decode()
    for body in ({"images": [text]}, {"images": text}, {"images": [{"url": text}]}, {"url": text}, {"image": text}):
        assert_problem(client.post("/v1/classify", json=body), 400, "malformed_request")
    assert_problem(client.post("/v1/classify", json={"images": [encoded]}), 415, "unsupported_format")
    assert_problem(client.post("/v1/classify", files={"images": (None, text)}), 400, "malformed_request")
    assert_problem(client.post("/v1/classify", files={"images": (text, raw)}), 415, "unsupported_format")
    assert_problem(client.post("/v1/classify", data={"images": text}), 415, "unsupported_format")
    assert_problem(client.post("/v1/classify", content=raw), 415, "unsupported_format")
    for kind, code in (("image/jpeg", "unsupported_format"), ("text/uri-list", "unsupported_media_type")):
        assert_problem(client.post("/v1/classify", content=raw, headers={"content-type": kind}), 415, code)
    assert_problem(client.post("/v1/classify", params={"url": text}, content=b"x"), 422, "invalid_parameter")
    assert canary.connections == []


def test_the_canary_would_tell(canary: Canary) -> None:
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, canary.port), timeout=10).close()
    with socket.create_connection(("127.0.0.1", canary.port), timeout=10) as connection:
        assert connection.recv(1) == b""  # it has been accepted, and so have those before
    assert len(canary.connections) == 3
    canary.connections.clear()


def test_svg_and_playlists_that_name_addresses_are_no_images(client: httpx.Client, canary: Canary) -> None:
    address = f"http://127.0.0.1:{canary.port}/"
    for text in (
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}"/></svg>',
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "{address}">]><svg>&x;</svg>',
        f"#EXTM3U\n{address}",
        f"push graphic-context\nimage over 0,0 0,0 '{address}'",
        json.dumps({"$ref": address}),
    ):
        assert_problem(client.post("/v1/classify", content=text.encode()), 415, "unsupported_format")
    assert canary.connections == []

"""Photographs -> HTTP requests, made once before anything is measured: raw bodies or forms of one or several files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.systems import System

BOUNDARY = "----a-boundary-that-no-photograph-holds"
IMAGES = 16  # in a request of several
FORMS = 24  # different requests of several images: each is as large as its photographs together


@dataclass(frozen=True)
class Bodies:
    """What one client sends in rotation to one path."""

    path: str
    content_type: str
    bodies: Sequence[bytes]
    images: int = 1  # in each body
    method: str = "POST"

    @cached_property
    def requests(self) -> list[bytes]:
        """Whole HTTP/1.1 requests, head and body."""
        return [
            f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
            for body in self.bodies
        ]


TRIVIAL = Bodies("/livez", "text/plain", [b""], method="GET")  # what shows how fast a client can be


def single(system: System, photos: Sequence[bytes]) -> Bodies:
    """Requests of one photograph, in the way that the system takes one."""
    if system.content == "raw":
        return Bodies(system.path, "image/jpeg", photos)
    return Bodies(system.path, FORM, [form([photo], system.field) for photo in photos])


def several(system: System, photos: Sequence[bytes], count: int = IMAGES) -> Bodies:
    """Requests of ``count`` photographs; from one request to the next they move on by ``count``."""
    chosen = [[photos[(i * count + k) % len(photos)] for k in range(count)] for i in range(FORMS)]
    return Bodies(system.path, FORM, [form(images, system.field) for images in chosen], count)


FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(images: Sequence[bytes], field: str) -> bytes:
    """A multipart/form-data body with every image as a file of the same field."""
    parts: list[bytes] = []
    for i, image in enumerate(images):
        head = f'Content-Disposition: form-data; name="{field}"; filename="{i}.jpg"\r\nContent-Type: image/jpeg'
        parts += [f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode(), image, b"\r\n"]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])

"""A fake of the service: it answers /v1/info, and whatever else with the mean colour of each image, or as it is told."""

import base64
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError


@dataclass
class Script:
    """How the fake behaves, and what it was asked."""

    key: str | None = None
    max_images: int = 4
    max_body_bytes: int = 100_000
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list[tuple[int, dict[str, str]]])  # the next answers
    most: int = 1000  # more images are 413 too_many_images
    broken: object = None  # what is answered instead
    batches: list[int] = field(default_factory=list[int])  # images of each request for features that was answered
    paths: list[str] = field(default_factory=list[str])
    result: Callable[[bytes], dict[str, Any]] = field(default_factory=lambda: mean_colour)


def mean_colour(file: bytes) -> dict[str, Any]:
    """The result for an image: three numbers, or the error."""
    try:
        pixels = np.asarray(Image.open(BytesIO(file)).convert("RGB"), np.float32)
    except UnidentifiedImageError:
        return {"error": {"status": 415, "code": "unsupported_format", "detail": "the file is no image"}}
    return {"features": base64.b64encode(pixels.mean((0, 1)).astype("<f4").tobytes()).decode()}


def images_of(content_type: str, body: bytes) -> list[bytes]:
    if not content_type.startswith("multipart/form-data"):
        return [body]
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return [part.get_payload(decode=True) for part in message.iter_parts()]  # type: ignore[attr-defined, misc]


class Handler(BaseHTTPRequestHandler):
    script = Script()

    def do_GET(self) -> None:
        limits = {"max_images": self.script.max_images, "max_body_bytes": self.script.max_body_bytes}
        self.answer({"model": "fake:1", "limits": limits})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.script.paths.append(self.path)
        images = images_of(self.headers["Content-Type"], body)
        if self.script.refusals:
            status, headers = self.script.refusals.pop(0)
            return self.answer({"detail": f"refused {status}"}, status, headers)
        if len(images) > self.script.most:
            return self.answer({"detail": "too many images"}, 413)
        self.script.batches.append(len(images))
        results = [self.script.result(image) for image in images]
        if len(results) == 1 and "error" in results[0]:
            return self.answer(results[0]["error"], results[0]["error"]["status"])
        whole = {"model": "fake", "version": 1, "results": results}
        self.answer(whole if self.script.broken is None else self.script.broken)

    def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.script.key and self.headers.get("Authorization") != f"Bearer {self.script.key}":
            content, status = {"detail": "the key is missing or wrong"}, 401
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(script: Script) -> Generator[str]:
    """The address of a fake that behaves as ``script`` says, as long as the block lasts."""
    handler = type("Scripted", (Handler,), {"script": script})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()

"""The page at /, for a browser: the files of service/web, read once at the start, and the headers that they go out with.

A request's path is looked up among the names of a table; none ever reaches the file system. The page needs no key, as it holds
nothing that a stranger may not know: whatever it shows it asks the API for, with the key that was typed into it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.http.request import Handler, Reply, Request

WEB = Path(__file__).parents[1] / "web"
INDEX = "index.html"
ROUTE = "/"  # what all of its files are counted as
BELOW = "/page/"  # where the files beside the first one are
METHODS = ("GET", "HEAD")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
POLICY = {  # Content-Security-Policy: the page runs its own files, asks its own service and shows pictures; nothing else
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "require-trusted-types-for": "'script'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{what} {sources}" for what, sources in POLICY.items()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # kept, and asked about each time: a new version of the service is a new page
}


@dataclass(frozen=True)
class File:
    """A file of the page in memory. etag: of its bytes, as the header writes it."""

    body: bytes
    media_type: str
    etag: str


class Page:
    """The files of a folder, by the path that they are asked for at. Raises OSError where they cannot be read."""

    def __init__(self, folder: Path = WEB) -> None:
        found = sorted(path for path in folder.iterdir() if path.suffix in TYPES)
        self.files: Mapping[str, File] = {path_of(path.name): read(path) for path in found}
        self.route: tuple[str, Handler] = ("GET", self.answer)

    def opens(self, request: Request) -> bool:
        """Whether the request is for a file and needs no key."""
        return request.method in METHODS and request.path in self.files

    async def answer(self, request: Request) -> Reply:
        """The file at the request's path, or that the one its sender has is still right. A query changes nothing."""
        file = self.files[request.path]
        headers = HEADERS | {"etag": file.etag}
        if is_among(file.etag, request.headers.get("if-none-match", "")):
            return Reply(b"", 304, file.media_type, headers)
        return Reply(file.body, media_type=file.media_type, headers=headers)


def path_of(name: str) -> str:
    return ROUTE if name == INDEX else BELOW + name


def read(path: Path) -> File:
    body = path.read_bytes()
    return File(body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def is_among(etag: str, given: str) -> bool:
    """Whether an If-None-Match header names the tag; weak ones count, as the bytes are the same."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in given.split(","))

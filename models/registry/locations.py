"""Where packages are pulled from and pushed to: a folder, an http(s) address, or object storage through fsspec.

Each is read and written file by file, by names such as NAME/VERSION/FILE below it.
"""

import shutil
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import urlsplit

from models import files
from models.errors import PackageError
from models.terminal import program

SECONDS = 60.0  # without a byte from an http(s) address
NOT_FOUND = 404
MAX_REASON = 200  # characters of what a server says


class Folder:
    """A folder of this machine, to read from; what is put into one is a store, see transfer.py."""

    def __init__(self, path: Path) -> None:
        self.path, self.address = path, str(path)

    def open(self, name: str) -> BinaryIO:
        """A file to read; raises PackageError, FileNotFoundError where there is none."""
        with told(f"{self.path}/{name}"):
            return files.open_plain(self.path / name)


class StayThere(urllib.request.HTTPRedirectHandler):
    """Follows a redirect on the same host and port, or from http to https on the same host, and no other: what a server
    names need not be an address that this machine shall ask."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
        safer = (old.scheme, new.scheme) == ("http", "https") and old.hostname == new.hostname and not (old.port or new.port)
        if not (same or safer):
            fp.close()
            raise PackageError(
                f"{req.full_url} leads elsewhere, to {newurl[:MAX_REASON]}, and is not followed; where you trust that, name it "
                "in place of this address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Web:
    """An http(s) address: GET reads, PUT writes, as WebDAV servers and many object stores have it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def open(self, name: str) -> BinaryIO:
        """A file to read; raises PackageError, FileNotFoundError where there is none."""
        return self._ask(urllib.request.Request(f"{self.address}/{name}"))

    def put(self, name: str, source: BinaryIO, size: int) -> None:
        """Write a file of ``size`` bytes; raises PackageError."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self._ask(urllib.request.Request(f"{self.address}/{name}", source, headers, method="PUT")).close()

    def _ask(self, request: urllib.request.Request) -> BinaryIO:
        try:
            return cast(BinaryIO, urllib.request.build_opener(StayThere).open(request, timeout=SECONDS))
        except urllib.error.HTTPError as err:
            err.close()
            if err.code == NOT_FOUND and request.get_method() == "GET":
                raise FileNotFoundError(2, "No such file", request.full_url) from err
            raise PackageError(f"{request.full_url} answers {err.code} {str(err.reason)[:MAX_REASON]}") from err
        except (OSError, ValueError, HTTPException) as err:  # nobody is there, or it is no address
            reason = getattr(err, "reason", err)
            text = str(getattr(reason, "strerror", None) or reason)[:MAX_REASON]
            raise PackageError(f"{request.full_url} cannot be reached: {text}") from err


class Storage:
    """Object storage and whatever else fsspec knows: s3://, gs://, az://, sftp://, …, by its own configuration."""

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            import fsspec
        except ImportError as err:
            raise PackageError(f"{address} needs fsspec, which is not installed: {program.extra('remote')}") from err
        with told(address):
            self.files, self.root = cast(Any, fsspec).core.url_to_fs(address)

    def open(self, name: str) -> BinaryIO:
        """A file to read; raises PackageError, FileNotFoundError where there is none."""
        with told(f"{self.address}/{name}"):
            return self.files.open(f"{self.root}/{name}", "rb")

    def put(self, name: str, source: BinaryIO, size: int) -> None:
        """Write a file of ``size`` bytes; raises PackageError."""
        path = f"{self.root}/{name}"
        with told(f"{self.address}/{name}"):
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self.files.open(path, "wb") as target:
                shutil.copyfileobj(source, target)
            if (found := self.files.size(path)) != size:
                raise OSError(f"{found} of {size} bytes arrived")


@contextmanager
def told(address: str) -> Generator[None]:
    """What a library or the network raises, as one line; FileNotFoundError and PackageError stay as they are."""
    try:
        yield
    except (FileNotFoundError, PackageError):
        raise
    except Exception as err:  # their classes share no base
        text = str(getattr(err, "strerror", None) or err)
        raise PackageError(f"{address} cannot be used: {' '.join(text.split())[:300] or type(err).__name__}") from err


Place = Folder | Web | Storage


def find(address: str) -> Place:
    """The place that an address or a path means; raises PackageError where fsspec does not know it."""
    scheme, colon, rest = address.rstrip("/").partition("://")
    if not colon or scheme == "file":
        return Folder(Path(rest if colon else address))
    return (Web if scheme in ("http", "https") else Storage)(address.rstrip("/"))

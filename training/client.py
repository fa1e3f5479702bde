"""Feature vectors from a running service, over HTTP: in batches that it takes, as patiently as it asks for.

Neighbour: probe.py fits a head to them. docs/api.md describes the requests.
"""

import base64
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from training.errors import ServiceError

Vector = NDArray[np.float32]
TIMEOUT = 60  # seconds without a byte
PATIENCE = 300  # seconds in which a request is not answered
ROOM = 4096  # bytes of a form around its images, at most for each
OF_AN_IMAGE = {400, 413, 415}  # what a single image can be refused with
TOO_MUCH = {413, 504}  # what fewer images may help against
BUSY = {429, 503, 504}


class Answer(NamedTuple):
    """content: of its JSON, None where it is none. wait: seconds to wait before the next try."""

    status: int
    content: Any
    wait: float


class Service:
    """The service at ``url``, asked one request after the other; ``key`` is its API key where it wants one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ServiceError(f"{url} is no address of a service; give one such as http://127.0.0.1:3000")
        kind = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        self.url, self.model, self.dimensions = url, "", 0
        self._path = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._max_images, self._max_bytes = 1, 0

    def connect(self) -> None:
        """Ask for the model and the limits. Raises ServiceError."""
        try:
            answer = self._ask("GET", "/v1/info")
        except (OSError, HTTPException) as err:
            raise ServiceError(f"no service answers at {self.url}: {_said(err)}; start one or name another") from err
        if answer.status != 200:
            raise self._refused(answer)
        try:
            self.model, limits = str(answer.content["model"]), answer.content["limits"]
            self._max_images, self._max_bytes = int(limits["max_images"]), int(limits["max_body_bytes"])
        except (KeyError, TypeError, ValueError) as err:
            raise ServiceError(f"{self.url} is no service of this kind: its /v1/info names no model and limits") from err

    def features(self, files: Iterable[bytes]) -> Iterator[Vector | str]:
        """For each file its feature vector (dimensions,) as the network gives it, or why it has none.

        Raises:
            ServiceError: the service answers otherwise than it should, or refuses for PATIENCE seconds.
        """
        batch: list[bytes] = []
        for file in files:
            if batch and (len(batch) == self._max_images or self._too_long([*batch, file])):
                yield from self._answers(batch)
                batch = []
            batch.append(file)
        if batch:
            yield from self._answers(batch)

    def _too_long(self, files: Sequence[bytes]) -> bool:
        return sum(len(file) + ROOM for file in files) - ROOM > self._max_bytes

    def _answers(self, files: Sequence[bytes]) -> list[Vector | str]:
        if self._too_long(files):  # one; sent, it would be refused half-way
            return [f"it has {len(files[0]):,} bytes, the service takes {self._max_bytes:,}"]
        answer = self._patiently(files)
        if answer.status == 200:
            return self._vectors(answer.content, len(files))
        if len(files) > 1 and answer.status in TOO_MUCH:
            middle = len(files) // 2
            return self._answers(files[:middle]) + self._answers(files[middle:])
        if len(files) == 1 and answer.status in OF_AN_IMAGE:
            return [_detail(answer.content)]
        raise self._refused(answer)

    def _patiently(self, files: Sequence[bytes]) -> Answer:
        """The answer; waits where the service asks for it, and where it is away for a moment."""
        end = time.monotonic() + PATIENCE
        content_type, body = _form(files) if len(files) > 1 else ("application/octet-stream", files[0])
        while True:
            try:
                answer = self._ask("POST", "/v1/features?normalize=false&encoding=base64", body, content_type)
                wait = answer.wait
                if answer.status not in BUSY or (len(files) > 1 and answer.status in TOO_MUCH) or time.monotonic() + wait > end:
                    return answer
            except (OSError, HTTPException) as err:
                self._connection.close()
                wait = 1.0
                if time.monotonic() + wait > end:
                    raise ServiceError(f"{self.url} does not answer any more: {_said(err)}") from err
            time.sleep(wait)

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str | None = None) -> Answer:
        """Raises OSError or HTTPException where no answer comes."""
        headers = self._headers | ({"Content-Type": content_type} if content_type else {})
        self._connection.request(method, self._path + path, body, headers)
        response = self._connection.getresponse()
        try:
            content = json.loads(response.read())
        except ValueError:
            content = None
        return Answer(response.status, content, _seconds(response.headers.get("Retry-After")))

    def _vectors(self, content: Any, n: int) -> list[Vector | str]:
        try:
            model, found = f"{content['model']}:{content['version']}", [_vector(result) for result in content["results"]]
        except (KeyError, TypeError, ValueError) as err:
            raise ServiceError(f"{self.url} answered something else than features: {_said(err)}") from err
        if model != self.model:
            raise ServiceError(f"{self.url} went from {self.model} to {model} in between, whose features differ; begin again")
        lengths = {len(vector) for vector in found if not isinstance(vector, str)}
        self.dimensions = self.dimensions or max(lengths, default=0)
        if len(found) != n or lengths - {self.dimensions}:
            raise ServiceError(f"{self.url} answered {len(found)} results of {lengths} numbers for {n} images")
        return found

    def _refused(self, answer: Answer) -> ServiceError:
        hint = "; put its key into the environment variable HUBEL_API_KEY" if answer.status == 401 else ""
        return ServiceError(f"{self.url} refused with status {answer.status}: {_detail(answer.content)}{hint}")


def _form(files: Sequence[bytes]) -> tuple[str, bytes]:
    """Content type and body of multipart/form-data."""
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="image"\r\n\r\n'.encode()
    parts = b"".join(head + file + b"\r\n" for file in files)
    return f"multipart/form-data; boundary={boundary}", parts + f"--{boundary}--\r\n".encode()


def _vector(result: Any) -> Vector | str:
    """Raises KeyError, TypeError or ValueError where it is none."""
    if "error" in result:
        return str(result["error"]["detail"])
    vector = np.frombuffer(base64.b64decode(result["features"], validate=True), "<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a feature is not a finite number")
    return vector


def _detail(problem: Any) -> str:
    """What an answer that is none gives as its reason (RFC 9457)."""
    return str(problem["detail"]) if isinstance(problem, dict) and "detail" in problem else "it gives no reason"


def _said(err: Exception) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def _seconds(retry_after: str | None) -> float:
    """At least a tenth, so that a service is not asked in a tight loop."""
    return max(float(retry_after), 0.1) if retry_after and retry_after.isdecimal() else 1.0

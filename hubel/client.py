"""A client of a running service: one image or many, in batches that it takes, as patiently as it asks for.

docs/api.md describes the requests.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import msgspec
import numpy as np
from numpy.typing import NDArray

from hubel.errors import ServiceError
from models.package.prediction import Classification, Explanation, Ranking
from models.package.similar import Similar

Image = bytes | str | os.PathLike[str]  # a file in memory, or its path
Vector = NDArray[np.float32]
T = TypeVar("T")
URL = "http://127.0.0.1:3000"
TIMEOUT = 60  # seconds without a byte
PATIENCE = 300  # seconds in which a request is not answered
ROOM = 4096  # bytes of a form around its images, at most for each
TOO_LONG = "body_too_large"  # the code of a file that is not sent
OF_AN_IMAGE = {400, 413, 415}  # what a single image can be refused with
TOO_MUCH = {413, 504}  # what fewer images may help against
BUSY = {429, 503, 504}
JSON = "application/json"


class Refusal(NamedTuple):
    """In the place of an image that the service does not take: why, and the code that docs/api.md lists."""

    reason: str
    code: str = ""


class Reply(NamedTuple):
    """content: of its JSON, None where it is none. wait: seconds to wait before the next try."""

    status: int
    content: Any
    wait: float


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked of images: where, how one result is read, and whether answers of two versions can stand side by side."""

    path: str
    read: Callable[[Any], T]
    of_any_version: bool = True


class Client:
    """The service at ``url``, asked one request after the other; ``key``, or HUBEL_API_KEY, is its API key where it wants one.

    An image is the bytes of a JPEG, PNG or WebP file, or its path. Each method raises ServiceError where the service answers
    otherwise than it should, refuses for PATIENCE seconds, or does not take the image; those for many images give a Refusal in
    its place. Not for several threads at once.
    """

    def __init__(self, url: str = URL, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ServiceError(f"{url} is no address of a service; give one such as {URL}")
        kind = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        key = key or os.environ.get("HUBEL_API_KEY")
        self.url, self.model, self.dimensions = url, "", 0
        self._path = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._max_images, self._max_bytes = 1, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; what is asked afterwards opens another."""
        self._connection.close()

    def classify(self, image: Image) -> Classification:
        """The likeliest class."""
        return _one(self.classify_all([image]))

    def classify_all(self, images: Iterable[Image]) -> Iterator[Classification | Refusal]:
        return self._ask_all(Question("/v1/classify", _reader(Classification)), images)

    def top_k(self, image: Image, k: int = 5) -> Ranking:
        """The k likeliest classes."""
        return _one(self.top_k_all([image], k))

    def top_k_all(self, images: Iterable[Image], k: int = 5) -> Iterator[Ranking | Refusal]:
        return self._ask_all(Question(f"/v1/top-k?k={k}", _reader(Ranking)), images)

    def features(self, image: Image, normalize: bool = True) -> Vector:
        """The feature vector (dimensions,), of length 1 with ``normalize``, else as the network gives it."""
        return _one(self.features_all([image], normalize))

    def features_all(self, images: Iterable[Image], normalize: bool = True) -> Iterator[Vector | Refusal]:
        path = f"/v1/features?normalize={str(normalize).lower()}&encoding=base64"
        return self._ask_all(Question(path, self._vector, of_any_version=False), images)

    def explain(self, image: Image, label: str | None = None) -> Explanation:
        """Which places of the image speak for ``label``, or for the likeliest class."""
        return _one(self.explain_all([image], label))

    def explain_all(self, images: Iterable[Image], label: str | None = None) -> Iterator[Explanation | Refusal]:
        asked = "" if label is None else f"?class={quote(label, safe='')}"
        return self._ask_all(Question(f"/v1/explain{asked}", _reader(Explanation)), images)

    def similar(self, image: Image, k: int = 10) -> Similar:
        """The k images of the service's index that are most like it. Raises ServiceError where the live version has none."""
        return _one(self.similar_all([image], k))

    def similar_all(self, images: Iterable[Image], k: int = 10) -> Iterator[Similar | Refusal]:
        return self._ask_all(Question(f"/v1/similar?k={k}", _reader(Similar)), images)

    def feedback(self, answer: str | Classification | Ranking, label: str | None = None, *, wrong: bool = False) -> bool:
        """Say which label would have been right, or, without one, whether the answer is wrong; whether it was right.

        answer: of an earlier call, or its ``answer`` alone."""
        said: dict[str, object] = {"wrong": wrong} if label is None else {"label": label}
        body = json.dumps({"answer": _token(answer)} | said).encode()
        return bool(self._told("POST", "/v1/feedback", lambda content: content["results"][0]["right"], body))

    def delete(self, answer: str | Classification | Ranking) -> int:
        """Delete what the service keeps of the request that an answer belongs to; of how many images that was."""
        return int(self._told("DELETE", f"/v1/feedback/{quote(_token(answer), safe='')}", lambda content: content["deleted"]))

    def connect(self) -> None:
        """Ask for the model and the limits. Raises ServiceError."""
        try:
            reply = self._ask("GET", "/v1/info")
        except (OSError, HTTPException) as err:
            raise ServiceError(f"no service answers at {self.url}: {_said(err)}; start one or name another") from err
        if reply.status != 200:
            raise self._refused(reply)
        try:
            self.model, limits = str(reply.content["model"]), reply.content["limits"]
            self._max_images, self._max_bytes = int(limits["max_images"]), int(limits["max_body_bytes"])
        except (KeyError, TypeError, ValueError) as err:
            raise ServiceError(f"{self.url} is no service of this kind: its /v1/info names no model and limits") from err

    def _ask_all(self, question: Question[T], images: Iterable[Image]) -> Iterator[T | Refusal]:
        if not self.model:
            self.connect()
        batch: list[bytes] = []
        for file in map(_content, images):
            if batch and (len(batch) == self._max_images or self._too_long([*batch, file])):
                yield from self._answers(question, batch)
                batch = []
            batch.append(file)
        if batch:
            yield from self._answers(question, batch)

    def _too_long(self, files: Sequence[bytes]) -> bool:
        return sum(len(file) + ROOM for file in files) - ROOM > self._max_bytes

    def _answers(self, question: Question[T], files: Sequence[bytes]) -> list[T | Refusal]:
        if self._too_long(files):  # one; sent, it would be refused half-way
            return [Refusal(f"it has {len(files[0]):,} bytes, the service takes {self._max_bytes:,}", TOO_LONG)]
        several = len(files) > 1
        content_type, body = _form(files) if several else ("application/octet-stream", files[0])
        reply = self._patiently("POST", question.path, body, content_type, TOO_MUCH if several else ())
        if reply.status == 200:
            return self._results(question, reply.content, len(files))
        if several and reply.status in TOO_MUCH:
            middle = len(files) // 2
            return self._answers(question, files[:middle]) + self._answers(question, files[middle:])
        if not several and reply.status in OF_AN_IMAGE:
            return [Refusal(_detail(reply.content), _code(reply.content))]
        raise self._refused(reply)

    def _patiently(self, method: str, path: str, body: bytes | None, content_type: str, given_up: Iterable[int] = ()) -> Reply:
        """The answer; waits where the service asks for it, but with a status that is given up, and where it is away for a
        moment."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                reply = self._ask(method, path, body, content_type)
                wait = reply.wait
                if reply.status not in BUSY or reply.status in given_up or time.monotonic() + wait > end:
                    return reply
            except (OSError, HTTPException) as err:
                self._connection.close()
                wait = 1.0
                if time.monotonic() + wait > end:
                    raise ServiceError(f"{self.url} does not answer any more: {_said(err)}") from err
            time.sleep(wait)

    def _told(self, method: str, path: str, read: Callable[[Any], Any], body: bytes | None = None) -> Any:
        """What comes of something said of an answer, as ``read`` finds it. Raises ServiceError."""
        reply = self._patiently(method, path, body, JSON)
        if reply.status != 200:
            raise self._refused(reply)
        try:
            return read(reply.content)
        except (KeyError, TypeError, IndexError) as err:
            raise ServiceError(f"{self.url} answered something else than it was asked for: {_said(err)}") from err

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str | None = None) -> Reply:
        """Raises OSError or HTTPException where no answer comes."""
        headers = self._headers | ({"Content-Type": content_type} if content_type else {})
        self._connection.request(method, self._path + path, body, headers)
        response = self._connection.getresponse()
        try:
            content = json.loads(response.read())
        except ValueError:
            content = None
        return Reply(response.status, content, _seconds(response.headers.get("Retry-After")))

    def _results(self, question: Question[T], content: Any, n: int) -> list[T | Refusal]:
        try:
            model, results = f"{content['model']}:{content['version']}", list(content["results"])
            found = [_refusal(r["error"]) if "error" in r else question.read(r) for r in results]
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as err:
            raise ServiceError(f"{self.url} answered something else than it was asked for: {_said(err)}") from err
        if model != self.model and not question.of_any_version:
            raise ServiceError(f"{self.url} went from {self.model} to {model} in between, whose features differ; begin again")
        if len(found) != n:
            raise ServiceError(f"{self.url} answered {len(found)} results for {n} images")
        self.model = model
        return found

    def _vector(self, result: Any) -> Vector:
        """Raises KeyError, TypeError or ValueError where it is none."""
        vector = np.frombuffer(base64.b64decode(result["features"], validate=True), "<f4").astype(np.float32)
        if not np.isfinite(vector).all():
            raise ValueError("a feature is not a finite number")
        self.dimensions = self.dimensions or len(vector)
        if len(vector) != self.dimensions:
            raise ValueError(f"a vector has {len(vector)} numbers, one before had {self.dimensions}")
        return vector

    def _refused(self, reply: Reply) -> ServiceError:
        hint = "; put its key into the environment variable HUBEL_API_KEY" if reply.status == 401 else ""
        return ServiceError(f"{self.url} refused with status {reply.status}: {_detail(reply.content)}{hint}")


def _one(answers: Iterator[T | Refusal]) -> T:
    """The answer to a single image."""
    (answer,) = answers
    if isinstance(answer, Refusal):
        raise ServiceError(f"the image is refused: {answer.reason}")
    return answer


def _token(answer: str | Classification | Ranking) -> str:
    return answer if isinstance(answer, str) else answer.answer


def _content(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _reader(kind: type[T]) -> Callable[[Any], T]:
    return lambda result: msgspec.convert(result, kind)


def _form(files: Sequence[bytes]) -> tuple[str, bytes]:
    """Content type and body of multipart/form-data."""
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="image"\r\n\r\n'.encode()
    parts = b"".join(head + file + b"\r\n" for file in files)
    return f"multipart/form-data; boundary={boundary}", parts + f"--{boundary}--\r\n".encode()


def _detail(problem: Any) -> str:
    """What an answer that is none gives as its reason (RFC 9457)."""
    return str(problem["detail"]) if isinstance(problem, dict) and "detail" in problem else "it gives no reason"


def _refusal(problem: Any) -> Refusal:
    """Of one image among several. Raises KeyError or TypeError where it is no problem."""
    return Refusal(str(problem["detail"]), _code(problem))


def _code(problem: Any) -> str:
    return str(problem["code"]) if isinstance(problem, dict) and "code" in problem else ""


def _said(err: Exception) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def _seconds(retry_after: str | None) -> float:
    """At least a tenth, so that a service is not asked in a tight loop."""
    return max(float(retry_after), 0.1) if retry_after and retry_after.isdecimal() else 1.0

"""Stage read: request body -> the bytes of each image. Raw body, multipart files, or base64 in JSON; never an address.

The whole body is held in memory, so its limit bounds what a request can cost before it is decoded, and the limit of all
bodies together what many clients can.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from models.image.formats import BEGINNING
from service.errors import (
    BodyTooLarge,
    MalformedRequest,
    Overloaded,
    TooManyImages,
    UnsupportedEncoding,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
DRAIN_FACTOR = 4  # a body of up to this many limits is read to its end, so that the client sees the answer
# And image/*; the last is what curl says by itself.
RAW = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
# Of an array of JSON, a string. Possessive, so that nothing is remembered of what lies behind: that is what takes long
ELEMENT = re.compile(rb'[\[,]\s*+"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+', re.DOTALL)
DATA_URL = re.compile(r"\Adata:[^,]{0,200};base64,", re.IGNORECASE)  # what browsers put before base64 (RFC 2397)
MAX_CONTENT_TYPE = 1000  # characters; a boundary has 70 at most (RFC 2046, section 5.1.1)


class Disconnected(Exception):
    """The client hung up; there is nobody to answer."""


class ImageList(Struct, forbid_unknown_fields=True):
    images: list[bytes]  # which msgspec reads from base64


class AnyList(Struct, forbid_unknown_fields=True):
    images: msgspec.Raw  # as it stands in the body


class BodyBudget:
    """What this process holds of request bodies, in bytes; ``changed`` is called with it."""

    def __init__(self, limit: int, changed: Callable[[int], object] = lambda held: None) -> None:
        self.limit = limit
        self.changed = changed
        self.held = 0

    @contextmanager
    def share(self) -> Generator["Lease"]:
        """One request's part, given back at the end, whatever the end is."""
        share = Lease(self)
        try:
            yield share
        finally:
            share.set(0)


class Lease:
    """Bytes that one request holds."""

    def __init__(self, buffer: BodyBudget) -> None:
        self.buffer = buffer
        self.size = 0

    def set(self, size: int) -> None:
        """Raises Overloaded where it has grown and all together would be too many."""
        self.check(size)
        self.buffer.held += size - self.size
        self.size = size
        self.buffer.changed(self.buffer.held)

    def check(self, size: int) -> None:
        """As ``set``, but takes nothing: a length that was only announced costs nothing yet."""
        others = self.buffer.held - self.size
        if size > self.size and others + size > self.buffer.limit:
            raise Overloaded(
                f"{others} bytes of requests are held in memory and {size} more would pass the limit of {self.buffer.limit} "
                "(HUBEL_MAX_BUFFERED_BYTES); try again in 1 s",
                1,
            )


async def read_body(receive: Receive, headers: Mapping[str, str], max_body_bytes: int, share: Lease, less: str) -> bytes:
    """The body, at most ``max_body_bytes`` long, whether its length was announced or not; ``share`` counts it.

    less: what to send in place of one that is too large, for people.

    Raises:
        UnsupportedEncoding, BodyTooLarge, Overloaded, Disconnected.
    """
    if (encoding := headers.get("content-encoding", "")).strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding(f"content-encoding is {encoding[:50]!r}; send the body as it is, nothing is unpacked here")
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > DRAIN_FACTOR * max_body_bytes:
        raise _too_large(announced, max_body_bytes, less)
    if announced.isdigit():
        share.check(min(int(announced), max_body_bytes))
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        more = message.get("more_body", False)
        if size <= max_body_bytes:
            share.set(size)
            chunks.append(chunk)
        elif chunks:
            chunks.clear()
            share.set(0)
        if size > DRAIN_FACTOR * max_body_bytes:
            break
    if size > max_body_bytes:
        raise _too_large(f"{size} or more" if more else str(size), max_body_bytes, less)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class Signal(asyncio.Event):
    """Of a request: more of its body is here, or its client is gone, whereupon ``then`` is called too."""

    then: Callable[[], object] | None = None

    def set(self) -> None:
        super().set()
        if self.then is not None:
            self.then()


class WhileConnected:
    """Cancel what is awaited inside as soon as the client hangs up. For after the body, which is all that clients send.

    Raises:
        Disconnected: it did.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.gone = False
        self.watch: asyncio.Future[Any] | None = None
        cycle = getattr(receive, "__self__", None)  # of our own server; others are asked
        self.cycle: Any = cycle if isinstance(getattr(cycle, "message_event", None), Signal) else None

    def __enter__(self) -> None:
        self.task = asyncio.current_task()
        if self.cycle is None:
            self.watch = asyncio.ensure_future(self.receive())  # what comes after the body is http.disconnect
            self.watch.add_done_callback(self.cancel)
        elif self.cycle.disconnected:
            self.cancel()
        else:
            self.cycle.message_event.then = self.look
            self.cycle.flow.resume_reading()  # or nobody would see that it hangs up

    def look(self) -> None:
        if self.cycle.disconnected:
            self.cancel()

    def cancel(self, _: object = None) -> None:
        if not self.gone:
            self.gone = True
            if self.task:
                self.task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.watch is not None:
            self.watch.remove_done_callback(self.cancel)
            self.watch.cancel()
        else:
            self.cycle.message_event.then = None
        if kind is asyncio.CancelledError and self.gone and self.task and self.task.uncancel() == 0:
            raise Disconnected from None


def _too_large(size: str, limit: int, less: str) -> BodyTooLarge:
    return BodyTooLarge(f"the body has {size} bytes, the limit is {limit} (HUBEL_MAX_BODY_BYTES); send {less}")


def less_than(content_type: str) -> str:
    """What to send in place of a body of images that is too large or too slow, for people."""
    one = check_type(content_type) not in (b"multipart/form-data", b"application/json")
    return "a smaller image" if one else "smaller images, or fewer in one request"


def check_type(content_type: str) -> bytes:
    """The content type without its options; raises UnsupportedMediaType where it is none that can hold images."""
    kind = parse_options_header(content_type)[0] if len(content_type) <= MAX_CONTENT_TYPE else b""
    name = kind.decode("latin-1")
    known = name in RAW or name.startswith("image/") or name in ("multipart/form-data", "application/json")
    if len(content_type) > MAX_CONTENT_TYPE or not known:
        raise UnsupportedMediaType(
            f"the content type is {content_type[:100]!r}; send image/*, application/octet-stream, multipart/form-data, "
            "application/json or none"
        )
    return kind


def images_in(body: bytes, content_type: str, max_images: int) -> list[bytes]:
    """The images of a body, in the order sent. multipart/form-data: every file, whatever its field is called.
    application/json: ``{"images": ["<base64 or data URL>", ...]}``. Any other type that is accepted: the body is one
    image, whatever kind of image the type says it is.

    Raises:
        MalformedRequest: empty, or not what its type says.
        TooManyImages, UnsupportedMediaType.
    """
    kind = check_type(content_type)
    if not body:
        raise MalformedRequest("the body is empty; send the bytes of a JPEG, PNG or WebP file")
    if kind == b"multipart/form-data":
        images = _multipart(body, parse_options_header(content_type)[1].get(b"boundary", b""), max_images)
    elif kind == b"application/json":
        images = _base64(body, max_images)
    else:
        return [body]
    if not images:
        raise MalformedRequest("the request holds no image; send at least one file")
    return images


def _multipart(body: bytes, boundary: bytes, max_images: int) -> list[bytes]:
    """Contents of the parts that have a file name, or are an image. Others are refused: parameters go into the query."""
    files: list[list[bytes]] = []  # each in the pieces that the parser finds: one, but where it looks like a boundary
    header = {"name": b"", "value": b""}
    disposition: dict[bytes, bytes] = {}

    def end_header() -> None:
        if header["name"].lower() == b"content-disposition":
            disposition.update(parse_options_header(header["value"])[1])
        header.update(name=b"", value=b"")

    def end_headers() -> None:
        if b"filename" in disposition and len(files) == max_images:
            raise _too_many(max_images)
        files.append([])

    def end_part() -> None:
        if b"filename" not in disposition:
            files[-1] = [b"".join(files[-1])]
            if not BEGINNING.match(files[-1][0]):
                raise _no_file(disposition.get(b"name", b"").decode("utf-8", "replace"))
            if len(files) > max_images:
                raise _too_many(max_images)
        disposition.clear()

    ended: list[bool] = []
    callbacks: MultipartCallbacks = {
        "on_header_field": lambda data, start, end: header.update(name=header["name"] + data[start:end]),
        "on_header_value": lambda data, start, end: header.update(value=header["value"] + data[start:end]),
        "on_header_end": end_header,
        "on_headers_finished": end_headers,
        "on_part_end": end_part,
        "on_part_data": lambda data, start, end: files[-1].append(data[start:end]),
        "on_end": lambda: ended.append(True),
    }
    try:
        if boundary:
            MultipartParser(boundary, callbacks).write(body)
    except FormParserError as err:
        raise MalformedRequest("the multipart body cannot be parsed; is its boundary the one in Content-Type?") from err
    if not ended:
        raise MalformedRequest("the multipart body has no closing boundary; it was cut off or its boundary is missing")
    return [b"".join(file) for file in files]


def _no_file(field: str) -> MalformedRequest:
    return MalformedRequest(
        f"the form field {field[:50]!r} is not a file: it has no filename and does not begin as a JPEG, PNG or WebP file; "
        "send images as files (curl -F images=@cat.jpg) and parameters in the query string"
    )


def _base64(body: bytes, max_images: int) -> list[bytes]:
    # Quotation marks that none escapes: then strings are counted before any is made. No base64 ends in what escapes one
    many = body.count(b'"') - body.count(b'\\"') > 2 * max_images + 2
    try:
        urls = b'"data:' in body and body.isascii()  # as text of other characters would take four times the memory
        if not many and not urls:
            return msgspec.json.decode(body, type=ImageList).images
        array = memoryview(msgspec.json.decode(body, type=AnyList).images)
        if many and _holds_more(array, max_images):
            raise _too_many(max_images)
        return _decode_urls(array) if urls else msgspec.json.decode(array, type=list[bytes])
    except RecursionError as err:
        raise MalformedRequest('the JSON body is not {"images": ["<base64>", ...]}: it is nested too deeply') from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        reason = str(err).replace("`$[", "`$.images[")
        if found := re.fullmatch(r"Invalid base64 encoded string - at `\$\.(images\[\d+\])`", reason):
            raise MalformedRequest(
                f"{found[1]} is not base64; send the bytes of the file, encoded, without line breaks, or a data URL of them"
            ) from err
        raise MalformedRequest(f'the JSON body is not {{"images": ["<base64>", ...]}}: {reason}') from err


def _holds_more(array: memoryview, strings: int) -> bool:
    """Whether an array of JSON begins with more strings than that."""
    at = 0
    for _ in range(strings + 1):
        if not (found := ELEMENT.match(array, at)):
            return False
        at = found.end()
    return True


def _decode_urls(array: memoryview) -> list[bytes]:
    """Data URLs, and plain base64 among them."""
    texts = msgspec.json.decode(array, type=list[str])
    for i, text in enumerate(texts):
        texts[i] = DATA_URL.sub("", text)
    return msgspec.convert(texts, list[bytes])


def _too_many(limit: int) -> TooManyImages:
    return TooManyImages(f"the request holds more than {limit} images, the limit (HUBEL_MAX_IMAGES); send several requests")

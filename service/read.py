"""Stage read: request body -> the bytes of each image. Raw body, multipart files, or base64 in JSON; never an address.

The whole body is held in memory, so its limit bounds what a request can cost before it is decoded.
"""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BodyTooLarge, MalformedRequest, TooManyImages, UnsupportedEncoding

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
DRAIN_FACTOR = 4  # a body of up to this many limits is read to its end, so that the client sees the answer


class Disconnected(Exception):
    """The client hung up; there is nobody to answer."""


class ImageList(Struct, forbid_unknown_fields=True):
    images: list[str]


async def read_body(receive: Receive, headers: Mapping[str, str], max_body_bytes: int) -> bytes:
    """The body, at most ``max_body_bytes`` long, whether its length was announced or not.

    Raises:
        BodyTooLarge, UnsupportedEncoding, Disconnected.
    """
    if (encoding := headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedEncoding(f"content-encoding is {encoding!r}; send the body as it is, images are compressed already")
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > DRAIN_FACTOR * max_body_bytes:
        raise BodyTooLarge(_too_large(int(announced), max_body_bytes))
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
            chunks.append(chunk)
        elif chunks:
            chunks.clear()
        if size > DRAIN_FACTOR * max_body_bytes:
            break
    if size > max_body_bytes:
        raise BodyTooLarge(_too_large(size, max_body_bytes))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@contextmanager
def while_connected(receive: Receive) -> Generator[None]:
    """Cancel what is awaited inside as soon as the client hangs up. For after the body, which is all that clients send.

    Raises:
        Disconnected: it did.
    """
    task = asyncio.current_task()
    gone = False

    def cancel(_: object) -> None:
        nonlocal gone
        gone = True
        if task:
            task.cancel()

    watch = asyncio.ensure_future(receive())  # what comes after the body is http.disconnect
    watch.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        if gone and task and task.uncancel() == 0:
            raise Disconnected from None
        raise
    finally:
        watch.remove_done_callback(cancel)
        watch.cancel()


def _too_large(size: int, limit: int) -> str:
    return (
        f"the body has {size} bytes or more, the limit is {limit} (HUBEL_MAX_BODY_BYTES); "
        "send smaller images or fewer in one request"
    )


def images_in(body: bytes, content_type: str, max_images: int) -> list[bytes]:
    """The images of a body, in the order sent. multipart/form-data: every file, whatever its field is called.
    application/json: ``{"images": ["<base64>", ...]}``. Any other type: the body is one image.

    Raises:
        MalformedRequest: empty, or not what its type says.
        TooManyImages.
    """
    kind, options = parse_options_header(content_type)
    if not body:
        raise MalformedRequest("the body is empty; send the bytes of a JPEG, PNG or WebP file")
    if kind == b"multipart/form-data":
        images = _multipart(body, options.get(b"boundary", b""), max_images)
    elif kind == b"application/json":
        images = _base64(body, max_images)
    else:
        return [body]
    if not images:
        raise MalformedRequest("the request holds no image; send at least one file")
    return images


def _multipart(body: bytes, boundary: bytes, max_images: int) -> list[bytes]:
    """Contents of the parts that have a file name. Other form fields are refused: parameters go into the query."""
    files: list[bytearray] = []
    header = {"name": b"", "value": b""}
    disposition: dict[bytes, bytes] = {}

    def end_header() -> None:
        if header["name"].lower() == b"content-disposition":
            disposition.update(parse_options_header(header["value"])[1])
        header.update(name=b"", value=b"")

    def end_headers() -> None:
        if b"filename" not in disposition:
            name = disposition.get(b"name", b"").decode("utf-8", "replace")
            raise MalformedRequest(
                f"the form field {name!r} is not a file; send images as files (curl -F images=@cat.jpg) and "
                "parameters in the query string"
            )
        if len(files) == max_images:
            raise _too_many(f"more than {max_images}", max_images)
        files.append(bytearray())
        disposition.clear()

    ended: list[bool] = []
    callbacks: MultipartCallbacks = {
        "on_header_field": lambda data, start, end: header.update(name=header["name"] + data[start:end]),
        "on_header_value": lambda data, start, end: header.update(value=header["value"] + data[start:end]),
        "on_header_end": end_header,
        "on_headers_finished": end_headers,
        "on_part_data": lambda data, start, end: files[-1].extend(memoryview(data)[start:end]),
        "on_end": lambda: ended.append(True),
    }
    try:
        if boundary:
            MultipartParser(boundary, callbacks).write(body)
    except MultipartParseError as err:
        raise MalformedRequest("the multipart body cannot be parsed; is its boundary the one in Content-Type?") from err
    if not ended:
        raise MalformedRequest("the multipart body has no closing boundary; it was cut off or its boundary is missing")
    return [bytes(file) for file in files]


def _base64(body: bytes, max_images: int) -> list[bytes]:
    try:
        encoded = msgspec.json.decode(body, type=ImageList).images
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise MalformedRequest(f'the JSON body is not {{"images": ["<base64>", ...]}}: {err}') from err
    if len(encoded) > max_images:
        raise _too_many(str(len(encoded)), max_images)
    images: list[bytes] = []
    for i, text in enumerate(encoded):
        try:
            images.append(b64decode(text, validate=True))
        except (binascii.Error, ValueError) as err:
            raise MalformedRequest(
                f"images[{i}] is not base64; send the bytes of the file, encoded, without line breaks or a data: prefix"
            ) from err
    return images


def _too_many(count: str, limit: int) -> TooManyImages:
    return TooManyImages(f"the request holds {count} images, the limit is {limit} (HUBEL_MAX_IMAGES); send several requests")

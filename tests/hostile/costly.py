"""Images that cost much for what they weigh, and attacks with them: each asks again and again, with the next request at once."""

import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import cache
from http.client import HTTPConnection
from io import BytesIO

from PIL import Image

from tests.factories import make_image
from tests.hostile.bombs import many_scans, zeros
from tests.hostile.memory import MIB
from tests.hostile.mutations import lie, png

Going = Callable[[], bool]
FORM = "multipart/form-data; boundary=b"


@cache
def tiny_webp(width: int = 7900, height: int = 7800) -> bytes:
    """A lossless WebP of one colour: some tens of bytes, and 16 bytes of memory for each of its pixels."""
    file = BytesIO()
    Image.new("RGBA", (8, 8)).save(file, "WEBP", lossless=True)
    return lie(file.getvalue(), (width, height))  # of one colour no pixel takes a bit, so there are enough for any size


@cache
def interlaced_png(width: int = 5000, height: int = 6000) -> bytes:
    """A PNG of 16 bits a sample, with an alpha channel, in seven passes."""
    rows = 8 * width * height + 2 * height + 16  # bytes, with those that say how a row is filtered, or a few more
    return png(width, height, 16, 6, 0, 0, 1, pixels=zeros(-(-rows // MIB) * MIB))


@cache
def odd_jpeg(width: int = 8000, height: int = 8000) -> bytes:
    """A JPEG of a few hundred bytes with a subsampling that has no name, so that it is decoded three times."""
    data = bytearray(lie(make_image("JPEG"), (width, height)))
    frame = data.index(b"\xff\xc0")
    data[frame + 11], data[frame + 14] = 0x41, 0x12
    return bytes(data)


@cache
def filled_jpeg(size: int = 30_000_000) -> bytes:
    """A small progressive JPEG with fill bytes among its scans."""
    good = make_image("JPEG", progressive=True)
    return good[:-2] + b"\xff" * (size - len(good)) + good[-2:]


@cache
def long_header(size: int = 30_000_000) -> bytes:
    """A small JPEG with fill bytes before its frame."""
    good = make_image("JPEG")
    return good[:2] + b"\xff" * (size - len(good)) + good[2:]


@cache
def segmented(segments: int = 2000) -> bytes:
    """A small JPEG with as many comments before its frame as it may have."""
    good = make_image("JPEG")
    return good[:2] + b"\xff\xfe\0\2" * segments + good[2:]


@cache
def form(*files: bytes) -> bytes:
    part = b'--b\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\n'
    return b"".join(part + file + b"\r\n" for file in files) + b"--b--\r\n"


def send(port: int, going: Going, body: bytes, content_type: str = FORM) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        while going():
            connection.request("POST", "/v1/classify", body, {"content-type": content_type})
            connection.getresponse().read()
    finally:
        connection.close()


def hang_up(port: int, going: Going, bodies: Sequence[bytes]) -> None:
    """Send whole requests and wait for none of the answers."""
    while going():
        for body in bodies:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                head = f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\ncontent-length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                time.sleep(0.2)  # so that it is being worked on
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def three_tiny_webps(port: int, going: Going) -> None:
    send(port, going, form(*[tiny_webp()] * 3))


def full_of_tiny_webps(port: int, going: Going) -> None:
    send(port, going, form(*[tiny_webp()] * 32))


def each_a_little(port: int, going: Going) -> None:
    """Many of a megapixel, none of which takes long."""
    send(port, going, form(*[tiny_webp(1100, 1000)] * 32))


def just_small(port: int, going: Going) -> None:
    """Few of as many pixels as pass the line by, and as much as a PNG can cost for them."""
    send(port, going, form(*[interlaced_png(600, 500)] * 4))


def odd_ones(port: int, going: Going) -> None:
    """One of each kind that takes much longer than its pixels say."""
    for body in (many_scans(90), interlaced_png(), odd_jpeg()):
        if going():
            send_once(port, body)


def send_once(port: int, body: bytes) -> None:
    left = [True]
    send(port, lambda: bool(left and left.pop()), body, "")


def sent_and_left(port: int, going: Going) -> None:
    hang_up(port, going, [form(tiny_webp(5000, 4000)), form(*[tiny_webp(2000, 2000)] * 5), form(many_scans(80))])


def among_fill_bytes(port: int, going: Going) -> None:
    send(port, going, filled_jpeg(), "")


def behind_fill_bytes(port: int, going: Going) -> None:
    send(port, going, long_header(), "")


def many_segments(port: int, going: Going) -> None:
    send(port, going, form(*[segmented()] * 32))

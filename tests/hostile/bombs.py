"""Small files that ask for much: memory, time or both. Each is refused, or answered by what it costs little to read."""

import struct
import zlib
from collections.abc import Callable

from tests.factories import make_image
from tests.hostile.mutations import chunk, lie, png

GIB = 1024**3
BLOCK = 1024 * 1024


def zeros(size: int) -> bytes:
    """``size`` zero bytes, a multiple of a mebibyte, as zlib packs them: one block again and again."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", size % 65521, 1)  # Adler-32 of zeros
    return b"\x78\xda" + block * (size // BLOCK) + b"\x03\0" + checksum


def with_chunks(*chunks: bytes) -> bytes:
    """A good PNG with further chunks before its pixels."""
    good = png()
    return good[:33] + b"".join(chunks) + good[33:]


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """A good JPEG with further segments before all others; without JFIF's, as cameras write them."""
    packed = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    good = make_image("JPEG")
    return good[:2] + packed + good[20:]


def animated_png(frames: int) -> bytes:
    control = struct.pack(">IIIIHHBB", 8, 8, 0, 0, 1, 10, 0, 0)
    rows = zlib.compress((b"\0" + bytes(24)) * 8)
    parts = [chunk(b"acTL", struct.pack(">II", frames, 0))]
    for i in range(frames - 1):
        parts.append(chunk(b"fcTL", struct.pack(">I", 2 * i) + control) + chunk(b"fdAT", struct.pack(">I", 2 * i + 1) + rows))
    return with_chunks(*parts)


def animated_gif(frames: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return head + (b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0") * frames + b";"


def animated_webp(frames: int) -> bytes:
    (still,) = riff_chunks(make_image("WEBP", 16, 16))
    frame = bytes(6) + (15).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0" + still
    size = (15).to_bytes(3, "little") * 2
    return riff(riff_chunk(b"VP8X", b"\x02\0\0\0" + size), riff_chunk(b"ANIM", bytes(6)), *[riff_chunk(b"ANMF", frame)] * frames)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff_chunks(webp: bytes) -> list[bytes]:
    """The chunks of a WebP, whole."""
    found, at = list[bytes](), 12
    while at < len(webp):
        end = at + 8 + (struct.unpack_from("<I", webp, at + 4)[0] + 1) // 2 * 2
        found.append(webp[at:end])
        at = end
    return found


def many_scans(scans: int) -> bytes:
    """A progressive JPEG of 48 MP whose every scan says nothing, and costs a pass over all pixels."""
    good = lie(make_image("JPEG", progressive=True), (12_000, 4_000))
    return good[:-2] + struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 1, 63, 0) * scans + b"\xff\xd9"


BOMBS: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {  # a maker, and the statuses that are right
    "a PNG of 50,000 x 50,000 pixels of one bit": (lambda: png(50_000, 50_000, 1, 0, pixels=zeros(298 * BLOCK)), (413,)),
    "a WebP of 16,383 x 16,383 pixels": (lambda: lie(make_image("WEBP", lossless=True), (16_383, 16_383)), (413,)),
    "a JPEG of 65,535 x 65,535 pixels": (lambda: lie(make_image("JPEG"), (65_535, 65_535)), (413,)),
    "a GIF of 10,000 frames": (lambda: animated_gif(10_000), (415,)),
    "a WebP of 10,000 frames": (lambda: animated_webp(10_000), (200,)),
    "an animated PNG of 10,000 frames": (lambda: animated_png(10_000), (400,)),
    "an animated PNG of 5,000 frames": (lambda: animated_png(5_000), (200,)),
    "a PNG whose text unpacks to 1 GiB": (lambda: with_chunks(chunk(b"zTXt", b"k\0\0" + zeros(GIB))), (200,)),
    "a PNG whose profile unpacks to 1 GiB": (lambda: with_chunks(chunk(b"iCCP", b"k\0\0" + zeros(GIB))), (200,)),
    "a PNG of 9,000 profiles": (lambda: with_chunks(chunk(b"iCCP", b"k\0\0" + zeros(BLOCK)) * 9_000), (200,)),
    "a PNG whose pixels unpack to 1 GiB": (lambda: png(pixels=zeros(GIB)), (200, 400)),
    "a PNG of 800,000 chunks": (lambda: with_chunks(chunk(b"teSt", b"") * 800_000), (400,)),
    "a JPEG of 800,000 Photoshop blocks": (
        lambda: with_segments(*[(0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5_459)] * 150),
        (200,),
    ),
    "a JPEG of 2,500,000 comments": (lambda: with_segments(*[(0xFE, b"")] * 2_500_000), (400,)),
    "a JPEG of 10,000 scans over 48 MP": (lambda: many_scans(10_000), (400,)),
}

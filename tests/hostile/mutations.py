"""Bad image files, the same for the same seed; and a command that sends many to a fresh service and watches it.

python -m tests.hostile.mutations --requests 20000 --seed 1
"""

import argparse
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.client import body_of
from tests.factories import make_image
from tests.hostile.memory import MIB, resident
from tests.server import ROOT, Server, launch

KINDS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG"},
    "progressive": {"format": "JPEG", "progressive": True, "mode": "L"},
    "png": {"format": "PNG", "mode": "RGBA"},
    "palette": {"format": "PNG", "mode": "P", "transparency": 3},
    "webp": {"format": "WEBP"},
    "lossless": {"format": "WEBP", "lossless": True, "mode": "RGBA"},
}
MORE_KINDS: dict[str, dict[str, Any]] = KINDS | {
    "grey": {"format": "PNG", "mode": "L"},
    "16 bits": {"format": "PNG", "mode": "I;16"},
    "1 bit": {"format": "PNG", "mode": "1"},
    "cmyk": {"format": "JPEG", "mode": "CMYK"},
    "gif": {"format": "GIF", "mode": "P"},
    "bmp": {"format": "BMP"},
    "bmp with a palette": {"format": "BMP", "mode": "P"},
}
SIZES = [(0, 0), (0, 5), (1, 1), (65535, 1), (1, 65535), (65_501, 1), (12_000, 12_000), (65535, 65535), (200, 100)]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ROUTES = ("/v1/classify", "/v1/top-k", "/v1/features", "/v1/explain")
SHAPES = ("raw", "raw", "raw", "multipart", "base64")
MAX_GROWTH = 32 * MIB
WARM_UP = 500  # requests, of another seed: what threads and libraries keep for good comes then


def with_checksums(png: bytes) -> bytes:
    """The same PNG with the checksum of every whole chunk made right, so that damage gets past it."""
    at, data = 8, bytearray(png)
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def damage(data: bytes, chance: random.Random) -> bytes:
    """A copy that is cut off, overwritten or shortened."""
    copy = bytearray(data)
    what = chance.choice(["cut", "overwrite", "overwrite in the header", "leave out"])
    at = chance.randrange(len(copy))
    if what == "cut":
        del copy[at:]
    elif what == "leave out":
        del copy[at : at + chance.randrange(1, 9)]
    else:
        end = len(copy) if what == "overwrite" else min(len(copy), 60)
        for _ in range(chance.choice([1, 1, 5])):
            copy[chance.randrange(end)] = chance.randrange(256)
    return with_checksums(bytes(copy)) if data[1:4] == b"PNG" else bytes(copy)


def splice(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """The beginning of one file and the end of another, a part of a file twice, or a file within another."""
    at, there = chance.randrange(len(data)), chance.randrange(len(other))
    what = chance.choice(["join", "repeat", "insert"])
    if what == "join":
        return data[:at] + other[there:]
    return data[:at] + (data[: at + 100] if what == "repeat" else other) + data[at:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int = 8, height: int = 8, depth: int = 8, color: int = 2, *more: int, pixels: bytes | None = None) -> bytes:
    """A PNG whose header says anything; ``more``: compression, filter and interlace method."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, *(more or (0, 0, 0)))
    rows = zlib.compress((b"\0" + bytes(24)) * 8) if pixels is None else pixels
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def lie(data: bytes, size: tuple[int, int]) -> bytes:
    """The same file with another size in its header."""
    width, height = size
    if data[1:4] == b"PNG":
        return with_checksums(data[:16] + struct.pack(">II", width, height) + data[24:])
    if data[:2] == b"\xff\xd8":
        at = max(data.find(b"\xff\xc0\0"), data.find(b"\xff\xc2\0")) + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
    if data[12:16] == b"VP8 ":
        return data[:26] + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF) + data[30:]
    if data[12:16] == b"VP8L":
        bits = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14
        return data[:21] + struct.pack("<I", bits) + data[25:]
    return data[:24] + (width - 1 & 0xFFFFFF).to_bytes(3, "little") + (height - 1 & 0xFFFFFF).to_bytes(3, "little") + data[30:]


def bad_pngs() -> Iterator[bytes]:
    """The faults of the files x*.png of PngSuite, and more of their kind."""
    good = png()
    for signature in (
        b"\x09PNG\r\n\x1a\n",
        b"\x89png\r\n\x1a\n",
        b"\x89PNG\n\x1a\n",
        b"\x89PNG\r\x1a\r",
        b"\x89PNG\r\n\r\n\x1a\n",
    ):
        yield signature + good[8:]
    yield good[:29] + b"\0\0\0\0" + good[33:]  # the header's checksum
    yield good[:-20] + bytes([good[-20] ^ 1]) + good[-19:]
    yield good.replace(b"IDAT", b"iDAT")
    yield SIGNATURE + good[33:]  # no header
    yield good[:33] + good[-12:]  # no pixels
    yield good[:-12]  # no end
    yield good[:33] + good[8:]  # two headers
    yield from (png(depth=depth) for depth in (0, 3, 4, 99))
    yield from (png(color=color) for color in (1, 3, 5, 9, 255))
    yield from (png(8, 8, 8, 2, *methods) for methods in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2)))
    yield from (png(*size) for size in ((0, 8), (8, 0), (2**31, 8), (2**32 - 1, 2**32 - 1), (9, 8), (8, 9)))
    yield from (png(pixels=rows) for rows in (b"", b"\0", zlib.compress(b""), zlib.compress((b"\x09" + bytes(24)) * 8)))
    for length in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
        yield good[:33] + struct.pack(">I", length) + good[37:]
    for kind, data in ((b"PLTE", bytes(900)), (b"PLTE", b"\0"), (b"tRNS", bytes(900)), (b"gAMA", b""), (b"\0\xff!~", b"x")):
        yield good[:33] + chunk(kind, data) + good[33:]
    yield from (
        good[:33] + chunk(kind, b"k") + good[33:] for kind in (b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT")
    )


def polyglots(images: dict[str, bytes]) -> Iterator[bytes]:
    """Files that are two things at once, or begin as another."""
    archive = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    page = b"<html><script>alert(1)</script></html>"
    for name in ("jpeg", "png", "webp"):
        yield images[name] + archive
        yield images[name] + images["gif"]
        yield page + images[name]
        yield b"GIF89a" + images[name]
        yield b"%PDF-1.7\n" + images[name]
        yield b"\0" + images[name]
        yield b"\xff\xd8\xff" + images[name]
        yield b"RIFF\xff\xff\xff\xffWEBP" + images[name]
        yield SIGNATURE + images[name]
    yield images["jpeg"][:2] + b"\xff\xfe" + struct.pack(">H", len(page) + 2) + page + images["jpeg"][2:]


def starts(images: dict[str, bytes]) -> Iterator[bytes]:
    """Nothing, and first bytes without the rest."""
    yield from (b"", b"\0", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"RIFF", b"BM", b"GIF87a", SIGNATURE)
    yield from (b"RIFF\0\0\0\0WEBP", b"RIFF\x04\0\0\0WEBPVP8X", b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"II*\0", b"8BPS", b"\0" * 5000)
    yield from (data[: len(data) * tenth // 10] for data in images.values() for tenth in range(1, 10, 4))


def corpus(seed: int, count: int) -> Iterator[bytes]:
    """Bad files, and a few that turn out well: those with a name, then mutations of good ones without end."""
    chance = random.Random(seed)
    images = {name: make_image(**options) for name, options in MORE_KINDS.items()}
    files = list(images.values())
    named = [*bad_pngs(), *polyglots(images), *starts(images)]
    named += [lie(images[kind], size) for kind in KINDS for size in SIZES]
    chance.shuffle(named)
    for i in range(count):
        if i < count // 2 and i < len(named):
            yield named[i]
        elif chance.random() < 0.75:
            yield damage(chance.choice(files), chance)
        else:
            yield splice(chance.choice(files), chance.choice(files), chance)


def send_all(client: httpx.Client, seed: int, count: int) -> Iterator[httpx.Response]:
    """What the service answers to each file, sent in one of the three shapes to one of the three routes."""
    chance = random.Random(-seed)
    for data in corpus(seed, count):
        yield client.post(chance.choice(ROUTES), **body_of([data], chance.choice(SHAPES)))


def attack(server: Server, seed: int, count: int) -> tuple[list[httpx.Response], int]:
    """The answers, and by how many bytes the service has grown since it was warm.

    Raises:
        AssertionError: its processes are not those of before.
    """
    with server.client() as client:
        for _ in send_all(client, seed + 1, WARM_UP):
            pass
        processes, before = server.processes(), resident(server.processes())
        answers = list(send_all(client, seed, count))
    assert server.processes() == processes
    return answers, resident(processes) - before


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.mutations", description="Send bad images to a fresh service.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = launch(ROOT / "models" / "store", Path(folder) / "log.txt", HUBEL_MODEL="cifar10")
        try:
            server.wait_until_ready()
            began = time.monotonic()
            answers, growth = attack(server, given.seed, given.requests)
            seconds = time.monotonic() - began
            processes = server.processes()
            print(f"{len(answers)} requests in {seconds:.0f} s, seed {given.seed}, after {WARM_UP} of seed {given.seed + 1}")
            for (status, code), n in sorted(Counter(map(outcome, answers)).items()):
                print(f"  {n:6d}  {status} {code}")
            print(f"processes {processes}, the same before and after")
            now = resident(processes)
            print(f"memory {(now - growth) / MIB:.1f} MiB before and {now / MIB:.1f} after; may grow by {MAX_GROWTH / MIB:.0f}")
        finally:
            code = server.stop()
    failed = [answer for answer in answers if answer.status_code >= 500]
    return 1 if failed or code or growth >= MAX_GROWTH else 0


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]


if __name__ == "__main__":
    sys.exit(main())

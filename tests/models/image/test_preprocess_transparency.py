"""One colour of a PNG that is transparent (tRNS), in every depth: against a plain reading of the file's samples."""

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from models.image.preprocess import decode
from tests.hostile.mutations import SIGNATURE, chunk

Samples = NDArray[np.int64]  # (height, width, channels), as deep as the file says
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]  # Adam7: y, x, steps


def row(samples: Samples, depth: int) -> bytes:
    """A line without a filter."""
    if depth == 16:
        return b"\0" + samples.astype(">u2").tobytes()
    bits = np.unpackbits(samples.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return b"\0" + np.packbits(bits.ravel()).tobytes()


def write_png(samples: Samples, depth: int, key: tuple[int, ...], interlaced: bool = False) -> bytes:
    height, width, channels = samples.shape
    parts = [samples[y::down, x::across] for y, x, down, across in PASSES] if interlaced else [samples]
    lines = b"".join(row(line, depth) for part in parts if part.size for line in part)
    header = struct.pack(">IIBBBBB", width, height, depth, 0 if channels == 1 else 2, 0, 0, interlaced)
    transparency = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    return SIGNATURE + chunk(b"IHDR", header) + transparency + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def expected(samples: Samples, depth: int, key: tuple[int, ...]) -> NDArray[np.float64]:
    seen = np.repeat(samples / (2**depth - 1) * 255, 3 // samples.shape[2], axis=2)
    seen[(samples == key).all(axis=2)] = 255
    return seen


def check(samples: Samples, depth: int, key: tuple[int, ...], interlaced: bool) -> None:
    made = np.asarray(decode(write_png(samples, depth, key, interlaced)).image)
    rounding = 1 if samples.shape[2] == 3 and depth == 16 else 0.5  # Pillow keeps the high byte of 16-bit colours
    assert np.abs(made - expected(samples, depth, key)).max() <= rounding


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_any_level_of_grey_may_be_transparent(depth: int, interlaced: bool) -> None:
    levels = np.arange(2**depth) if depth < 8 else np.arange(0, 2**depth, 2**depth // 256 + depth // 16)
    samples = np.resize(levels, (17, 19, 1))
    for key in sorted({0, 1, int(levels[len(levels) // 2]), int(levels[-1])}):
        check(samples, depth, (key,), interlaced)


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
def test_grey_levels_that_differ_in_their_low_bytes_are_told_apart(interlaced: bool) -> None:
    samples = np.full((9, 11, 1), 0x1234)
    samples[2:5] = 0x1235
    check(samples, 16, (0x1234,), interlaced)


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_colour_is_transparent_only_where_every_bit_of_it_is_the_same(depth: int, interlaced: bool) -> None:
    key = (0x12, 0x34, 0x56) if depth == 8 else (0x1234, 0x5678, 0x9ABC)
    samples = np.broadcast_to(np.array(key), (9, 11, 3)).copy()
    samples[1, :, 0] += 1  # in the low byte alone
    samples[3, :, 2] -= 1
    samples[5, ::2, 1] ^= 1 << (depth - 1)  # in the high byte alone
    samples[7, 3] = key[::-1]
    check(samples, depth, key, interlaced)


@pytest.mark.parametrize(("depth", "key"), [(1, 0xFF01), (2, 0x0102), (4, 0x0F03), (8, 0x0110)])
def test_bits_of_a_level_that_are_more_than_the_depth_do_not_count(depth: int, key: int) -> None:
    samples = np.resize(np.arange(2**depth), (5, 64, 1))
    made = np.asarray(decode(write_png(samples, depth, (key,))).image)
    assert np.abs(made - expected(samples, depth, (key % 2**depth,))).max() <= 0.5

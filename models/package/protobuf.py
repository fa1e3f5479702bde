"""Protobuf's wire format, field by field, without a decoded message: a file that lies about its lengths costs no memory."""

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups, which ONNX does not have
Data = bytes | mmap


class Field(NamedTuple):
    """A field as it stands in the file: its number, its wire type, and its value or where its bytes are."""

    number: int
    kind: int
    value: int
    start: int
    end: int


class Malformed(Exception):
    """Bytes that are no protobuf message."""


def fields(data: Data, at: int, end: int) -> Iterator[Field]:
    """Fields of the message in data[at:end]."""
    while at < end:
        key, at = varint(data, at, end)
        number, kind = key >> 3, key & 7
        if number == 0 or key >= 2**32:
            raise Malformed(f"there is no field {number}, at byte {at}")
        start, value = at, 0
        if kind == VARINT:
            value, at = varint(data, at, end)
        elif kind == BYTES:
            length, start = varint(data, at, end)
            at = start + length
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise Malformed(f"wire type {kind} at byte {at}")
        if at > end:
            raise Malformed(f"field {number} at byte {start} ends after what holds it")
        yield Field(number, kind, value, start, at)


def varint(data: Data, at: int, end: int) -> tuple[int, int]:
    """A whole number of at most 64 bits and where the next byte is; not every writer takes the shortest form."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Malformed(f"a number is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"a number of more than 10 bytes ends at byte {at}")

"""Images in zip and tar files, read from where they lie: nothing is unpacked into a folder, whatever its members are called.

A member that would unpack to more than a file may have is not unpacked.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from service.bulk import names
from service.bulk.errors import BulkError, reason
from service.bulk.item import Item, Source, check_size, shown

DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError, OSError)
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others a few bytes can become gigabytes at once
ENCRYPTED = 1  # a flag of a member
Opener = Callable[[str], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]
OPENERS: dict[str, Opener] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}
MOST_TIMES = 50  # that a compressed tar may grow; images hardly shrink
CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class ZipMember:
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def read(self, limit: int) -> bytes:
        check_size(self.info.file_size, limit)
        if self.info.flag_bits & ENCRYPTED:
            raise OSError("it is encrypted; unpack the archive and give the folder")
        if self.info.compress_type not in BOUNDED:
            raise OSError("it is compressed in another way than Deflate; unpack the archive and give the folder")
        try:
            with self.archive.open(self.info) as file:
                return file.read(limit + 1)
        except DAMAGED as err:
            raise OSError(f"the archive is damaged there: {reason(err)}") from err


@dataclass(frozen=True, slots=True)
class TarMember:
    file: "Handle"
    offset: int
    size: int

    def read(self, limit: int) -> bytes:
        check_size(self.size, limit)
        return os.pread(self.file.number, self.size, self.offset)


def members(path: str, stamp: str) -> Iterator[Item | None]:
    """Each image in an archive, as PATH/MEMBER; None for a member that is none by its name. Of two that are called alike the
    later one counts, as when it is unpacked. Raises BulkError.
    """
    kind = _zipped if path.lower().endswith(names.ZIP) else _tarred
    path = os.path.normpath(path)
    found: dict[str, Source] = {}
    try:
        for name, source in kind(path):
            if names.is_image(name) and not any(map(names.is_passed_over, filter(_is_name, name.split("/")))):
                found[name] = source
            else:
                yield None
    except DAMAGED as err:
        raise BulkError(
            f"the archive {shown(path)} cannot be read: {reason(err)}; copy it again, or unpack it and give the folder"
        ) from err
    for name, source in found.items():
        yield Item(shown(f"{path}/{name}"), stamp, source)


def _is_name(part: str) -> bool:
    return part not in ("", ".", "..")


def _zipped(path: str) -> Iterator[tuple[str, Source]]:
    archive = zipfile.ZipFile(path)
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir():
            yield (info.filename if kind in (0, stat.S_IFREG) else ""), ZipMember(archive, info)


def _tarred(path: str) -> Iterator[tuple[str, Source]]:
    with _plain(path) as file:
        handle = Handle(os.dup(file.fileno()))
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                if not member.isdir():
                    plain = member.isreg() and not member.issparse()
                    yield (member.name if plain else ""), TarMember(handle, member.offset_data, member.size)


class Handle:
    """Of a file that stays open as long as a member of it is to be read."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@contextmanager
def _plain(path: str) -> Generator[BinaryIO]:
    """A tar file as one can read it in any order: a compressed one is written out first, to where temporary files are."""
    opener = next((opener for ending, opener in OPENERS.items() if _is_packed(path, ending)), None)
    if opener is None:
        with open(path, "rb") as file:
            yield file
        return
    most = MOST_TIMES * os.path.getsize(path) + CHUNK
    with tempfile.TemporaryFile(prefix="hubel-") as target, opener(path) as source:
        while chunk := source.read(CHUNK):
            if target.tell() + len(chunk) > most:
                raise ValueError(f"it grows to more than {MOST_TIMES} times its size")
            target.write(chunk)
        target.seek(0)
        yield target


def _is_packed(path: str, ending: str) -> bool:
    name = path.lower()
    return name.endswith(ending) or name.endswith(f".t{ending[1:]}")

"""A package as one file: what pack writes, unpack takes; of whatever else an archive holds, nothing comes anywhere."""

import gzip
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models import files
from models.errors import PackageError
from models.package import signature
from models.registry import archive, registry
from tests.models.conftest import MakeStore, contents, pointer

Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def folder(make_store: MakeStore) -> Path:
    """Folder of tiny:1."""
    return make_store(tiny=1) / "tiny/1"


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    archive.pack(folder, tmp_path / "tiny.tar.gz")
    return tmp_path / "tiny.tar.gz"


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "", size: int | None = None) -> Member:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, len(data) if size is None else size
    return made, data


def members_of(folder: Path) -> list[Member]:
    """The package in ``folder`` as members of an archive."""
    return [member(f"tiny/1/{path.name}", path.read_bytes()) for path in sorted(folder.iterdir())]


def write(path: Path, members: list[Member]) -> Path:
    """An archive of these members, whatever they say of themselves."""
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for info, data in members:
            stream.write(info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512))
        stream.write(bytes(1024))
    return path


def test_what_was_packed_is_unpacked_into_another_store(folder: Path, packed: Path, tmp_path: Path) -> None:
    manifest = archive.unpack(tmp_path / "there", packed)
    assert registry.verify(tmp_path / "there/tiny/1") == manifest == registry.verify(folder)
    assert pointer(tmp_path / "there").version == 1
    there = contents(tmp_path / "there")
    assert {name: data for name, data in there.items() if name.startswith("tiny/1/")} == {
        f"tiny/1/{path.name}": path.read_bytes() for path in folder.iterdir()
    }
    assert set(there) == {"tiny", "tiny/1", "tiny/current.json", *(f"tiny/1/{path.name}" for path in folder.iterdir())}
    assert (tmp_path / "there/tiny/1").stat().st_mode & 0o777 == 0o755


def test_a_later_version_waits_to_be_promoted(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=2)
    archive.pack(store / "tiny/2", tmp_path / "second.tar.gz")
    shutil.rmtree(store / "tiny/2")
    archive.unpack(store, tmp_path / "second.tar.gz")
    assert registry.versions(store, "tiny") == [1, 2]
    assert pointer(store).version == 1


def test_the_same_package_gives_the_same_bytes(folder: Path, packed: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    archive.pack(folder, tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == packed.read_bytes()


def test_the_signature_travels_along(folder: Path, tmp_path: Path) -> None:
    signature.path(folder).write_bytes(b"a signature")
    archive.pack(folder, tmp_path / "signed.tar.gz")
    archive.unpack(tmp_path / "there", tmp_path / "signed.tar.gz")
    assert (tmp_path / "there/tiny/1.sig").read_bytes() == b"a signature"


def test_what_gnu_tar_packs_is_unpacked(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "gnu.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as made:
        made.add(folder, "tiny/1")
    assert archive.unpack(tmp_path / "there", tmp_path / "gnu.tar.gz").id == "tiny:1"


def test_who_serves_may_read_what_was_unpacked_whatever_the_archive_says(folder: Path, tmp_path: Path) -> None:
    members = [*members_of(folder), member("tiny/1.sig", b"a signature")]
    for info, _ in members:
        info.mode = 0o4700
    archive.unpack(tmp_path / "there", write(tmp_path / "secret.tar.gz", members))
    modes = {path.stat().st_mode & 0o7777 for path in [*(tmp_path / "there/tiny/1").iterdir(), tmp_path / "there/tiny/1.sig"]}
    assert modes == {0o644}


def test_a_damaged_package_is_not_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "card.md").write_text("another card")
    with pytest.raises(PackageError, match=r"card.md was changed"):
        archive.pack(folder, tmp_path / "tiny.tar.gz")
    assert not (tmp_path / "tiny.tar.gz").exists()


def test_a_file_that_is_there_is_not_overwritten(folder: Path, packed: Path) -> None:
    before = packed.read_bytes()
    with pytest.raises(PackageError, match=r"tiny.tar.gz exists already; remove it or name another file for tiny:1"):
        archive.pack(folder, packed)
    assert packed.read_bytes() == before


def test_a_folder_that_is_not_there_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"nowhere/tiny.tar.gz cannot be written: No such file or directory"):
        archive.pack(folder, tmp_path / "nowhere/tiny.tar.gz")


def test_a_version_that_the_store_has_is_not_replaced(folder: Path, packed: Path) -> None:
    store = folder.parents[1]
    before = contents(store)
    with pytest.raises(PackageError, match=r"has a tiny:1 already, and a version never changes; remove it first, or leave it"):
        archive.unpack(store, packed)
    assert contents(store) == before


LINK, HARD, DEVICE, PIPE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
NO_FILE = "which is no plain NAME/VERSION/FILE of a package"
HOSTILE: dict[str, tuple[list[Member], str]] = {
    "a link and a file written through it": (
        [member("tiny/1/d", kind=LINK, target="{outside}"), member("tiny/1/d/evil", b"evil")],
        NO_FILE,
    ),
    "the folder of the package as a link": (
        [member("tiny/1", kind=LINK, target="{outside}"), member("tiny/1/evil", b"evil")],
        NO_FILE,
    ),
    "a link within": ([member("tiny/1/evil", kind=LINK, target="model.onnx")], NO_FILE),
    "an absolute name": ([member("{outside}/evil", b"evil")], NO_FILE),
    "a name with ..": ([member("tiny/1/../../../outside/evil", b"evil")], NO_FILE),
    "a name of ..": ([member("../outside/evil", b"evil")], NO_FILE),
    "a version of ..": ([member("tiny/../evil", b"evil")], NO_FILE),
    "a hidden file": ([member("tiny/1/.evil", b"evil")], NO_FILE),
    "a file beside the versions": ([member("tiny/current.json", b"{}")], NO_FILE),
    "a file of the store": ([member("evil", b"evil")], NO_FILE),
    "a folder within": ([member("tiny/1/deep/evil", b"evil")], NO_FILE),
    "an empty folder within": ([member("tiny/1/deep", kind=tarfile.DIRTYPE)], NO_FILE),
    "a backslash": ([member("tiny\\1\\evil", b"evil")], NO_FILE),
    "a newline": ([member("tiny/1/evil\n", b"evil")], NO_FILE),
    "a device": ([member("tiny/1/evil", kind=DEVICE)], NO_FILE),
    "a pipe": ([member("tiny/1/evil", kind=PIPE)], NO_FILE),
    "a hard link": ([member("tiny/1/evil", kind=HARD, target="{outside}/secret")], NO_FILE),
    "a hard link within": ([member("tiny/1/evil", kind=HARD, target="tiny/1/model.onnx")], NO_FILE),
    "a contiguous file": (
        [member("tiny/1/evil", b"evil", kind=tarfile.CONTTYPE)],
        "evil is not listed in the manifest of tiny:1",
    ),
    "an unknown type": ([member("tiny/1/evil", b"evil", kind=b"Z")], NO_FILE),
    "a file that is not listed": ([member("tiny/1/evil", b"evil")], "evil is not listed in the manifest of tiny:1"),
    "a file twice": ([member("tiny/1/card.md", b"evil")], "the archive holds tiny/1/card.md twice"),
    "two packages": ([member("tiny/2/evil", b"evil")], "holds 2 packages, an archive holds one"),
    "a file of 10 GiB": ([member("tiny/1/evil", size=10 * 2**30)], "evil has 10,737,418,240 bytes unpacked, at most"),
    "a manifest of 17 MiB": ([member("tiny/2/manifest.json", bytes(17 * 2**20))], "at most 16,777,216 are taken"),
    "a signature of 2 MiB": ([member("tiny/1.sig", bytes(2**21))], "at most 1,048,576 are taken"),
    "200 files": ([member(f"tiny/1/evil{i}") for i in range(200)], "the archive holds more than 100 files"),
    "a file that ends too early": ([member("tiny/1/evil", b"evil", size=10_000_000)], "cannot be unpacked: "),
}


def aim(members: list[Member], outside: Path) -> list[Member]:
    for info, _ in members:
        info.name, info.linkname = (text.replace("{outside}", str(outside)) for text in (info.name, info.linkname))
    return members


@pytest.mark.parametrize("first", [True, False], ids=["before the package", "after it"])
@pytest.mark.parametrize(("members", "fault"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_and_leaves_nothing_anywhere(
    folder: Path, tmp_path: Path, members: list[Member], fault: str, first: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    evil = aim([(info.replace(name=info.name, deep=True), data) for info, data in members], outside)
    source = write(tmp_path / "evil.tar.gz", [*evil, *members_of(folder)] if first else [*members_of(folder), *evil])
    (tmp_path / "there").mkdir()
    before = contents(tmp_path)
    with pytest.raises(PackageError, match=fault):
        archive.unpack(tmp_path / "there", source)
    assert contents(tmp_path) == before
    assert (outside / "secret").stat().st_nlink == 1


def long_name() -> bytes:
    """A GNU header that says its name has 3 GiB, which tarfile would read into memory."""
    info, _ = member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=3 * 2**30)
    return info.tobuf(tarfile.GNU_FORMAT)


def pax_header() -> bytes:
    info, _ = member("pax", kind=tarfile.XHDTYPE, size=3 * 2**30)
    return info.tobuf(tarfile.USTAR_FORMAT)


def old_sparse() -> bytes:
    """A sparse file of GNU tar of 10 GiB that takes no room in the archive."""
    block = bytearray(member("tiny/1/evil", kind=tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT))
    block[483:495] = f"{10 * 2**30:011o}\0".encode()
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block[:512]):06o}\0 ".encode()
    return bytes(block)


def new_sparse() -> bytes:
    info, _ = member("tiny/1/evil")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(10 * 2**30), "GNU.sparse.numblocks": "1"}
    return info.tobuf(tarfile.PAX_FORMAT)


def larger_than_it_said() -> bytes:
    info, _ = member("tiny/1/evil")
    info.pax_headers = {"size": str(10 * 2**30)}
    return info.tobuf(tarfile.PAX_FORMAT)


def name_in_pax_header() -> bytes:
    info, _ = member("tiny/1/evil")
    info.pax_headers = {"path": "../../outside/evil"}
    return info.tobuf(tarfile.PAX_FORMAT)


def chain_of_pax_headers() -> bytes:
    return b"".join(member("pax", kind=tarfile.XHDTYPE)[0].tobuf(tarfile.USTAR_FORMAT) for _ in range(1500))


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (long_name, "the archive holds more than 1,048,576 bytes besides its files"),
        (pax_header, "the archive holds more than 1,048,576 bytes besides its files"),
        (old_sparse, NO_FILE),
        (new_sparse, NO_FILE),
        (larger_than_it_said, "evil has 10,737,418,240 bytes unpacked, at most"),
        (name_in_pax_header, NO_FILE),
        (chain_of_pax_headers, "cannot be unpacked: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_header_that_lies_is_refused_before_anything_is_read_for_it(
    tmp_path: Path, header: Callable[[], bytes], fault: str
) -> None:
    with gzip.open(tmp_path / "evil.tar.gz", "wb") as stream:
        stream.write(header() + bytes(2**16))
    before = contents(tmp_path)
    with pytest.raises(PackageError, match=fault):
        archive.unpack(tmp_path / "there", tmp_path / "evil.tar.gz")
    assert contents(tmp_path) == before


def test_files_that_are_too_much_together_are_not_unpacked(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", packed.stat().st_size)
    with pytest.raises(PackageError, match=r"the archive holds more than 100 files or [\d,]+ bytes, more than a package has"):
        archive.unpack(tmp_path / "there", packed)
    assert not (tmp_path / "there").exists()


def test_a_gzip_bomb_is_given_up_after_as_much_as_headers_may_take(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as stream:
        stream.write(member("pax", kind=tarfile.XGLTYPE, size=2**30)[0].tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            stream.write(bytes(2**20))
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 100_000
    with pytest.raises(PackageError, match="the archive holds more than 1,048,576 bytes besides its files"):
        archive.unpack(tmp_path / "there", tmp_path / "bomb.tar.gz")


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", gzip.compress(b""), gzip.compress(b"no archive" * 1000), gzip.compress(bytes(10240))],
    ids=["empty", "text", "empty gzip", "text in gzip", "no members"],
)
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "it.tar.gz").write_bytes(data)
    with pytest.raises(PackageError, match=r"it.tar.gz cannot be unpacked: |it.tar.gz holds 0 packages"):
        archive.unpack(tmp_path / "there", tmp_path / "it.tar.gz")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99], ids=str)
@pytest.mark.parametrize("cut", [True, False], ids=["cut off", "a flipped bit"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(packed: Path, tmp_path: Path, share: float, cut: bool) -> None:
    data = bytearray(packed.read_bytes())
    at = int(share * len(data))
    data[at] ^= 0x10
    packed.write_bytes(data[:at] if cut else data)
    with pytest.raises(PackageError):
        archive.unpack(tmp_path / "there", packed)
    assert not (tmp_path / "there").exists()


def test_what_follows_the_last_file_is_bounded_too(packed: Path, tmp_path: Path) -> None:
    with open(packed, "ab") as file:
        file.write(gzip.compress(bytes(2**26)))
    with pytest.raises(PackageError, match="the archive holds more than 1,048,576 bytes besides its files"):
        archive.unpack(tmp_path / "there", packed)
    assert not (tmp_path / "there").exists()


def test_an_archive_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PackageError, match="pipe is not a plain file but a pipe"):
        archive.unpack(tmp_path / "there", tmp_path / "pipe")


def test_nothing_is_unpacked_through_a_link(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there/tiny").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackageError, match="tiny is a link"):
        archive.unpack(tmp_path / "there", packed)
    assert contents(tmp_path / "elsewhere") == {}


def test_a_python_without_the_data_filter_does_not_unpack(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(PackageError, match=r"this Python cannot unpack safely; take 3.11.4 or newer"):
        archive.unpack(tmp_path / "there", packed)
    assert not (tmp_path / "there").exists()


def test_the_bounds_are_above_what_a_package_of_vgg_16_has() -> None:
    assert files.MAX_BYTES > 553_389_019 * 2
    assert archive.MAX_BYTES >= 2 * files.MAX_BYTES

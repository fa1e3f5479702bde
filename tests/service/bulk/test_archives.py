"""service/bulk/archives.py: members are read where they lie, however they are called and whatever they would unpack to."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from service.bulk import archives
from service.bulk.errors import BulkError
from service.bulk.walk import walk
from service.errors import BodyTooLarge
from tests.service.bulk.packing import pack_tar, pack_zip

MEMBERS = {"b.jpg": b"second", "a/1.png": b"first", "notes.txt": b"text", "__MACOSX/._b.jpg": b"mac", "a/.x.jpg": b"hidden"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz"])
def test_images_of_an_archive_are_read_sorted_and_the_rest_is_counted(name: str, tmp_path: Path) -> None:
    kind = {".zip": "", ".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[Path(name).suffix]
    path = pack_tar(tmp_path / name, MEMBERS, kind) if kind else pack_zip(tmp_path / name, MEMBERS)
    listing = walk([str(path)])
    assert [(item.path, item.source.read(100)) for item in listing.items] == [
        (f"{path}/a/1.png", b"first"),
        (f"{path}/b.jpg", b"second"),
    ]
    assert listing.left_out == 3


def test_members_with_absolute_names_are_names_and_no_places(tmp_path: Path) -> None:
    members = {"/etc/x.jpg": b"1", "../../y.jpg": b"2", "C:\\z.jpg": b"3"}
    for path in (pack_zip(tmp_path / "x.zip", members), pack_tar(tmp_path / "x.tar", members)):
        assert sorted(item.source.read(9) for item in walk([str(path)]).items) == [b"1", b"2", b"3"]
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x.tar", "x.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_that_are_called_alike_the_later_counts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jpg", b"old")
        archive.writestr("a.jpg", b"new")
    assert [item.source.read(9) for item in walk([f"{tmp_path}/x.zip"]).items] == [b"new"]


def test_a_member_that_would_unpack_to_more_than_a_file_may_have_is_not_unpacked(tmp_path: Path) -> None:
    bomb = pack_zip(tmp_path / "x.zip", {"a.jpg": bytes(5_000_000)})
    assert bomb.stat().st_size < 10_000
    (item,) = walk([str(bomb)]).items
    with pytest.raises(BodyTooLarge, match=r"5,000,000 bytes, the limit is 1,000 \(HUBEL_MAX_BODY_BYTES\)"):
        item.source.read(1000)


def test_a_member_that_lies_about_its_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "x.zip", {"a.jpg": bytes(5_000_000)})
    data = path.read_bytes().replace((5_000_000).to_bytes(4, "little"), (900).to_bytes(4, "little"))
    path.write_bytes(data)
    (item,) = walk([str(path)]).items
    with pytest.raises(OSError, match="the archive is damaged there: Bad CRC-32"):
        item.source.read(1000)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_cannot_be_bounded_are_refused(kind: int, tmp_path: Path) -> None:
    (item,) = walk([str(pack_zip(tmp_path / "x.zip", {"a.jpg": b"x"}, kind))]).items
    with pytest.raises(OSError, match="compressed in another way than Deflate; unpack"):
        item.source.read(1000)


def test_an_encrypted_member_is_told(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "x.zip", {"a.jpg": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    (item,) = walk([str(path)]).items
    with pytest.raises(OSError, match="encrypted; unpack"):
        item.source.read(1000)


def test_a_compressed_tar_that_grows_beyond_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "CHUNK", 1000)
    path = pack_tar(tmp_path / "x.tar.gz", {"a.jpg": bytes(2_000_000)}, "w:gz")
    with pytest.raises(BulkError, match="cannot be read: it grows to more than 50 times its size"):
        walk([str(path)])


def test_links_in_a_tar_lead_nowhere(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{ord(kind)}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(BulkError, match="no images among 3 files"):
        walk([f"{tmp_path}/x.tar"])


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz"])
def test_a_damaged_archive_is_told_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"this is no archive" * 100)
    with pytest.raises(BulkError, match=f"the archive .*{name} cannot be read: .*; copy it again, or unpack it"):
        walk([f"{tmp_path}/{name}"])


def test_a_tar_that_is_cut_off_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    path = pack_tar(tmp_path / "x.tar", {"a.jpg": b"x" * 1000})
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(BulkError, match="cannot be read: unexpected end of data; copy it again"):
        walk([str(path)])

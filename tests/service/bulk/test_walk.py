"""service/bulk/walk.py: every image once, in the order of the paths, and what is none is told."""

import os
from pathlib import Path

import pytest

from service.bulk import walk as walks
from service.bulk.errors import BulkError
from service.bulk.walk import walk


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def found(*paths: object, below: Path) -> list[str]:
    return [item.path.removeprefix(f"{below}/") for item in walk(list(map(str, paths))).items]


def test_a_folder_gives_its_images_sorted_with_those_below_and_without_clutter(tmp_path: Path) -> None:
    fill(tmp_path, "b.JPG", "a/z.png", "a/b/c.webp", "a.jpeg", ".hidden.jpg", ".git/x.jpg", "__MACOSX/y.jpg", "Thumbs.db")
    fill(tmp_path, "notes.txt", "film.mov")
    assert found(tmp_path, below=tmp_path) == ["a.jpeg", "a/b/c.webp", "a/z.png", "b.JPG"]
    assert walk([str(tmp_path)]).left_out == 2


def test_pictures_of_other_formats_are_taken_so_that_each_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "a.heic", "b.gif", "c.tiff")
    assert found(tmp_path, below=tmp_path) == ["a.heic", "b.gif", "c.tiff"]


def test_a_file_without_an_ending_is_taken_where_it_begins_like_an_image(tmp_path: Path) -> None:
    (tmp_path / "3f2a").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "77c0").write_bytes(b"RIFF\0\0\0\0WEBP")
    fill(tmp_path, "LICENSE")
    assert found(tmp_path, below=tmp_path) == ["3f2a", "77c0"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    fill(tmp_path, "notes.txt", ".hidden.jpg")
    paths = tmp_path / "notes.txt", tmp_path / ".hidden.jpg"
    assert found(*paths, below=tmp_path) == [".hidden.jpg", "notes.txt"]


def test_a_file_that_is_named_in_several_ways_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "a/2.jpg")
    monkeypatch.chdir(tmp_path)
    assert [item.path for item in walk(["a", "a/1.jpg", "./a//2.jpg", f"{tmp_path}/a", "."]).items] == ["a/1.jpg", "a/2.jpg"]


def test_a_pattern_gives_what_matches_and_a_name_with_its_signs_is_a_name(tmp_path: Path) -> None:
    fill(tmp_path, "a1.jpg", "a2.jpg", "b/a3.jpg", "b/deep/a4.jpg", "[x].jpg")
    assert found(tmp_path / "a*.jpg", below=tmp_path) == ["a1.jpg", "a2.jpg"]
    assert found(tmp_path / "**/a*.jpg", below=tmp_path) == ["a1.jpg", "a2.jpg", "b/a3.jpg", "b/deep/a4.jpg"]
    assert found(tmp_path / "[x].jpg", below=tmp_path) == ["[x].jpg"]
    with pytest.raises(BulkError, match=r"nothing matches '.*/z\*'"):
        walk([f"{tmp_path}/z*"])


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "a" / "self.jpg").symlink_to("self.jpg")
    assert found(tmp_path / "a", below=tmp_path) == ["a/1.jpg", "a/3.jpg", "a/self.jpg", "a/up/elsewhere/2.jpg"]


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (item,) = walk([str(tmp_path)]).items
    with pytest.raises(FileNotFoundError):
        item.source.read(100)


def test_a_pipe_is_left_out_and_refused_where_it_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path, below=tmp_path) == ["1.jpg"]
    with pytest.raises(BulkError, match=r"pipe\.jpg is no file and no folder"):
        walk([f"{tmp_path}/pipe.jpg"])


def test_a_name_that_is_no_utf_8_is_shown_with_its_bytes_and_read(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(b"pixels")
    (item,) = walk([str(tmp_path)]).items
    assert item.path == f"{tmp_path}/caf\\xe9.jpg"
    assert item.source.read(100) == b"pixels"


def test_a_folder_to_leave_out_is_not_entered(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "sorted/cat/1.jpg")
    assert [item.path for item in walk([str(tmp_path)], tmp_path / "sorted").items] == [f"{tmp_path}/1.jpg"]


def test_what_changed_has_another_stamp(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg")
    before = walk([str(tmp_path)]).items[0].stamp
    assert walk([str(tmp_path)]).items[0].stamp == before
    (tmp_path / "1.jpg").write_bytes(b"longer")
    assert walk([str(tmp_path)]).items[0].stamp != before


def test_where_no_file_is_an_image_the_number_of_files_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "b.csv", "c.zip")
    with pytest.raises(BulkError, match=r"no images among 3 files in .*, 1 of them archives: name those themselves; images end"):
        walk([str(tmp_path)])


def test_an_empty_folder_and_a_path_that_is_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match="there are no files in it"):
        walk([str(tmp_path)])
    with pytest.raises(BulkError, match="nowhere cannot be read: No such file or directory; give files"):
        walk([f"{tmp_path}/nowhere"])
    with pytest.raises(BulkError, match=r"cannot be read: .*null"):
        walk(["a\0b"])


def test_a_folder_that_cannot_be_read_ends_it_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.jpg", "private/b.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("private"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(walks.os, "scandir", refuse)
    with pytest.raises(BulkError, match="private cannot be read: Permission denied; let it be read, or name the folders beside"):
        walk([str(tmp_path)])

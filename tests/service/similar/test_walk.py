"""service/similar/walk.py: what of a folder is taken, and that nothing outside of it is."""

import os
from pathlib import Path

import pytest

from models.errors import ImageError
from service.similar.manifest import IndexFault
from service.similar.walk import Picture, read, walk


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")
    return folder


def names(folder: Path) -> list[str]:
    return [picture.name for picture in walk(folder).pictures]


def test_images_are_found_by_their_endings_at_any_depth_and_sorted(tmp_path: Path) -> None:
    write(tmp_path, "b.JPG", "a/z.webp", "a/b/c.jpeg", "a.png", "notes.txt", "a/list.csv")
    assert names(tmp_path) == ["a.png", "a/b/c.jpeg", "a/z.webp", "b.JPG"]
    assert walk(tmp_path).others == 2


def test_hidden_files_and_what_systems_leave_behind_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a.png", ".a.png", ".git/b.png", "__MACOSX/c.png", "@eaDir/d.jpg")
    found = walk(tmp_path)
    assert [picture.name for picture in found.pictures] == ["a.png"]
    assert (found.others, found.failed) == (0, {})


def test_no_link_is_followed_whether_it_leads_out_or_in_or_round(tmp_path: Path) -> None:
    write(tmp_path / "outside", "secret.png")
    folder = write(tmp_path / "photos", "a.png")
    (folder / "out.png").symlink_to(tmp_path / "outside/secret.png")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "relative.png").symlink_to("../outside/secret.png")
    (folder / "in.png").symlink_to("a.png")
    (folder / "round").symlink_to(folder)
    (folder / "gone.png").symlink_to("nowhere")
    found = walk(folder)
    assert [picture.name for picture in found.pictures] == ["a.png"]
    assert set(found.failed) == {"out.png", "out", "relative.png", "in.png", "round", "gone.png"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "photos", "a/b.png")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert names(tmp_path / "link") == ["a/b.png"]
    assert names(tmp_path / "photos/../link") == ["a/b.png"]


def test_a_file_that_became_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "secret")
    (tmp_path / "a.png").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic links"):
        read(Picture("a.png", tmp_path / "a.png"))
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(ImageError, match="plain file"):
        read(Picture("b.png", tmp_path / "b.png"))
    assert "b.png" not in names(write(tmp_path, "c.png"))


def test_names_that_look_like_paths_out_of_the_folder_are_names_in_it(tmp_path: Path) -> None:
    write(tmp_path, "..hidden.png", "...png", "a/..b.png", "a\\..\\b.png", "%2e%2e.png")
    assert names(tmp_path) == ["%2e%2e.png", "a\\..\\b.png"]


def test_a_name_that_is_no_text_is_told_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"image")
    except OSError:
        pytest.skip("the file system takes no names that are not UTF-8")
    found = walk(tmp_path)
    assert [picture.name for picture in found.pictures] == ["a.png"]
    assert found.failed == {"caf\\xe9.png": "its name is not UTF-8; rename it"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    assert walk(tmp_path).failed == {"closed": "the folder cannot be read: Permission denied"}
    (tmp_path / "closed").chmod(0o700)


def test_a_folder_without_images_or_none_is_refused_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(IndexFault, match="is not a folder"):
        walk(tmp_path / "nowhere")
    with pytest.raises(IndexFault, match=r"has no image .* but no file"):
        walk(tmp_path)
    with pytest.raises(IndexFault, match="but 2 files with other endings"):
        walk(write(tmp_path, "a.txt", "b/c.gif"))

"""hubel inspect: what it finds, says, writes and exits with."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.package.label_names import spelled
from tests.factories import encode
from tests.training.data.factories import photo, saved_anew
from tests.training.data.sources.factories import samples, write_shard
from tests.training.factories import SPEC
from training.__main__ import main
from training.data.dataset import load_training
from training.errors import DataError
from training.inspection import page

Folder = Path


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """train/ and val/ of two classes without any fault; read only."""
    root = tmp_path_factory.mktemp("clean") / "photos"
    for c, name in enumerate(("cat", "dog")):
        for split, first, count in (("train", 0, 22), ("val", 50, 3)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"{i:02d}.png").write_bytes(encode(photo(100 * c + first + i, 64)))
    return root


@pytest.fixture
def photos(clean: Folder, tmp_path: Path) -> Folder:
    """A copy to damage."""
    return shutil.copytree(clean, tmp_path / "photos")


def inspect(folder: str | Path, *options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and answer."""
    capsys.readouterr()
    code = main(["inspect", str(folder), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def kinds(answer: dict[str, Any]) -> list[str]:
    return [finding["kind"] for finding in (*answer["errors"], *answer["warnings"])]


def names(finding: dict[str, Any]) -> list[set[str]]:
    return [{image["name"].rpartition("photos/")[2] for image in group["images"]} for group in finding["groups"]]


def test_of_good_data_only_the_figures_are_told(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = inspect(clean, "--strict", capsys=capsys)

    assert code == 0
    assert kinds(answer) == []
    assert answer["images"] == 50
    assert answer["classes"] == {"cat": {"train": 22, "val": 3}, "dog": {"train": 22, "val": 3}}
    assert answer["shorter_side"] == {"min": 64, "median": 64, "max": 64}
    assert answer["formats"] == {"png": 50}


def test_the_table_shows_counts_and_says_what_was_looked_for(clean: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(clean)]) == 0

    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "photos: 50 images in 2 classes"
    assert lines[2:6] == ["class  train  val", "cat       22    3", "dog       22    3", "all       44    6"]
    assert lines[-1].startswith("nothing to report; looked for ")
    assert "inspect" in said.err  # the bar


def test_nothing_in_the_folder_is_changed(clean: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in clean.rglob("*")}

    inspect(clean, "--html", str(tmp_path / "page.html"), capsys=capsys)

    assert {path: path.stat().st_mtime_ns for path in clean.rglob("*")} == before


def test_the_same_picture_in_two_splits_is_an_error_and_comes_first(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photos / "train/cat/03.png", photos / "val/cat/leak.png")
    shutil.copy(photos / "train/cat/04.png", photos / "train/cat/again.png")

    code, answer = inspect(photos, capsys=capsys)

    assert code == 1
    assert kinds(answer) == ["leak", "copies"]
    assert names(answer["errors"][0]) == [{"train/cat/03.png", "val/cat/leak.png"}]
    assert answer["errors"][0]["groups"][0]["note"] == "the same file"
    assert names(answer["warnings"][0]) == [{"train/cat/04.png", "train/cat/again.png"}]
    main(["inspect", str(photos)])
    assert "error: 1 picture is in two splits\n  What is measured on images" in capsys.readouterr().out


def test_a_near_copy_in_another_split_is_a_warning(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "val" / "dog" / "near.jpg").write_bytes(saved_anew(photo(107, 64)))

    code, answer = inspect(photos, capsys=capsys)

    assert code == 0
    assert kinds(answer) == ["near-leak"]
    assert names(answer["warnings"][0]) == [{"train/dog/07.png", "val/dog/near.jpg"}]
    assert inspect(photos, "--strict", capsys=capsys)[0] == 1


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("cat", "Cat", True),
        ("caf\u00e9", "caf\u00e9\u200b", True),
        ("two words", "two\u00a0 words", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("a", "A", False),
        ("m2", "m\u00b2", False),
    ],
)
def test_classes_that_are_called_alike_are_an_error(
    first: str, second: str, alike: bool, photos: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(photos / "val")
    for old, new in (("cat", first), ("dog", second)):
        (photos / "train" / old).rename(photos / "train" / f"new {new}")
    for new in (first, second):
        (photos / "train" / f"new {new}").rename(photos / "train" / new)

    code, answer = inspect(photos, capsys=capsys)

    assert code == alike
    assert [finding["lines"] for finding in answer["errors"]] == (
        [[", ".join(map(spelled, sorted((first, second))))]] if alike else []
    )


COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("other", [APART, f"{COMPOSED} ", f"\u00a0{APART}"], ids=["NFD", "blank", "both"])
def test_folders_whose_names_look_the_same_are_one_class_which_is_told(
    other: str, photos: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(photos / "val")
    (photos / "train/cat").rename(photos / "train" / COMPOSED)
    (photos / "train" / other).mkdir()
    moved = sorted((photos / "train" / COMPOSED).iterdir())[::2]
    for path in moved:
        path.rename(photos / "train" / other / path.name)

    code, answer = inspect(photos, capsys=capsys)

    assert code == 0
    assert COMPOSED in answer["classes"]
    assert other not in answer["classes"]
    (finding,) = [found for found in answer["warnings"] if found["kind"] == "merged"]
    assert finding["lines"] == [f"{COMPOSED}: {'; '.join(map(spelled, sorted((COMPOSED, other), key=lambda n: n != COMPOSED)))}"]
    assert "U+00E9" in finding["lines"][0]


def test_a_validation_folder_may_write_an_accent_in_another_way(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "train/cat").rename(photos / "train" / COMPOSED)
    (photos / "val/cat").rename(photos / "val" / f"{APART} ")

    code, answer = inspect(photos, capsys=capsys)

    assert code == 0
    assert "unknown" not in kinds(answer)
    assert set(answer["classes"]) == {COMPOSED, "dog"}


def test_a_class_that_the_validation_images_lack_is_a_warning(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(photos / "val" / "dog")

    code, answer = inspect(photos, capsys=capsys)

    assert code == 0
    assert kinds(answer) == ["lacking"]
    assert answer["warnings"][0]["lines"] == ["dog: none in val"]


def test_a_group_in_two_splits_is_an_error(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["path,label,split,group"]
    rows += [f"{p.relative_to(photos)},{p.parent.name},{p.parts[-3]},{p.stem}" for p in sorted(photos.rglob("*.png"))]
    (photos / "list.csv").write_text("\n".join(rows))

    code, answer = inspect(photos / "list.csv", capsys=capsys)

    assert code == 1
    assert answer["errors"][0]["title"] == "3 groups are in two splits"
    assert answer["errors"][0]["lines"] == [f"0{i}: train, val" for i in range(3)]


def test_a_picture_with_two_labels_is_named_with_both(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "train" / "dog" / "cat.webp").write_bytes(encode(photo(5, 64), "WEBP", lossless=True))
    (photos / "train" / "dog" / "near.jpg").write_bytes(saved_anew(photo(6, 64)))

    _, answer = inspect(photos, capsys=capsys)

    assert kinds(answer) == ["labels", "near-labels"]
    (group,) = answer["warnings"][0]["groups"]
    assert {image["label"] for image in group["images"]} == {"cat", "dog"}
    assert group["note"] == "the same pixels"


def test_files_that_are_left_out_are_named_with_the_reason(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    red = photos / "train" / "cat"
    (red / "text.jpg").write_text("hello")
    (red / "cut.png").write_bytes((red / "00.png").read_bytes()[:500])
    (red / "image.png").write_bytes(encode(photo(0), "GIF"))
    (red / "loop").symlink_to("..")

    code, answer = inspect(photos, capsys=capsys)

    assert code == 0
    assert kinds(answer) == ["left-out"]
    assert answer["left_out"] == 4
    reasons = {line.split(": ")[0].rpartition("/")[2]: line.split(": ")[1] for line in answer["warnings"][0]["lines"]}
    assert set(reasons) == {"text.jpg", "cut.png", "image.png", "loop"}
    assert "looks like GIF" in reasons["image.png"]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        pytest.param(lambda root: (root / "train" / "empty").mkdir(), "empty", id="an empty class"),
        pytest.param(lambda root: (root / "val" / "cat").rename(root / "val" / "cats"), "unknown", id="a class of val alone"),
        pytest.param(lambda root: shutil.rmtree(root / "train" / "dog"), "classes", id="one class"),
    ],
)
def test_what_makes_training_fail_is_an_error_here(
    damage: Any, kind: str, photos: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(photos)

    code, answer = inspect(photos, capsys=capsys)

    assert code == 1
    assert kind in [finding["kind"] for finding in answer["errors"]]
    with pytest.raises(DataError):
        load_training(photos, SPEC, 0.1, 0)


def test_a_class_of_one_image_that_cannot_be_split_is_an_error(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(photos / "val")
    (photos / "train" / "bird").mkdir()
    (photos / "train" / "bird" / "a.png").write_bytes(encode(photo(999, 64)))

    code, answer = inspect(photos, capsys=capsys)

    assert code == 1
    assert answer["errors"][0]["title"] == "1 class has 1 image"
    assert kinds(answer) == ["single", "scarce", "imbalance"]
    assert 'balance = "weights"' in answer["warnings"][1]["advice"]
    assert answer["imbalance"] == 22


def test_a_class_of_one_image_many_times_cannot_be_split_either(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(photos / "val")
    for path in (photos / "train" / "cat").iterdir():
        path.write_bytes(encode(photo(999, 64)))

    code, answer = inspect(photos, capsys=capsys)

    assert code == 1
    assert answer["errors"][0]["lines"] == ["cat, 22 times"]
    with pytest.raises(DataError, match="class cat has 1 usable image, 22 times"):
        load_training(photos, SPEC, 0.1, 0)


def test_odd_images_are_named(photos: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "train" / "cat" / "black.png").write_bytes(encode(Image.new("RGB", (64, 64))))
    row = np.concatenate([np.asarray(photo(seed, 64)) for seed in range(900, 905)], axis=1)
    (photos / "train" / "cat" / "long.png").write_bytes(encode(Image.fromarray(row)))

    _, answer = inspect(photos, capsys=capsys)

    assert kinds(answer) == ["plain", "long", "grey"]
    assert names(answer["warnings"][1]) == [{"train/cat/long.png"}]


def test_many_classes_and_findings_are_shortened_in_the_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(60):
        (tmp_path / f"class-{i:02d}").mkdir()
        (tmp_path / f"class-{i:02d}" / "a.png").write_bytes(encode(photo(i, 32)))

    assert main(["inspect", str(tmp_path)]) == 1

    said = capsys.readouterr().out
    assert "(20 more)" in said
    assert "error: 60 classes have 1 image" in said
    assert said.count("class-") == 40 + 5 + 5
    assert len(inspect(tmp_path, capsys=capsys)[1]["errors"][0]["lines"]) == 60


def test_the_page_lists_some_of_very_many_classes_and_says_where_all_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_ROWS", 4)
    for i in range(7):
        (tmp_path / "data" / f"class-{i}").mkdir(parents=True)
        for j in range(2):
            (tmp_path / "data" / f"class-{i}" / f"{j}.png").write_bytes(encode(photo(2 * i + j, 32)))

    inspect(tmp_path / "data", "--html", str(tmp_path / "page.html"), capsys=capsys)

    text = (tmp_path / "page.html").read_text()
    assert text.count('<tr><th scope="row"><bdi>class-') == 4
    assert "3 more, which <code>--json</code> lists." in text


def test_other_forms_than_folders_are_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = write_shard(tmp_path / "train.tar", samples("0101") | {"x.jpg": b"no class"})

    code, answer = inspect(shard, capsys=capsys)

    assert code == 0
    assert answer["classes"] == {"0": {"train": 2}, "1": {"train": 2}}
    assert answer["left_out"] == 1


class Page(HTMLParser):
    """Tags and sources of a page; an error where it is not well formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_what_was_found_and_needs_nothing_else(
    photos: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "train/cat/03.png", photos / "val/cat/leak.png")

    inspect(photos, "--html", str(tmp_path / "page.html"), capsys=capsys)

    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert page.tags.count("img") == 2 + 2 * 8  # the pair and samples of each class
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in page.sources)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "1 picture is in two splits" in text
    assert "val/cat/leak.png" in text


def test_names_on_the_page_and_in_the_table_are_text(photos: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = os.fsencode(photos) + b"/train/cat/<script>alert('1')&\x1b[31m\xff.png"
    shutil.copy(os.fsencode(photos / "train/cat/03.png"), evil)
    (photos / "train" / "dog").rename(photos / "train" / '<u>"dog"')
    shutil.rmtree(photos / "val")

    assert main(["inspect", str(photos), "--html", str(tmp_path / "page.html")]) == 0

    text = (tmp_path / "page.html").read_text()
    assert {"script", "u"}.isdisjoint(Page(text).tags)
    assert r"&lt;script&gt;alert(&#39;1&#39;)&amp;\x1b[31m\xff.png" in text
    assert r"<script>alert('1')&\x1b[31m\xff.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("{data}/train/cat/00.png", "would replace .*/00.png: give --html a name that ends in .html"),
        ("{data}/none/page.html", "none is not a folder"),
    ],
)
def test_a_page_that_would_replace_an_image_or_has_no_place_is_refused_at_once(
    page: str, message: str, photos: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(photos), "--html", page.format(data=photos)]) == 1

    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert "images/s" not in said.err


def test_data_that_cannot_be_opened_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "none")]) == 1

    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none is not a folder")


def test_a_folder_without_classes_is_told_as_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(encode(photo(0)))

    code, answer = inspect(tmp_path, "--html", str(tmp_path / "page.html"), capsys=capsys)

    assert code == 1
    assert [finding["title"] for finding in answer["errors"]] == ["0 classes to train on"]

"""training/review: kept images in the order in which they matter, in class folders, with a list and a page."""

import csv
from datetime import timedelta
from pathlib import Path

import pytest

from models.captures import captured
from tests.training.review.kept import NOW, put
from training.__main__ import main
from training.data.sources.catalogue import open_source
from training.errors import DataError
from training.review.collect import CONFIRMED, CORRECTED, DISPUTED, UNSURE, USUAL, WRONG, collect
from training.review.layout import review


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    captured.prepare(tmp_path / "kept")
    return tmp_path / "kept"


def test_corrected_images_come_first_then_unsure_ones(folder: Path) -> None:
    put(folder, "usual")
    put(folder, "confirmed", given="cat")
    put(folder, "unsure", probability=0.5, unsure=True)
    put(folder, "least-sure", probability=0.3, unsure=True)
    put(folder, "wrong", right=False)
    put(folder, "corrected", probability=0.6, given="dog")
    put(folder, "sure-and-wrong", probability=0.99, given="dog")
    cases = collect(folder)
    assert [(case.answer.answer_id, case.reason, case.label) for case in cases] == [
        ("sure-and-wrong", CORRECTED, "dog"),
        ("corrected", CORRECTED, "dog"),
        ("wrong", WRONG, None),
        ("least-sure", UNSURE, None),
        ("unsure", UNSURE, None),
        ("confirmed", CONFIRMED, "cat"),
        ("usual", USUAL, None),
    ]


def test_an_image_that_came_several_times_is_one_case_and_different_labels_dispute_it(folder: Path) -> None:
    later = NOW + timedelta(hours=1)
    put(folder, "a", seed=1, given="dog")
    put(folder, "b", seed=1)
    put(folder, "c", seed=1, right=False, given_at=later)
    (case,) = collect(folder)
    assert (case.reason, case.label) == (CORRECTED, "dog")
    put(folder, "d", seed=1, right=True)  # someone says cat, as was answered
    (case,) = collect(folder)
    assert (case.reason, case.label) == (DISPUTED, None)


def test_images_are_copied_into_class_folders_with_a_list_and_a_page(folder: Path, tmp_path: Path) -> None:
    corrected, unsure = put(folder, "corrected", given="dog"), put(folder, "unsure", probability=0.4, unsure=True)
    put(folder, "confirmed", given="cat")
    out = tmp_path / "out"

    said = review(folder, out)

    assert (said["to_train_on"], said["to_review"]) == (2, 1)
    assert said["reasons"] == {CORRECTED: 1, UNSURE: 1, CONFIRMED: 1}
    assert (out / "train" / "dog" / f"{corrected[:16]}.png").read_bytes() == (folder / captured.IMAGES / corrected).read_bytes()
    assert (out / "to-review" / "cat" / f"{unsure[:16]}.png").is_file()
    with open(out / "review.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["order"], row["reason"], row["given"], row["predicted"], row["version"]) for row in rows] == [
        ("1", CORRECTED, "dog", "cat", "3"),
        ("2", UNSURE, "", "cat", "3"),
        ("3", CONFIRMED, "cat", "cat", "3"),
    ]
    assert all((out / row["file"]).is_file() for row in rows)
    page = (out / "review.html").read_text()
    assert page.count("<img") == 3
    assert page.index("Another label was given: 1") < page.index("Unsure: 1") < page.index("Called right: 1")
    assert "http" not in page.replace("http-equiv", "")
    assert {item.label for item in open_source(out).train.items} == {"cat", "dog"}


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    put(folder, "a")
    (tmp_path / "out").mkdir()
    review(folder, tmp_path / "out")  # an empty folder is as good as none
    with pytest.raises(DataError, match="nothing is overwritten"):
        review(folder, tmp_path / "out")


@pytest.mark.parametrize("label", ["../../etc", "a/b", ".hidden", "..", " "])
def test_a_label_that_is_no_name_of_a_folder_leads_nowhere_else(folder: Path, tmp_path: Path, label: str) -> None:
    put(folder, "a", label=label, given="other")
    put(folder, "b", given=label)
    review(folder, tmp_path / "deep" / "out")
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.png")}
    assert made == {"kept", "deep"}
    found = sorted(path.relative_to(tmp_path / "deep" / "out").parent.as_posix() for path in (tmp_path / "deep").rglob("*.png"))
    assert found == ["to-review/cat", "train/other"]


def test_what_is_no_folder_of_kept_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "is no folder of kept images" in capsys.readouterr().err
    captured.prepare(tmp_path)
    assert main(["feedback", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "holds no image yet" in capsys.readouterr().err


def test_the_command_says_where_the_page_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder, "a", given="dog")
    assert main(["feedback", str(folder), str(tmp_path / "out")]) == 0
    assert f"page: {tmp_path / 'out' / 'review.html'}" in capsys.readouterr().out

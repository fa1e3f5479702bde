"""service/similar/commands.py: hubel index and hubel near-copies as they are typed."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import main
from service.similar import commands
from service.similar.index import Index
from tests.service.similar.indexes import make_photos


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tiny_store: Path) -> None:
    for name, value in {"STORE": str(tiny_store), "MODEL": "tiny", "DEVICE": "cpu", "THREADS": "1", "MAX_BATCH": "4"}.items():
        monkeypatch.setenv(f"HUBEL_{name}", value)
    monkeypatch.delenv("HUBEL_INDEX_DIR", raising=False)


def test_an_index_is_made_where_a_service_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUBEL_INDEX_DIR", str(tmp_path / "index"))
    photos = make_photos(tmp_path / "photos")
    assert main(["index", str(photos)]) == 0
    assert "9 added, 0 changed, 0 removed, 0 unchanged; 9 computed" in capsys.readouterr().out
    assert Index(tmp_path / "index/tiny/1").manifest.images == 9


def test_the_folder_and_the_version_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBEL_MODEL", "nothing")
    photos = make_photos(tmp_path / "photos", 1)
    assert main(["index", str(photos), "--model", "tiny:1", "--out", str(tmp_path / "other")]) == 0
    assert Index(tmp_path / "other/tiny/1").manifest.images == 3


def test_as_json_everything_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    for i in range(30):
        (photos / f"bad{i}.jpg").write_bytes(b"bad")
    assert main(["index", str(photos), "--out", str(tmp_path / "index"), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["images"], len(found["failed"])) == (3, 30)


def test_damaged_images_are_counted_and_named_on_stderr_up_to_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    for i in range(30):
        (photos / f"bad{i:02}\n.jpg").write_bytes(b"bad")
    assert main(["index", str(photos), "--out", str(tmp_path / "index")]) == 0
    said = capsys.readouterr().err
    assert "30 cannot be used and are left out:" in said
    assert "  bad00\\n.jpg: " in said  # a name cannot break the line
    assert "and 10 more" in said


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["index", "PHOTOS"], "--out DIR, or set HUBEL_INDEX_DIR"),
        (["index", "PHOTOS/nothing", "--out", "OUT"], "is not a folder"),
        (["index", "PHOTOS", "--out", "OUT", "--model", "tiny:7"], "no version '7' of model tiny"),
        (["index", "PHOTOS", "--out", "/proc/nothing"], "cannot be written to"),
        (["near-copies", "--out", "OUT"], "there is no index of tiny:1"),
        (["near-copies"], "--out DIR, or set HUBEL_INDEX_DIR"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    assert main([word.replace("PHOTOS", str(photos)).replace("OUT", str(tmp_path / "out")) for word in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert reason in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("threshold", ["0", "-1", "1.01", "nan", "much"])
def test_a_threshold_that_is_no_cosine_is_refused(threshold: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["near-copies", f"--threshold={threshold}"])
    assert "--threshold" in capsys.readouterr().err


def test_near_copies_are_listed_in_groups_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    (photos / "copy.png").write_bytes((photos / "red/0.png").read_bytes())
    out = ["--out", str(tmp_path / "index")]
    assert main(["index", str(photos), *out]) == 0
    capsys.readouterr()
    assert main(["near-copies", *out, "--threshold", "0.9999"]) == 0
    assert capsys.readouterr().out == "1.000  copy.png  red/0.png\n4 images, 1 groups of near copies with 2 of them\n"
    assert main(["near-copies", *out, "--threshold", "0.9999", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "threshold": 0.9999,
        "groups": [{"score": 1.0, "images": ["copy.png", "red/0.png"]}],
    }


def test_ctrl_c_ends_it_with_130_and_the_index_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", str(make_photos(tmp_path / "photos", 1)), "--out", str(tmp_path / "index")]
    assert main(words) == 0

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.Progress, "advance", stop)
    assert main(words) == 130
    assert "an index that was there before stays" in capsys.readouterr().err
    assert Index(tmp_path / "index/tiny/1").manifest.images == 3

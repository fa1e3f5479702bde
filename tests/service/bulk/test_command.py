"""hubel classify: its outputs and exit codes, and what it says of wrong input."""

import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.__main__ import main
from service.bulk import command
from tests.factories import LABELS, make_image, png_header
from tests.server import ROOT, Server, environment

Classify = Callable[..., tuple[int, str, str]]


@pytest.fixture
def classify(tiny_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Classify:
    """``classify(PATH, …)`` in this process: exit code, standard output and standard error."""
    for name, value in settings(tiny_store).items():
        monkeypatch.setenv(name, value)

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["classify", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def settings(store: Path) -> dict[str, str]:
    return {"HUBEL_STORE": str(store), "HUBEL_MODEL": "tiny", "HUBEL_DEVICE": "cpu", "HUBEL_THREADS": "1"}


def fill(folder: Path, n: int) -> Path:
    """n images, whose names tell their classes."""
    folder.mkdir(exist_ok=True)
    files = [make_image("JPEG", seed=seed, color=LABELS[seed]) for seed in range(3)]
    for number in range(n):
        (folder / f"{number:05}-{LABELS[number % 3]}.jpg").write_bytes(files[number % 3])
    return folder


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(store: Path, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "service", "classify", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(**settings(store)), stderr=subprocess.PIPE, text=True)


def test_a_folder_becomes_a_table_of_its_images_and_a_summary(classify: Classify, tmp_path: Path) -> None:
    code, out, err = classify(fill(tmp_path / "a", 40), "--out", tmp_path / "x.jsonl")
    rows = read(tmp_path / "x.jsonl")
    assert (code, out) == (0, "")
    assert [str(row["path"]).removesuffix(".jpg").rpartition("-")[2] for row in rows] == [row["label"] for row in rows]
    assert len(rows) == 40
    assert "red    14" in err
    assert "40 images: 40 answered, " in err


def test_the_same_command_does_nothing_once_the_output_is_whole(classify: Classify, tmp_path: Path) -> None:
    words = fill(tmp_path / "a", 3), "--out", tmp_path / "x.csv"
    classify(*words)
    before = (tmp_path / "x.csv").stat()
    assert classify(*words)[::2] == (0, f"{tmp_path}/x.csv is complete already, nothing was done; --overwrite makes it again\n")
    assert (tmp_path / "x.csv").stat() == before
    assert classify(*words, "--overwrite")[0] == 0
    assert (tmp_path / "x.csv").stat().st_ino != before.st_ino
    fill(tmp_path / "a", 4)
    code, _, err = classify(*words)
    assert code == 1
    assert "was made from something else (images 3, now 4)" in err


def test_without_an_output_rows_go_to_standard_output(classify: Classify, tmp_path: Path) -> None:
    code, out, err = classify(fill(tmp_path / "a", 3))
    assert code == 0
    assert [json.loads(line)["label"] for line in out.splitlines()] == list(LABELS)
    assert "3 images: 3 answered" in err


def test_bad_images_get_rows_with_their_codes(classify: Classify, tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 30)
    bad = {"cut.jpg": make_image()[:300], "x.gif": b"GIF89a", "empty.png": b"", "huge.png": png_header(9000, 9000)}
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    code, out, err = classify(folder)
    rows = {Path(row["path"]).name: row for row in map(json.loads, out.splitlines())}
    assert code == 0
    codes = ["undecodable_image", "unsupported_format", "undecodable_image", "image_too_large"]
    assert [rows[name]["error"] for name in bad] == codes
    assert all(rows[name]["detail"] and "label" not in rows[name] for name in bad)
    assert "4 failed: 2 undecodable_image, 1 image_too_large, 1 unsupported_format" in err


def test_more_failures_than_allowed_end_it_with_code_1(classify: Classify, tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 30)
    for number in range(2):
        (folder / f"x{number}.jpg").write_bytes(b"no image")
    code, _, err = classify(folder, "--out", tmp_path / "x.csv", "--max-failures", "5%")
    assert code == 0
    code, _, err = classify(folder, "--out", tmp_path / "y.csv", "--max-failures", 1)
    assert code == 1
    assert "error: 2 of 32 images failed, at most 1 may (--max-failures); what was answered is kept in " in err
    assert not (tmp_path / "y.csv").exists()
    assert classify(folder, "--out", tmp_path / "y.csv", "--max-failures", 2)[0] == 0
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()


def test_where_every_image_failed_the_code_is_1(classify: Classify, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("text")
    code, out, err = classify(tmp_path / "x.txt")
    assert code == 1
    assert json.loads(out)["error"] == "unsupported_format"
    assert "error: none of 1 images could be answered; the rows say why" in err


def test_images_are_copied_into_folders_of_their_classes_and_the_rows_say_where(classify: Classify, tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 6)
    words = folder, "--out", tmp_path / "x.jsonl", "--copy-into", folder / "sorted"
    assert classify(*words)[0] == 0
    for row in read(tmp_path / "x.jsonl"):
        assert (folder / "sorted" / str(row["copy"])).read_bytes() == Path(str(row["path"])).read_bytes()
        assert str(row["copy"]).startswith("unsure/" if row["unsure"] else f"{row['label']}/")
    assert classify(*words)[::2] == (0, f"{tmp_path}/x.jsonl is complete already, nothing was done; --overwrite makes it again\n")
    assert classify(*words, "--overwrite")[0] == 0
    assert len([path for path in (folder / "sorted").rglob("*") if path.is_file()]) == 6


@pytest.mark.server
def test_a_service_answers_the_same_rows(classify: Classify, server: Server, tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 40)
    (folder / "x.jpg").write_bytes(b"no image")
    assert classify(folder, "--out", tmp_path / "here.csv")[0] == 0
    assert classify(folder, "--url", server.url, "--out", tmp_path / "there.csv")[0] == 0
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere cannot be read: No such file or directory"),
        (["photo.jpg", "--out", "x.xlsx"], "--out x.xlsx ends in '.xlsx'; let it end in .csv, .jsonl, .parquet"),
        (["photo.jpg", "--out", "."], "--out . is a folder; name a file"),
        (["photo.jpg", "--out", "nowhere/x.csv"], "nowhere/x.csv.partial cannot be written: No such file or directory"),
        (["photo.jpg", "--model", "none"], "no model 'none' in "),
        (["photo.jpg", "--model", "tiny:7"], "no version '7' of model tiny in "),
        (["photo.jpg", "--model", "tiny", "--url", "http://127.0.0.1:9"], "leave --model out"),
        (["photo.jpg", "--url", "127.0.0.1"], "127.0.0.1 is no address of a service"),
        (["photo.jpg", "--copy-into", "photo.jpg/x"], "--copy-into photo.jpg/x cannot be made: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    words: list[str], said: str, classify: Classify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").write_bytes(make_image())
    monkeypatch.chdir(tmp_path)
    code, out, err = classify(*words)
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last


@pytest.mark.parametrize("value", ["-1", "101%", "few"])
def test_an_allowance_that_is_none_is_refused(value: str, classify: Classify, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        classify("x.jpg", f"--max-failures={value}")
    assert f"{value!r} is neither a count nor a share from 0% to 100%" in capsys.readouterr().err


def test_a_name_that_is_no_utf_8_is_in_every_form(classify: Classify, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(make_image())
    assert json.loads(classify(tmp_path)[1])["path"].endswith("/caf\\xe9.jpg")
    assert classify(tmp_path, "--out", tmp_path / "x.csv")[0] == 0
    assert b"caf\\xe9.jpg" in (tmp_path / "x.csv").read_bytes()


def test_ctrl_c_ends_it_with_code_130_and_the_same_command_goes_on(
    classify: Classify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = fill(tmp_path / "a", 100), "--out", tmp_path / "x.csv"

    def interrupt(_: object, done: int) -> None:
        if done >= 32:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command.Progress, "tell", interrupt)
        code, _, err = classify(*words)
    assert code == 130
    assert "stopped after 32 of 100 images; the same command goes on from there" in err
    code, _, err = classify(*words)
    assert code == 0
    assert "100 images, 32 of them answered before; tiny:1" in err
    assert (tmp_path / "x.csv").read_text().count("\n") == 101


def test_a_signal_at_any_time_ends_it_with_code_130(tiny_store: Path, tmp_path: Path) -> None:
    words = fill(tmp_path / "a", 3000), "--out", tmp_path / "x.csv"
    process = start(tiny_store, *words)
    while process.poll() is None and not (tmp_path / "x.csv.partial").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped" in err.splitlines()[-1]


@pytest.mark.parametrize(("target", "code"), [("| true", 1), ("> /dev/full", 1)])
def test_output_that_nobody_takes_ends_it_without_a_traceback(target: str, code: int, tiny_store: Path, tmp_path: Path) -> None:
    line = f"set -o pipefail; {shlex.quote(sys.executable)} -m service classify {fill(tmp_path / 'a', 100)} {target}"
    run = ["bash", "-c", line]
    found = subprocess.run(run, cwd=ROOT, env=environment(**settings(tiny_store)), capture_output=True, text=True, check=False)
    assert found.returncode == code
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr


def test_a_full_disk_ends_it_with_a_line_and_the_same_command_goes_on(tiny_store: Path, tmp_path: Path) -> None:
    words = fill(tmp_path / "a", 200), "--out", tmp_path / "x.csv"
    code = "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
    code += "from service.__main__ import main; sys.exit(main(['classify', *sys.argv[1:]]))"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    small = [sys.executable, "-c", code, *map(str, words)]
    found = subprocess.run(small, cwd=ROOT, env=environment(**settings(tiny_store)), capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "x.csv.partial cannot be written: File too large; " in found.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "x.csv.partial"]
    whole = start(tiny_store, *words)
    err = whole.communicate()[1]
    assert whole.returncode == 0
    assert " of them answered before" in err
    assert (tmp_path / "x.csv").read_text().count("\n") == 201


@pytest.mark.long
def test_killed_at_twenty_random_points_every_image_is_in_the_output_once(tiny_store: Path, tmp_path: Path) -> None:
    """The points are distances of the journal's growth, so that each run gets on, whatever the machine's speed."""
    n, out = 10_000, tmp_path / "x.jsonl"
    words = fill(tmp_path / "a", n), "--out", out, "--copy-into", tmp_path / "sorted"
    chance, journal = random.Random(7), tmp_path / "x.jsonl.partial"
    for _ in range(20):
        process = start(tiny_store, *words)
        begun = journal.stat().st_size if journal.exists() else 0
        until = begun + chance.randrange(1, 90_000)
        while process.poll() is None and (not journal.exists() or journal.stat().st_size < until):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    last = start(tiny_store, *words)
    assert "answered before" in last.communicate()[1]
    rows = read(out)
    assert [row["path"] for row in rows] == sorted(str(path) for path in (tmp_path / "a").iterdir())
    assert all(str(row["path"]).endswith(f"-{row['label']}.jpg") for row in rows)
    copied = sorted(path.name for path in (tmp_path / "sorted").rglob("*") if path.is_file())
    assert copied == sorted(Path(str(row["path"])).name for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "sorted", "x.jsonl", "x.jsonl.run.json"]

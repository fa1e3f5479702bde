"""The files of the metrics: a worker that replaces another counts on, what is gone says nothing of the present."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.telemetry import multiprocess

ROOT = Path(__file__).parents[3]
COUNT = """
import sys
from service.telemetry import multiprocess
multiprocess.open_as(sys.argv[1])
from service.telemetry import metrics
metrics.WORKER_RESTARTS.inc()
metrics.IN_PROGRESS.inc()
for i in range(int(sys.argv[2])):
    for status in "200", "400", "413", "422", "429", "503", "504":
        metrics.REQUESTS_BY_KEY.labels(f"a-caller-with-a-name-{i}", status).inc()
print(metrics.render().decode())
"""


def count_as(name: str, folder: Path, keys: int = 0) -> list[str]:
    """What a process of that name renders after it counted one restart, one request in progress and some of API keys."""
    command = [sys.executable, "-c", COUNT, name, str(keys)]
    run = subprocess.run(
        command, cwd=ROOT, env={multiprocess.VARIABLE: str(folder)}, capture_output=True, text=True, timeout=60, check=True
    )
    return run.stdout.splitlines()


def test_one_that_takes_the_place_of_another_counts_on_and_its_gauges_begin_anew(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        multiprocess.prepare(tmp_path, "worker-1")
        lines = count_as("worker-1", tmp_path)
        assert f"hubel_worker_restarts_total {expected}.0" in lines
        assert "hubel_requests_in_progress 1.0" in lines
        multiprocess.forget_live(tmp_path, "worker-1")


def test_processes_add_up_and_one_that_is_gone_has_nothing_in_progress(tmp_path: Path) -> None:
    for name in ("worker-1", "worker-11"):
        multiprocess.prepare(tmp_path, name)
    count_as("worker-1", tmp_path)
    assert "hubel_requests_in_progress 2.0" in count_as("worker-11", tmp_path)
    multiprocess.forget_live(tmp_path, "worker-1")
    lines = count_as("worker-11", tmp_path)
    assert "hubel_requests_in_progress 2.0" in lines  # both its own
    assert "hubel_worker_restarts_total 3.0" in lines


def test_the_files_are_made_in_full_and_do_not_grow(tmp_path: Path) -> None:
    multiprocess.prepare(tmp_path, "worker-0")
    sizes = {f"{kind}_worker-0.db": size for kind, size in multiprocess.KINDS.items()}
    assert {path.name for path in tmp_path.iterdir()} == set(sizes)
    assert all(path.stat().st_blocks * 512 >= sizes[path.name] for path in tmp_path.iterdir())
    count_as("worker-0", tmp_path, keys=100)
    assert {path.name: path.stat().st_size for path in tmp_path.glob("*.db")} == sizes


TORN = b"\x40" + bytes(7) + b"\xff\xff\xff\x7f" + bytes(300_000)  # an entry longer than the file


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, TORN], ids=["empty", "noise", "torn"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    multiprocess.prepare(tmp_path, "worker-0")
    path = tmp_path / "counter_worker-0.db"
    path.write_bytes(damage)
    assert not multiprocess.is_whole(path, multiprocess.KINDS["counter"])
    multiprocess.prepare(tmp_path, "worker-0")
    assert multiprocess.is_whole(path, multiprocess.KINDS["counter"])
    assert "hubel_worker_restarts_total 1.0" in count_as("worker-0", tmp_path)


WATCH = """
import os, pathlib, shutil, sys
from service.telemetry import multiprocess
folder = pathlib.Path(sys.argv[1])
multiprocess.prepare(folder, "worker-3")
multiprocess.open_as("worker-3")
from service.telemetry import metrics
metrics.SWAPS.labels("tiny", "done").inc(41)
shutil.rmtree(folder)
metrics.SWAPS.labels("tiny", "done").inc()
metrics.SWAPS.labels("tiny", "refused").inc()
text = metrics.render().decode()
again = os.stat(folder).st_ino
metrics.SWAPS.labels("tiny", "done").inc()
shutil.rmtree(folder)
elsewhere = folder.with_name("elsewhere")
elsewhere.mkdir()
os.symlink(elsewhere, folder)
metrics.upkeep()
print(folder.is_symlink(), os.listdir(elsewhere))
os.unlink(folder)
metrics.upkeep()
print(text, metrics.render().decode(), (folder / "held").exists(), folder.stat().st_mode & 0o777 == 0o700)
"""


def test_a_folder_that_something_removes_is_made_anew_with_all_that_was_counted(tmp_path: Path) -> None:
    folder = tmp_path / "hubel-metrics-x"
    folder.mkdir(0o700)
    command = [sys.executable, "-c", WATCH, str(folder)]
    run = subprocess.run(command, cwd=ROOT, env={multiprocess.VARIABLE: str(folder)}, capture_output=True, text=True, timeout=60)
    first, *lines = run.stdout.splitlines()
    assert first == "True []", run.stderr  # nothing is written where another's link leads
    found = [line for line in lines if line.startswith("hubel_swaps_total{")]
    assert found == [
        'hubel_swaps_total{model="tiny",result="done"} 42.0',
        'hubel_swaps_total{model="tiny",result="refused"} 1.0',
        'hubel_swaps_total{model="tiny",result="done"} 43.0',
        'hubel_swaps_total{model="tiny",result="refused"} 1.0',
    ]
    assert lines[-1] == " True True"


@pytest.mark.parametrize("what", ["a file", "a link", "open to others"])
def test_a_folder_that_others_can_change_is_none(tmp_path: Path, what: str) -> None:
    place = tmp_path / "metrics"
    if what == "a file":
        place.touch()
    elif what == "a link":
        place.symlink_to(tmp_path)
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(OSError, match="File exists" if what == "a file" else "only this user can change"):
        multiprocess.prepare(place, "worker-0")


def test_what_services_left_that_were_killed_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kinds = ["left", "held", "unmarked", "elsewhere"]
    left, held, unmarked, elsewhere = folders = [tmp_path / f"{multiprocess.PREFIX}{kind}" for kind in kinds]
    other = tmp_path / "other"
    for folder in (*folders[:3], other):
        multiprocess.prepare(folder, "worker-0")
    elsewhere.symlink_to(other)
    for folder in (left, other):
        (folder / multiprocess.MARK).touch()
    multiprocess.hold(held)
    try:
        assert multiprocess.clear(tmp_path) == [left]
        assert sorted(tmp_path.iterdir()) == sorted([held, unmarked, elsewhere, other])
        assert len(list(other.iterdir())) == 1 + len(multiprocess.KINDS)
    finally:
        os.close(multiprocess.locked.pop(held)[1])
    assert multiprocess.clear(tmp_path) == [held]


def test_temporary_files_of_a_library_go_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"{multiprocess.PREFIX}x"
    multiprocess.prepare(folder, "worker-0")
    (folder / multiprocess.MARK).touch()
    monkeypatch.setenv(multiprocess.VARIABLE, str(folder))
    before = tempfile.gettempdir()
    with multiprocess.temporary():
        made = Path(tempfile.mkdtemp(prefix="library-"))
    assert tempfile.gettempdir() == before
    assert made.parent == folder
    assert multiprocess.clear(tmp_path) == [folder]
    monkeypatch.delenv(multiprocess.VARIABLE)
    with multiprocess.temporary():
        assert tempfile.gettempdir() == before


def test_another_user_s_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"{multiprocess.PREFIX}x"
    multiprocess.prepare(folder, "worker-0")
    (folder / multiprocess.MARK).touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert multiprocess.clear(tmp_path) == []
    with pytest.raises(PermissionError):
        multiprocess.own(folder)


def test_no_room_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        multiprocess.prepare(tmp_path / "nowhere" / "below", "worker-0")

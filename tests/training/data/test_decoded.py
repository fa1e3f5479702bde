"""training/data/decoded.py: images that are too many for the memory lie on the disk, whole, and are the same there."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from models import files as model_files
from models.image.spec import InputSpec
from tests.factories import make_image
from tests.training.factories import SPEC, make_folder
from training.data import dataset, decoded, memory, parallel
from training.data.dataset import ImageSet
from training.data.pixels import OnDisk
from training.errors import DataError, StorageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours", each=4)


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the images of a run lie that are all too many for the memory."""
    monkeypatch.setattr(memory, "limit", lambda: 2**10)
    return tmp_path / "runs" / decoded.FOLDER


def load(source: Path, on_disk: Path, spec: InputSpec = SPEC) -> ImageSet:
    with decoded.beside(on_disk.parent / "run"):
        return dataset.load_folder(source, spec)


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each later call decodes."""
    counts: list[int] = []
    real = parallel.in_threads

    def counted(work: Callable[[int], Any], n: int, label: str) -> Any:
        counts.append(n)
        return real(work, n, label)

    monkeypatch.setattr(decoded, "in_threads", counted)
    return counts


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_images_on_the_disk_are_those_in_memory(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "red" / "002.png").write_bytes(b"no image")
    (source / "blue" / "photo.jpg").write_bytes(make_image("JPEG", 90, 61))
    in_memory = dataset.load_folder(source, SPEC)
    monkeypatch.setattr(memory, "limit", lambda: 2**10)
    with decoded.beside(tmp_path / "runs" / "run"):
        first, again = (dataset.load_folder(source, SPEC) for _ in range(2))

    assert isinstance(in_memory.pixels, np.ndarray)
    for images in (first, again):
        assert isinstance(images.pixels, OnDisk)
        np.testing.assert_array_equal(images.pixels[:], in_memory.pixels)
        for key in ("paths", "skipped", "classes", "groups"):
            assert getattr(images, key) == getattr(in_memory, key)
        for key in ("targets", "identities", "small"):
            np.testing.assert_array_equal(getattr(images, key), getattr(in_memory, key))
        assert dataset.fingerprint(images) == dataset.fingerprint(in_memory)
        assert dataset.channel_statistics(images) == dataset.channel_statistics(in_memory)


def test_memory_is_used_up_to_its_share(source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 12 * 8 * 8 * 3
    monkeypatch.setattr(memory, "limit", lambda: int(size / decoded.SHARE))
    assert isinstance(load(source, on_disk).pixels, np.ndarray)
    assert not on_disk.exists()
    monkeypatch.setattr(memory, "limit", lambda: int(size / decoded.SHARE) - 4)
    assert isinstance(load(source, on_disk).pixels, OnDisk)


def test_what_is_there_is_not_decoded_again(source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_decoded(monkeypatch)
    for _ in range(2):
        load(source, on_disk)
    assert counts == [12]


@pytest.mark.parametrize(
    "change",
    [
        lambda source: (source / "red" / "000.png").write_bytes(make_image("PNG", seed=99)),
        lambda source: (source / "red" / "000.png").rename(source / "red" / "renamed.png"),
        lambda source: (source / "red" / "new.png").write_bytes(make_image("PNG", seed=99)),
        lambda source: (source / "red" / "000.png").unlink(),
    ],
    ids=["changed", "renamed", "added", "removed"],
)
def test_other_images_are_decoded_anew(
    source: Path, on_disk: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(source, on_disk)
    change(source)
    counts = count_decoded(monkeypatch)
    images = load(source, on_disk)
    assert counts == [len(images)]
    monkeypatch.setattr(memory, "limit", lambda: 2**40)
    np.testing.assert_array_equal(images.pixels[:], dataset.load_folder(source, SPEC).pixels)


@pytest.mark.parametrize(
    "spec", [InputSpec(8, 8, 9), InputSpec(8, 7, 8), InputSpec(8, 8, 8, "nearest")], ids=["resize", "width", "interpolation"]
)
def test_another_size_or_interpolation_is_decoded_for_itself(source: Path, on_disk: Path, spec: InputSpec) -> None:
    load(source, on_disk)
    load(source, on_disk, spec)
    assert len(entries(on_disk)) == 2


def test_another_decoder_decodes_anew(source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(source, on_disk)
    monkeypatch.setattr(decoded, "fingerprint", lambda _: "another")
    counts = count_decoded(monkeypatch)
    load(source, on_disk)
    assert counts == [12]


def killed(source: Path, folder: Path) -> None:
    """Ends like a process that is killed, once some of the images are written."""
    tqdm.set_lock(RLock())  # of its own: who forked it shares the other, and would wait for ever for one that died with it
    real = os.pwrite
    written = 0

    def pwrite(*arguments: Any) -> int:
        nonlocal written
        if (written := written + 1) > 5:
            os._exit(9)
        return real(*arguments)

    os.pwrite = pwrite
    load(source, folder)


def test_what_a_killed_process_left_is_not_taken_for_whole(source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed, args=(source, on_disk))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert len(entries(on_disk)) == 1

    counts = count_decoded(monkeypatch)
    images = load(source, on_disk)
    assert counts == [12]
    (entry,) = entries(on_disk)  # what was left is gone
    assert not entry.startswith(".")
    monkeypatch.setattr(memory, "limit", lambda: 2**40)
    np.testing.assert_array_equal(images.pixels[:], dataset.load_folder(source, SPEC).pixels)


@pytest.mark.parametrize("file", [decoded.PIXELS, decoded.ABOUT, *decoded.ARRAYS])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 90)], ids=["gone", "cut off"])
def test_what_is_damaged_is_made_anew(source: Path, on_disk: Path, file: str, damage: Callable[[Path], object]) -> None:
    before = load(source, on_disk).pixels[:]
    (entry,) = entries(on_disk)
    damage(on_disk / entry / file)
    np.testing.assert_array_equal(load(source, on_disk).pixels[:], before)
    assert (on_disk / entry / decoded.PIXELS).stat().st_size == before.nbytes


def test_an_image_that_could_not_be_read_is_tried_again(source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "red" / "lost.png").symlink_to("/proc/self/mem")  # a file that even root cannot read from its start
    counts = count_decoded(monkeypatch)
    for _ in range(2):
        images = load(source, on_disk)
        assert len(images.skipped) == 1
        assert images.pixels[:].any(axis=(1, 2, 3)).all()
    assert counts == [13, 13]
    assert entries(on_disk) == []


def test_a_disk_without_room_is_told_with_the_need_the_room_and_the_way_out(
    source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = count_decoded(monkeypatch)
    monkeypatch.setattr(memory, "limit", lambda: 3 * 2**29)
    monkeypatch.setattr(decoded, "SHARE", 1e-7)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40 - 2**10, 2**10))  # pyright: ignore
    with pytest.raises(DataError) as caught:
        load(source, on_disk, InputSpec(64, 64, 64))
    said = str(caught.value)
    assert said.startswith(f"the 12 images of {source} take 0.0 GiB at 64x64 pixels, this machine has 1.5 GiB of memory")
    assert f"{on_disk}, where they would be kept, has 0.0 GiB free: make room there, put the run (--out) on another disk" in said
    assert "\n" not in said
    assert counts == []


def test_a_disk_that_fills_up_meanwhile_is_told_and_nothing_is_left(
    source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(DataError, match="where they would be kept, has"):
        load(source, on_disk)
    assert entries(on_disk) == []


def test_a_disk_that_cannot_be_written_to_is_told(source: Path, on_disk: Path) -> None:
    on_disk.parent.mkdir()
    on_disk.write_text("no folder")
    with pytest.raises(StorageError, match=f"^{on_disk} cannot be written: "):
        load(source, on_disk)


def test_for_want_of_room_what_nobody_reads_goes_the_longest_unused_first(
    source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = (8, 9, 10, 11)
    specs = [InputSpec(side, side, side) for side in sides]
    kept = load(source, on_disk, specs[0])  # and goes on being read
    for spec in specs[1:]:
        load(source, on_disk, spec)
    sizes = {(on_disk / name / decoded.PIXELS).stat().st_size: on_disk / name for name in entries(on_disk)}
    by_side = {side: sizes[12 * side * side * 3] for side in sides}
    for age, side in enumerate((9, 11, 10, 8)):  # the last of them is the longest unused
        os.utime(by_side[side], (10**9 - age, 10**9 - age))
    room = iter([0, 0, 2**30])
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda _: shutil._ntuple_diskusage(2**40, 0, next(room, 2**30)),  # pyright: ignore
    )
    load(source, on_disk, InputSpec(12, 12, 12))
    assert [side for side in sides if by_side[side].exists()] == [8, 9]
    assert kept.pixels[:].any()


def test_one_process_decodes_and_the_others_wait_for_it(source: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_decoded(monkeypatch)
    on_disk.mkdir(parents=True)
    folder = os.open(on_disk, os.O_RDONLY)
    assert model_files.lock(folder)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(load, source, on_disk) for _ in range(2)]
        assert not wait(waiting, 0.5).done
        assert entries(on_disk) == []
        os.close(folder)
        first, second = (one.result(60) for one in waiting)
    assert counts == [12]
    np.testing.assert_array_equal(first.pixels[:], second.pixels[:])


def test_images_lie_beside_the_outermost_run_else_below_runs(
    source: Path, on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with decoded.beside(on_disk.parent / "run"):
        load(source, tmp_path / "elsewhere" / decoded.FOLDER)
    assert len(entries(on_disk)) == 1
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    dataset.load_folder(source, SPEC)
    assert len(entries(tmp_path / "here" / "runs" / decoded.FOLDER)) == 1

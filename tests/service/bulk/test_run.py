"""service/bulk/run.py: killed wherever one likes and begun again, every image is in the output once, in its place."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from models import files
from service.bulk import journal, output
from service.bulk.errors import UNREADABLE, BulkError
from tests.forks import CONTEXT
from tests.service.bulk.rows import Fake, run_to

IMAGES = 40
KILLED = -signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_write(number: int) -> None:
    """Half-way through the line or lines of that write of the journal."""
    write, seen = os.write, 0

    def half(handle: int, data: bytes) -> int:
        nonlocal seen
        seen += 1
        if seen == number:
            write(handle, data[: len(data) // 2])
            die()
        return write(handle, data)

    journal.os.write = half  # type: ignore[assignment]


def after_a_write(number: int) -> None:
    write, seen = os.write, 0

    def whole(handle: int, data: bytes) -> int:
        nonlocal seen
        written = write(handle, data)
        seen += 1
        if seen == number:
            die()
        return written

    journal.os.write = whole  # type: ignore[assignment]


def around_a_file(number: int) -> None:
    """0: half-way through the output; 1: once it is in place; 2: once it is known what it was made from."""
    replace, seen = files.write_atomic, 0

    def counted(path: Path, content: object, **more: object) -> None:
        nonlocal seen
        if number == 0:
            (path.parent / f"{more['prefix']}half").write_bytes(b"half")
            die()
        replace(path, content, **more)  # type: ignore[arg-type]
        seen += 1
        if seen == number:
            die()

    output.files.write_atomic = counted  # type: ignore[assignment]


def before_the_journal_is_removed(_: int) -> None:
    journal.Journal.remove = lambda _: die()  # type: ignore[method-assign, assignment]


DEATHS: dict[str, tuple[Callable[[int], None], tuple[int, ...]]] = {
    "in a write": (in_a_write, (1, 2, 5, 11)),
    "after a write": (after_a_write, (1, 2, 6, 11)),
    "around the output": (around_a_file, (0, 1, 2)),
    "before the journal is removed": (before_the_journal_is_removed, (0,)),
}


def child(out: Path, arm: Callable[[int], None], number: int) -> None:
    arm(number)
    run_to(out, IMAGES, Fake(bad={7}))


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, (_, numbers) in DEATHS.items() for n in numbers])
def test_a_killed_run_goes_on_and_its_output_is_that_of_one_that_was_not(name: str, number: int, tmp_path: Path) -> None:
    run_to(tmp_path / "whole.csv", IMAGES, Fake(bad={7}))
    out = tmp_path / "killed" / "x.csv"
    out.parent.mkdir()
    process = CONTEXT.Process(target=child, args=(out, DEATHS[name][0], number))
    process.start()
    process.join(60)
    assert process.exitcode == KILLED
    run_to(out, IMAGES, Fake(bad={7}))
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == ["x.csv", "x.csv.run.json"]


def test_what_is_in_the_output_is_not_computed_again(tmp_path: Path) -> None:
    with pytest.raises(BulkError):
        run_to(tmp_path / "x.csv", IMAGES, Fake(bad=range(20, 40)), most_failures=1)
    again = Fake()
    run = run_to(tmp_path / "x.csv", IMAGES, again)
    assert again.computed == run.computed == 16
    assert (run.summary.images, run.summary.failed) == (IMAGES, 4)


def test_after_too_many_failures_it_ends_and_keeps_what_was_answered(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match=r"3 of 12 images failed, at most 2 may \(--max-failures\); what was answered is kept"):
        run_to(tmp_path / "x.csv", IMAGES, Fake(bad={3, 9, 10}), most_failures=2)
    assert not (tmp_path / "x.csv").exists()
    never = Fake()
    with pytest.raises(BulkError, match="3 of 12 images failed"):  # at once
        run_to(tmp_path / "x.csv", IMAGES, never, most_failures=2)
    assert never.computed == 0
    run_to(tmp_path / "x.csv", IMAGES, most_failures=3)
    assert (tmp_path / "x.csv").read_text().count("\n") == IMAGES + 1


def test_where_a_disk_went_away_its_images_are_tried_again(tmp_path: Path) -> None:
    with pytest.raises(BulkError):
        run_to(tmp_path / "x.csv", IMAGES, Fake(bad=range(22, 40), code=UNREADABLE), most_failures=5)
    run = run_to(tmp_path / "x.csv", IMAGES, most_failures=5)
    assert (run.summary.failed, run.computed) == (0, 18)

"""service/similar/live.py: which index answers, as versions and indexes come and go."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.package.manifest import Manifest
from service.errors import NoIndex
from service.similar.live import LiveIndex
from tests.service.similar.indexes import make_index, make_package_of, make_vectors

VECTORS = make_vectors(20, 8)
FIRST, SECOND = make_package_of(8), make_package_of(8, version=2)


class Live(LiveIndex):
    """One that looks when it is told to, and what it noted."""

    def __init__(self, root: Path | None) -> None:
        self.noted: list[tuple[str, int]] = []
        super().__init__(root, lambda *what: self.noted.append(what))

    def _run(self) -> None: ...

    def now(self, package: Manifest) -> "Live":
        self.follow(package)
        self.look()
        return self


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    found = Live(tmp_path)
    yield found
    found.close()


def refusal(live: LiveIndex, package: Manifest) -> str:
    with pytest.raises(NoIndex) as caught:
        live.get(package)
    return str(caught.value)


def test_the_index_of_the_live_version_answers(live: Live, tmp_path: Path) -> None:
    made = make_index(tmp_path, VECTORS, FIRST)
    assert live.now(FIRST).get(FIRST).stamp == made.stamp
    assert live.noted[-1] == ("tiny", 20)


def test_without_one_it_says_which_version_lacks_it_and_the_command(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    live.now(FIRST)
    assert refusal(live, FIRST) == (
        "version 1 of tiny has no index; who runs the service makes one: hubel index FOLDER --model tiny:1"
    )
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "tiny:1 has no index" in caplog.text
    live.look()
    assert len(caplog.records) == 1  # said once
    assert live.noted == [("tiny", 0)]


def test_without_a_folder_it_says_which_setting_names_one() -> None:
    live = Live(None).now(FIRST)
    assert "HUBEL_INDEX_DIR" in refusal(live, FIRST)
    assert live.noted == []
    live.close()


def test_a_new_index_is_taken_up(live: Live, tmp_path: Path) -> None:
    live.now(FIRST)
    first = make_index(tmp_path, VECTORS[:5], FIRST)
    live.look()
    assert live.get(FIRST).stamp == first.stamp
    second = make_index(tmp_path, VECTORS, FIRST)
    live.look()
    assert live.get(FIRST).stamp == second.stamp
    assert live.noted == [("tiny", 0), ("tiny", 5), ("tiny", 20)]


def test_at_a_swap_the_index_of_before_answers_nothing_at_once(live: Live, tmp_path: Path) -> None:
    make_index(tmp_path, VECTORS, FIRST)
    live.now(FIRST)
    live.follow(SECOND)
    assert "version 2 of tiny has no index" in refusal(live, SECOND)
    assert live.noted[-1] == ("tiny", 0)
    make_index(tmp_path, VECTORS[:7], SECOND)
    live.look()
    assert live.get(SECOND).manifest.images == 7
    live.now(FIRST)
    assert live.get(FIRST).manifest.images == 20


def test_a_request_that_began_before_a_swap_keeps_its_index(live: Live, tmp_path: Path) -> None:
    make_index(tmp_path, VECTORS, FIRST)
    began = live.now(FIRST).get(FIRST)
    live.now(SECOND)
    assert live.get(FIRST, began) is began
    with pytest.raises(NoIndex):
        live.get(SECOND, began)


@pytest.mark.parametrize("file", ["vectors", "manifest"])
def test_a_damaged_one_is_refused_and_its_fault_logged(
    live: Live, tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_index(tmp_path, VECTORS, FIRST)
    os.truncate(made.place / ("manifest.json" if file == "manifest" else made.manifest.files[file].name), 9)
    live.now(FIRST)
    assert "has no index" in refusal(live, FIRST)
    assert "the index of tiny:1 cannot be used" in caplog.text


def test_one_that_is_copied_file_by_file_is_taken_up_once_it_is_whole(
    live: Live, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_index(tmp_path / "elsewhere", VECTORS, FIRST)
    live.follow(FIRST)
    (tmp_path / "tiny/1").mkdir(parents=True)
    for path in sorted(made.place.iterdir()):  # the manifest before some of its files
        half = path.read_bytes()[: path.stat().st_size // 2]
        for data in (half, path.read_bytes()):
            assert live.index is None
            (tmp_path / "tiny/1" / path.name).write_bytes(data)
            live.look()
            live.look()
    assert live.get(FIRST).manifest.images == 20
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said))


def test_one_that_is_cut_off_while_it_is_used_is_let_go(live: Live, tmp_path: Path) -> None:
    made = make_index(tmp_path, VECTORS, FIRST)
    live.now(FIRST)
    os.truncate(made.place / made.manifest.files["vectors"].name, 9)
    live.look()
    assert "has no index" in refusal(live, FIRST)


def test_an_index_of_another_version_that_lies_in_its_place_is_refused(
    live: Live, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_index(tmp_path, VECTORS, FIRST)
    made.place.rename(tmp_path / "tiny/2")
    live.now(SECOND)
    assert "has no index" in refusal(live, SECOND)
    assert "it was made for tiny:1" in caplog.text


def test_its_thread_looks_by_itself_and_ends(tmp_path: Path) -> None:
    live = LiveIndex(tmp_path, lambda *_: None)
    live.follow(FIRST)
    made = make_index(tmp_path, VECTORS, FIRST)
    until(lambda: live.index is not None and live.index.stamp == made.stamp)
    live.close()
    assert not live.thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)

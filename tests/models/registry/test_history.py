"""The pointer with its history: one file, nothing of it lost, however many write at the same time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from threading import Barrier

import msgspec
import pytest

from models import files
from models.package.manifest import PackageError
from models.registry import history, registry
from models.registry.history import MAX_CHANGES, Change, Pointer
from tests.models.conftest import MakeStore, contents, pointer

WRITERS = 8


def entries(n: int, reason: str = "test") -> list[Change]:
    return [Change("promote", 1, None, datetime(2026, 1, 1, tzinfo=UTC), "ann@desk", f"{reason} {i}") for i in range(n)]


def test_a_pointer_of_before_there_was_a_history_is_read(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    old = b'{"version":1,"promoted":"2026-11-22T14:26:19.311956Z","reason":"first version","before":[]}'
    (store / "tiny/current.json").write_bytes(old)
    assert (pointer(store).version, pointer(store).by, pointer(store).history) == (1, "", [])
    registry.promote(store, "tiny", 2, "better")
    assert [change.before for change in pointer(store).history] == [1]


def test_each_change_says_what_who_why_and_from_what(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    registry.promote(store, "tiny", 2, "better", "ann@desk")
    registry.promote(store, "tiny", 3, "in a hurry", "bob@desk", forced=True)
    registry.roll_back(store, "tiny", "too slow", "eve@desk")
    found = [(c.event, c.version, c.before, c.by, c.reason, c.forced) for c in pointer(store).history]
    assert found[1:] == [
        ("promote", 2, 1, "ann@desk", "better", False),
        ("promote", 3, 2, "bob@desk", "in a hurry", True),
        ("rollback", 2, 3, "eve@desk", "rolled back from 3: too slow", False),
    ]
    assert found[0][:3] == ("promote", 1, None)
    assert pointer(store).by == "eve@desk"
    assert pointer(store).promoted == pointer(store).history[-1].at


def test_who_did_it_is_named_also_where_the_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "@" in history.who()

    def refuse() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", refuse)
    assert history.who().split("@")[0].isdigit()


def test_writers_at_the_same_time_lose_no_record(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    begin = Barrier(WRITERS)

    def add(reason: str, old: Pointer | None) -> Pointer:
        assert old is not None
        entry = history.change("retire", 1, old, reason, "")
        return msgspec.structs.replace(old, history=[*old.history, entry])

    def write(i: int) -> None:
        begin.wait(timeout=10)
        for j in range(5):
            history.update(store, "tiny", partial(add, f"{i} {j}"))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    reasons = {change.reason for change in pointer(store).history}
    assert reasons >= {f"{i} {j}" for i in range(WRITERS) for j in range(5)}


@pytest.mark.parametrize(
    ("n", "reason"), [(MAX_CHANGES + 5, "test"), (MAX_CHANGES, "\N{SNOWMAN}" * 400)], ids=["too many", "too long"]
)
def test_the_history_stays_as_short_as_can_be_read_and_loses_the_oldest(make_store: MakeStore, n: int, reason: str) -> None:
    store = make_store(tiny=1)
    history.update(store, "tiny", lambda old: msgspec.structs.replace(old or pointer(store), history=entries(n, reason)))
    found = pointer(store).history
    assert 100 < len(found) <= MAX_CHANGES
    assert found[-1].reason == f"{reason} {n - 1}"
    assert (store / "tiny/current.json").stat().st_size < 2**20


def test_the_record_of_what_put_the_version_into_service_outlives_those_after_it(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    put = pointer(store).history[0]
    ended = [msgspec.structs.replace(entry, event="end") for entry in entries(MAX_CHANGES + 5)]
    history.update(store, "tiny", lambda old: msgspec.structs.replace(old or pointer(store), history=[put, *ended]))
    assert pointer(store).history[0] == put
    assert pointer(store).history[1:] == ended[-MAX_CHANGES + 1 :]


def test_a_step_that_fails_leaves_the_pointer_and_nothing_beside_it(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    before = contents(store)

    def fail(_: Pointer | None) -> Pointer:
        raise PackageError("no")

    with pytest.raises(PackageError):
        history.update(store, "tiny", fail)
    assert contents(store) == before


def test_a_disk_that_is_full_leaves_nothing_beside_the_pointer(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tiny=1)
    before = contents(store)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(store / "tiny/current.json", b"new")
    assert contents(store) == before

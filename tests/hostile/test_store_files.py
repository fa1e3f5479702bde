"""Every file of the store, field by field, wrong in every way: told in one line, and the rest of the store is followed."""

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from models.__main__ import main
from models.errors import PackageError
from models.lifecycle import candidate, gate
from models.lifecycle.candidate import Candidate, Progress
from models.lifecycle.dry_run import DryRun, Speed
from models.lifecycle.gate import Gate
from models.lifecycle.rules import Check, Rules
from models.package import manifest
from models.registry import history, json_file, registry
from service.rollout.controller import RolloutController
from service.rollout.watcher import RegistryWatcher
from tests.models.conftest import MakeStore as MakeStore
from tests.models.conftest import make_store as make_store
from tests.models.conftest import shelf as shelf
from tests.service.rollout.workers import Fake, FakeEngines

READERS: dict[str, Callable[[Path], object]] = {
    "current.json": lambda store: history.read(store, "tiny"),
    "candidate.json": lambda store: candidate.read(store, "tiny"),
    "progress.json": lambda store: json_file.read(store / "tiny/progress.json", Progress, "it begins again"),
    "2.gate.json": lambda store: gate.read(store, "tiny", 2),
    "2/manifest.json": lambda store: manifest.read(store / "tiny/2"),
}
RAW = "\N{SNOWMAN}"  # stands for what json does not write
OF_NUMBERS = ("-1", "-1e300", "1e300", "1" + "0" * 40, "1e400", "NaN", "Infinity", '"7"', "[7]", "{}", "true")
OF_TEXTS = ("5", "1.5", "[]", "{}", "true", json.dumps("x" * 5000), '"\\ud800"')
OF_TIMES = (
    '"2026-03-04T05:06:07"',
    '"9999-12-31T23:59:59-14:00"',
    '"0001-01-01T00:00:00+14:00"',
    '"3000-01-01T00:00:00Z"',
    '"now"',
)
OF_OTHERS = ("5", '"x"', "[[[[]]]]", '{"a":{"b":[]}}', "1e400")
OF_ALL = ("[" * 100_000, '{"a":' * 50_000, "nul")


@pytest.fixture
def store(make_store: MakeStore) -> Path:
    """tiny:1 live, tiny:2 a candidate with a verdict of the gate, so that each kind of file is there."""
    store, now = make_store(tiny=2), datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    registry.promote(store, "tiny", 2, "test")
    registry.roll_back(store, "tiny", "test")
    wanted = Candidate(2, "canary", 400, 20)
    candidate.start(store, "tiny", wanted)
    candidate.write_progress(store, "tiny", Progress(2, wanted.started, compared=5, agreed=4))
    speed = Speed(1, 0.004, 9)
    ran = DryRun("tiny:2", "CPUExecutionProvider", "fp32", ["x"], 0.5, speed, speed, 2**28)
    found = Gate("tiny:2", "tiny:1", True, now, "ann@desk", "images", [Check("files", "pass", "3 whole")], Rules(), "", ran, 0.1)
    gate.write(store, "tiny", 2, found)
    return store


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each field is; of lists the first and the last element."""
    if at and at[0] == "provenance":
        return
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) - 1} if value else set()):
            yield from places(value[i], (*at, i))


def wrong(value: Any) -> tuple[str, ...]:
    """What must not stand in place of a value."""
    if isinstance(value, bool):
        return ("5", '"true"', "[]", *OF_ALL)
    if isinstance(value, int | float):
        return (*OF_NUMBERS, *OF_ALL)
    if isinstance(value, str):
        return (*OF_TEXTS, *(OF_TIMES if re.match(r"\d{4}-\d\d-", value) else ()), *OF_ALL)
    return (*OF_OTHERS, *OF_ALL)


def changed(whole: Any, place: tuple[Any, ...], raw: str) -> bytes:
    copy = json.loads(json.dumps(whole))
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = RAW
    return json.dumps(copy, ensure_ascii=False).replace(f'"{RAW}"', raw).encode()


def outcome(name: str, store: Path) -> str:
    """What its reader says; nothing where it reads it. Any other exception ends the test."""
    said = ""
    try:
        READERS[name](store)
    except PackageError as err:
        said = str(err)
    assert not said or (str(store / "tiny" / name) in said and "\n" not in said and len(said) < 3000)
    return said


@pytest.mark.parametrize("name", READERS)
def test_no_field_of_a_file_takes_what_it_cannot_be(store: Path, name: str) -> None:
    path = store / "tiny" / name
    whole = json.loads(path.read_bytes())
    assert outcome(name, store) == ""
    tried = 0
    for place in places(whole):
        value: Any = whole
        for key in place:
            value = value[key]
        if value is None:
            continue
        for raw in wrong(value):
            path.write_bytes(changed(whole, place, raw))
            assert outcome(name, store), f"{place} may be {raw[:50]}"
            watch = RegistryWatcher(store, "tiny", 1)
            watch.look()
            assert bool(watch.faults) == (name in ("current.json", "candidate.json"))
            tried += 1
    assert tried > 70


@pytest.mark.parametrize("name", READERS)
def test_a_field_that_is_empty_null_or_missing_is_taken_or_told(store: Path, name: str) -> None:
    path = store / "tiny" / name
    whole = json.loads(path.read_bytes())
    told = 0
    for place in places(whole):
        for raw in ("null", '""', "[]", "{}", "0", "false"):
            path.write_bytes(changed(whole, place, raw))
            told += bool(outcome(name, store))
            RegistryWatcher(store, "tiny", 1).look()
        copy = json.loads(json.dumps(whole))
        holder = copy
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]
        path.write_text(json.dumps(copy))
        told += bool(outcome(name, store))
    assert told > 25


def test_what_is_wrong_is_told_by_file_field_what_was_found_and_what_is_right(store: Path) -> None:
    whole = json.loads((store / "tiny/current.json").read_bytes())
    (store / "tiny/current.json").write_bytes(changed(whole, ("history", 1, "version"), "-6"))
    said = outcome("current.json", store)
    assert "is damaged: Expected `int` >= 1 - at `$.history[1].version`, which is -6; promote a version again" in said
    (store / "tiny/candidate.json").write_text('{"version":2,"mode":"shadow","requests":80,"started":"2027-02-03T04:05:06"}')
    (store / "tiny/current.json").write_text(json.dumps(whole))
    said = outcome("candidate.json", store)
    assert "Expected `datetime` with a timezone component - at `$.started`, which is '2027-02-03T04:05:06'; remove it" in said


def test_counts_that_cannot_be_are_no_progress(store: Path) -> None:
    whole = json.loads((store / "tiny/progress.json").read_bytes())
    for place, value in ((("agreed",), "6"), (("candidate", "errors"), "1"), (("in_service", "unsure"), "3")):
        (store / "tiny/progress.json").write_bytes(changed(whole, place, value))
        assert "a part is larger than the whole" in outcome("progress.json", store)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "byte order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "utf-16": lambda path: path.write_bytes(path.read_bytes().decode().encode("utf-16")),
    "latin-1": lambda path: path.write_bytes(path.read_bytes().replace(b"tiny", b"t\xefny").replace(b"test", b"t\xe9st")[:-2]),
    "zeros": lambda path: path.write_bytes(bytes(3000)),
    "two documents": lambda path: path.write_bytes(2 * path.read_bytes()),
    "long": lambda path: path.write_bytes(path.read_bytes() + b" " * 2_000_000),
    "deep": lambda path: path.write_bytes(b"[" * 900_000),
    "folder": _folder,
    "pipe": _pipe,
    "link": _link,
    "socket": _socket,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_none_is_told_by_readers_and_commands(
    store: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](store / "tiny" / name)
    assert outcome(name, store)
    watch = RegistryWatcher(store, "tiny", 1)
    watch.look()
    assert bool(watch.faults) == (name in ("current.json", "candidate.json"))
    codes: list[int] = []
    for command in (["list"], ["show", "tiny:2"], ["diff", "tiny:1", "tiny:2"], ["gc", "tiny"], ["verify"], ["rollback", "tiny"]):
        codes.append(main([*command, "--store", str(store)]))
        written = capsys.readouterr()
        if codes[-1]:
            assert re.fullmatch(r"error: [^\n]+\n", written.err)
    assert set(codes) <= {0, 1}
    assert any(codes) or name == "progress.json"


def gauge() -> float:
    return REGISTRY.get_sample_value("hubel_registry_unreadable", {"model": "tiny"}) or 0


class Scene:
    """The control plane of a service with one worker."""

    def __init__(self, store: Path) -> None:
        self.worker = Fake(0)
        self.rollout = RolloutController(RegistryWatcher(store, "tiny", 1), lambda: [self.worker], FakeEngines())

    def turns(self, count: int = 6) -> None:
        async def run() -> None:
            for _ in range(count):
                await self.rollout.turn()
                self.rollout.receive(self.worker, self.worker.says())

        asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_promotion_is_followed_whatever_is_wrong_with_the_candidate_and_that_is_told_once(
    make_store: MakeStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tiny=3)
    candidate.start(store, "tiny", Candidate(3, "shadow", 60))
    DAMAGES[damage](store / "tiny/candidate.json")
    scene = Scene(store)
    scene.turns()
    assert gauge() == 1
    assert "candidate.json" in caplog.text
    registry.promote(store, "tiny", 2, "test")
    scene.turns()
    assert scene.worker.report.serves == 2
    assert caplog.text.count("stays live: ") == 1
    path = store / "tiny/candidate.json"
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    scene.turns()
    assert gauge() == 0


def test_an_error_that_nobody_thought_of_is_a_fault_of_the_store(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tiny=2)
    scene = Scene(store)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no\x1b[2J one")

    monkeypatch.setattr(candidate, "of", fail)
    registry.promote(store, "tiny", 2, "test")
    scene.turns()
    assert scene.worker.report.serves == 2
    assert gauge() == 1
    assert caplog.text.count("cannot be read: ZeroDivisionError: no\\x1b[2J one") == 1
    monkeypatch.undo()
    scene.turns()
    assert gauge() == 0


def test_a_store_or_package_that_is_gone_is_told_and_what_is_in_service_goes_on(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tiny=2)
    scene = Scene(store)
    scene.turns()
    assert gauge() == 0
    for what in ("tiny", "tiny/1", "tiny/current.json", "tiny/1/manifest.json"):
        caplog.clear()
        (store / what).rename(store / "away")
        scene.turns()
        assert (gauge(), scene.worker.report.serves) == (1, 1)
        assert caplog.text.count("is gone") in (1, 2)
        assert caplog.text.count("stays live") == 1
        (store / "away").rename(store / what)
        scene.turns()
        assert gauge() == 0
    registry.promote(store, "tiny", 2, "test")
    scene.turns()
    assert scene.worker.report.serves == 2


def test_a_fault_that_becomes_another_is_told_again_and_the_end_of_it_too(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tiny=1)
    scene = Scene(store)
    whole = (store / "tiny/current.json").read_bytes()
    with caplog.at_level(logging.INFO):
        for content in (b"{", b"[]", whole):
            (store / "tiny/current.json").write_bytes(content)
            scene.turns()
    assert caplog.text.count("stays live") == 2
    assert caplog.text.count("can be read again") == 1

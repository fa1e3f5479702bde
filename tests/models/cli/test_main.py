"""The command line of models: what it prints, what it changes, and how it fails."""

import errno
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from models.__main__ import main
from models.lifecycle import candidate
from models.package.manifest import Manifest
from models.registry import registry
from tests.factories import make_package
from tests.models.conftest import MakeStore, contents, pointer


def run(store: Path, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([*arguments, "--store", str(store)])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_every_package_and_which_is_live(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=2, other=1)
    code, out, err = run(store, ["list"], capsys)
    assert (code, err) == (0, "")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["model", "state", "architecture"],
        ["other:1", "live", "tiny"],
        ["tiny:1", "live", "tiny"],
        ["tiny:2", "tiny", "3"],
    ]


def test_list_as_json(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=1)
    created = registry.verify(store / "tiny/1").created
    code, out, _ = run(store, ["list", "--json"], capsys)
    assert code == 0
    assert json.loads(out) == [
        {
            "model": "tiny:1",
            "in_service": True,
            "state": "live",
            "architecture": "tiny",
            "classes": 3,
            "top1": 0.9,
            "created": created.isoformat(timespec="seconds"),
            "fault": None,
        }
    ]


def cut_short(package: Path) -> None:
    (package / "manifest.json").write_text('{"schema": 1, "name')


def linked(package: Path) -> None:
    moved = package.parents[2] / "elsewhere"
    package.rename(moved)
    package.symlink_to(moved)


def misplaced(package: Path) -> None:
    text = (package / "manifest.json").read_text()
    (package / "manifest.json").write_text(text.replace('"version": 1,', '"version": 7,'))


def other_card(package: Path) -> None:
    (package / "card.md").write_text("another card")


def no_pointer(package: Path) -> None:
    (package.parent / "current.json").write_text("{}")


def odd_candidate(package: Path) -> None:
    (package.parent / "candidate.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (cut_short, "is not a manifest that can be served"),
        (linked, "is a link"),
        (misplaced, "calls itself tiny:7"),
        (no_pointer, "current.json is damaged"),
        (odd_candidate, "candidate.json is damaged"),
    ],
)
def test_list_shows_a_damaged_package_as_a_row_with_its_fault_beside_the_others(
    damage: Callable[[Path], None], fault: str, make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2, other=1)
    whole = json.loads(run(store, ["list", "--json"], capsys)[1])
    damage(store / "tiny/1")
    code, out, err = run(store, ["list", "--json"], capsys)
    rows = json.loads(out)
    assert code == 1
    assert re.fullmatch(r"error: [12] of 3 packages (has|have) a fault, which (its row names|their rows name)\n", err)
    assert [row["model"] for row in rows] == ["other:1", "tiny:1", "tiny:2"]
    assert rows[0] == whole[0]
    assert fault in " ".join(row["fault"] or "" for row in rows[1:])
    assert all(row.keys() == whole[0].keys() for row in rows)
    shown = run(store, ["list"], capsys)[1]
    assert "fault" in shown.splitlines()[0]
    assert re.search(r"^other:1 +live +tiny", shown, re.M)


def test_a_package_that_cannot_be_read_says_whether_it_is_in_service(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2)
    cut_short(store / "tiny/1")
    rows = json.loads(run(store, ["list", "--json"], capsys)[1])
    assert [(row["state"], row["architecture"]) for row in rows] == [("live", None), ("", "tiny")]
    (store / "tiny/current.json").write_text("{}")
    rows = json.loads(run(store, ["list", "--json"], capsys)[1])
    assert [(row["state"], row["architecture"]) for row in rows] == [("", None), ("", "tiny")]


@pytest.mark.parametrize("damage", [cut_short, linked, misplaced, other_card])
def test_verify_goes_on_after_a_damaged_package(
    damage: Callable[[Path], None], make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2, other=1)
    damage(store / "tiny/1")
    code, out, err = run(store, ["verify"], capsys)
    lines = out.splitlines()
    assert (code, err) == (1, "error: 1 of 3 packages has a fault, which its row names\n")
    assert (lines[0], lines[2]) == ("model other:1  files whole", "model tiny:2  files whole")
    assert lines[1].startswith("model tiny:1  files faulty  fault /")


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_file_that_the_system_refuses_hides_no_other_package(
    command: str, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2)
    describe = registry.describe

    def refused(folder: Path, key: Path | None = None) -> Manifest:
        if folder.name == "1":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder / "manifest.json"))
        return describe(folder, key)

    monkeypatch.setattr(registry, "describe", refused)
    code, out, _ = run(store, [command, "--json"], capsys)
    faults = [row["fault"] for row in json.loads(out)]
    assert (code, faults) == (1, [f"{store}/tiny/1/manifest.json cannot be read: Input/output error", None])


@pytest.mark.parametrize("command", ["list", "verify"])
def test_an_empty_or_missing_store_lists_nothing(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, [command, "--json"], capsys) == (0, "[]\n", "")
    assert run(tmp_path / "nowhere", [command], capsys) == (0, "", "")


@pytest.mark.usefixtures("here")
def test_gc_of_an_empty_store_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", ["gc"], capsys) == (0, "there is nothing to remove\n", "")


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [([], ["other:1", "tiny:1", "tiny:2"]), (["tiny"], ["tiny:1"]), (["tiny:2"], ["tiny:2"])],
    ids=["all", "live", "one"],
)
def test_verify_names_what_is_whole(
    make_store: MakeStore, arguments: list[str], checked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2, other=1)
    code, out, _ = run(store, ["verify", *arguments, "--json"], capsys)
    assert code == 0
    assert json.loads(out) == [{"model": model, "files": "whole", "fault": None} for model in checked]


def test_verify_fails_on_a_changed_file(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=1)
    (store / "tiny/1/card.md").write_text("another card")
    code, out, err = run(store, ["verify"], capsys)
    assert (code, err) == (1, "error: 1 of 1 packages has a fault, which its row names\n")
    assert out.startswith(f"model tiny:1  files faulty  fault {store / 'tiny/1/card.md'} was changed")
    code, out, err = run(store, ["verify", "tiny"], capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {store / 'tiny/1/card.md'} was changed")


@pytest.mark.usefixtures("here")
def test_promote_puts_a_version_into_service_and_keeps_the_reason(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2)
    code, out, err = run(store, ["promote", "tiny:2", "--reason", "sees blue better"], capsys)
    assert (code, err) == (0, "")
    assert out.startswith("gate of tiny:2: passed, ")
    assert out.endswith("model tiny  version 2  in_service 2  before [1]\n")
    assert (pointer(store).version, pointer(store).reason) == (2, "sees blue better")


@pytest.mark.usefixtures("here")
def test_what_the_gate_refuses_prints_its_table_and_changes_nothing_but_the_gate_file(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    make_package(store, labels=("red", "green", "violet"))
    before = contents(store)
    code, out, err = run(store, ["promote", "tiny:2"], capsys)
    assert code == 1
    assert re.search(r"^classes +fail +without blue; new violet", out, re.M)
    assert err == (
        "error: tiny:2 is not promoted: classes: without blue; new violet; tiny:1 stays live; --force promotes it all the same\n"
    )
    assert contents(store).keys() - before.keys() == {"tiny/2.gate.json"}
    assert run(store, ["promote", "tiny:2", "--json"], capsys)[1].startswith('[\n {\n  "gate": {\n   "model": "tiny:2"')


@pytest.mark.usefixtures("here")
def test_a_candidate_is_started_by_promote_and_ended_by_hand(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=2)
    arguments = ["promote", "tiny:2", "--canary", "10", "--requests", "50", "--max-latency", "2", "--json"]
    code, out, _ = run(store, arguments, capsys)
    assert code == 0
    assert json.loads(out)[0].items() >= {"in_service": 1, "candidate": "canary", "percent": 10, "requests": 50}.items()
    found = candidate.read(store, "tiny")
    assert found is not None
    assert (found.version, found.mode, found.percent, found.requests, found.bounds.latency) == (2, "canary", 10, 50, 2)
    assert run(store, ["end", "tiny", "--json"], capsys)[0] == 0
    assert candidate.read(store, "tiny") is None
    assert run(store, ["promote", "tiny:2", "--shadow", "--percent", "0"], capsys)[2].startswith("error: there can be no such")


@pytest.mark.usefixtures("here")
def test_show_and_diff_tell_everything_about_packages(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=1)
    make_package(store, labels=("red", "green", "violet", "black"), threshold=0.25)
    assert run(store, ["promote", "tiny:2", "--classes-change", "blue was wrong"], capsys)[0] == 0
    out = run(store, ["show", "tiny"], capsys)[1]
    for expected in (r"state +live", r"labels +red, green, violet, black", r"named: blue was wrong", r"promote +2 +1"):
        assert re.search(expected, out), expected
    shown = json.loads(run(store, ["show", "tiny", "--json"], capsys)[1])[0]
    assert (shown["gate"]["passed"], shown["gate"]["classes_change"]) == (True, "blue was wrong")
    assert [change["event"] for change in shown["history"]] == ["promote"]
    row = json.loads(run(store, ["diff", "tiny:1", "tiny:2", "--json"], capsys)[1])[0]
    assert row["classes"] == {"added": ["violet", "black"], "removed": ["blue"], "renamed": {}, "reordered": False}
    assert row["figures"]["threshold"] == {"from": 0.5, "to": 0.25, "change": -0.25}
    assert row["figures"]["ms for 1 at the gate"]["to"] > 0
    assert row["recall"]["red"] == {"from": 0.9, "to": 0.9, "change": 0}
    out = run(store, ["diff", "tiny:1", "tiny:2"], capsys)[1]
    assert re.search(r"classes removed: blue[\s\S]*threshold +0.5 +0.25 +-0.25[\s\S]*red +0.9 +0.9 +0", out)


def test_diff_knows_a_renamed_class_from_a_new_one(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=1)
    make_package(store, labels=("red", "green", "azure"))
    row = json.loads(run(store, ["diff", "tiny:1", "tiny:2", "--json"], capsys)[1])[0]
    assert row["classes"] == {"added": [], "removed": [], "renamed": {"blue": "azure"}, "reordered": False}


@pytest.mark.usefixtures("here")
def test_a_renamed_class_goes_into_service_by_the_command_that_is_printed(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    (store / "tiny/1.sig").write_text("a signature")
    arguments = ["rename", "tiny", "blue", "dark blue", "--reason", "there will be a light one", "--json"]
    row = json.loads(run(store, arguments, capsys)[1])[0]
    assert row.items() >= {"model": "tiny:2", "from": "tiny:1", "renamed": "blue", "to": "dark blue"}.items()
    assert f"models sign tiny:2 --key KEY --store {store}" in row["sign"]
    assert pointer(store).version == 1
    assert run(store, ["promote", "tiny:2"], capsys)[0] == 1
    words = shlex.split(row["promote"])
    assert main(words[words.index("promote") :]) == 0
    capsys.readouterr()
    assert pointer(store).version == 2
    row = json.loads(run(store, ["diff", "tiny:1", "tiny:2", "--json"], capsys)[1])[0]
    assert row["classes"]["renamed"] == {"blue": "dark blue"}
    assert {figure["change"] for key, figure in row["figures"].items() if not key.endswith("gate") and key != "bytes"} <= {
        0,
        None,
    }


def test_rollback_puts_the_version_before_back(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=2)
    registry.promote(store, "tiny", 2, "test")
    code, out, _ = run(store, ["rollback", "tiny", "--json"], capsys)
    assert code == 0
    assert json.loads(out) == [{"model": "tiny", "version": 1, "before": []}]
    assert pointer(store).version == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "large"], "no model 'large'"),
        (["verify", "tiny:7"], "no version '7' of model tiny"),
        (["promote", "large:1"], "no model 'large'"),
        (["promote", "tiny:7"], "no version '7' of model tiny"),
        (["sign", "large", "--key", "k.pem"], "no model 'large'"),
        (["sign", "tiny", "--key", "k.pem"], "the key k.pem cannot be read: No such file"),
        (["pack", "tiny:7", "file"], "no version '7' of model tiny"),
        (["pack", "tiny", "/nowhere/file"], "/nowhere/file cannot be written: No such file"),
        (["unpack", "/nowhere/file"], "/nowhere/file cannot be unpacked: [Errno 2] No such file"),
        (["promote", "tiny:1", "--reason", "x" * 501], "the reason has 501 characters, at most 500 are kept"),
        (["end", "tiny"], "tiny has no candidate"),
        (["show", "tiny:7"], "no version '7' of model tiny"),
        (["diff", "tiny:1", "large"], "no model 'large'"),
        (["retire", "tiny:1"], "tiny:1 is live"),
        (["rename", "tiny:1", "cat", "dog"], "tiny:1 has no class 'cat'; it has red, green, blue"),
        (["rename", "tiny:1", "red", "blue"], "tiny:1 has a class 'blue' already, and two cannot have one name"),
        (["rename", "tiny:1", "red", "red"], "tiny:1 has a class 'red' already"),
        (["rename", "tiny:1", "red", " "], "a class cannot be called ' ': a name needs letters"),
        (["rename", "tiny:1", "red", "a\nb"], "a class cannot be called 'a\\nb': a name needs letters"),
        (["rename", "tiny:7", "red", "dog"], "no version '7' of model tiny"),
        (["gc", "large"], "no version of large is live"),
        (["pull", "/nowhere/tiny/2"], "there is no package in /nowhere/tiny/2"),
        (["pull", "/nowhere/tiny"], "/nowhere/tiny names no package"),
        (["push", "tiny:7", "/nowhere"], "no version '7' of model tiny"),
        (["rollback", "tiny"], "no version of tiny was live before; there is tiny:1"),
        (["rollback", "large"], "no version of large was live before; there is nothing of that name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_done_is_one_line_on_stderr_and_changes_nothing(
    make_store: MakeStore, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    before = pointer(store)
    code, out, err = run(store, arguments, capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert pointer(store) == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_a_package_is_signed_packed_unpacked_and_verified_with_keys_of_openssl(
    make_store: MakeStore, tmp_path: Path, keys: Callable[[str], tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    store, there, packed = make_store(tiny=2), tmp_path / "there", str(tmp_path / "tiny.tar.gz")
    private, public = keys("publisher")
    code, _, err = run(store, ["verify", "tiny:1", "--key", public], capsys)
    assert code == 1
    assert err.startswith("error: tiny:1 is not signed; ")
    assert run(store, ["sign", "tiny:1", "--key", private], capsys) == (
        0,
        f"model tiny:1  signature {store / 'tiny/1.sig'}\n",
        "",
    )
    assert run(store, ["verify", "tiny:1", "--key", public], capsys)[1] == "model tiny:1  files whole  signature fits the key\n"
    code, out, _ = run(store, ["pack", "tiny", packed, "--json"], capsys)
    assert json.loads(out) == [{"model": "tiny:1", "file": packed, "bytes": Path(packed).stat().st_size}]
    code, out, _ = run(there, ["unpack", packed, "--key", public], capsys)
    assert (code, out) == (0, "model tiny:1  in_service True\n")
    assert run(there, ["verify", "--key", public], capsys)[0] == 0


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
    ids=["full", "read-only"],
)
@pytest.mark.parametrize("command", ["promote", "sign", "unpack"])
def test_a_store_that_cannot_be_written_to_is_one_line_on_stderr(
    make_store: MakeStore,
    tmp_path: Path,
    command: str,
    number: int,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = make_store(tiny=2)
    before = contents(store)
    arguments = {
        "promote": ["promote", "tiny:2"],
        "sign": ["sign", "tiny:2", "--key", str(store / "tiny/1/card.md")],
        "unpack": ["unpack", str(tmp_path / "file")],
    }

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    code, out, err = run(store, arguments[command], capsys)
    assert (code, out) == (1, "")
    assert err == f"error: {store} cannot be changed or read: {reason}; nothing became live\n"
    assert contents(store) == before


@pytest.mark.parametrize(
    "arguments", [[], ["paint"], ["promote"], ["rollback"], ["sign", "tiny"], ["pack", "tiny"], ["unpack"]], ids=str
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: hubel models" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "show",
        "diff",
        "verify",
        "promote",
        "rollback",
        "end",
        "retire",
        "rename",
        "gc",
        "pull",
        "push",
        "sign",
        "pack",
        "unpack",
    ],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([command, "--help"])
    assert raised.value.code == 0
    assert f"usage: hubel models {command}" in capsys.readouterr().out

"""The command line of models: what it prints, what it changes, and how it fails."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from models import registry
from models.__main__ import main
from tests.models.conftest import MakeStore, contents, pointer
from tests.server import ROOT


def run(store: Path, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([*arguments, "--store", str(store)])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_every_package_and_which_is_in_service(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=2, other=1)
    code, out, err = run(store, ["list"], capsys)
    assert (code, err) == (0, "")
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["model", "other:1", "in_service", "True"],
        ["model", "tiny:1", "in_service", "True"],
        ["model", "tiny:2", "in_service", "False"],
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
            "architecture": "tiny",
            "classes": 3,
            "top1": 0.9,
            "created": created.isoformat(timespec="seconds"),
        }
    ]


@pytest.mark.parametrize("command", ["list", "verify"])
def test_an_empty_or_missing_store_lists_nothing(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, [command, "--json"], capsys) == (0, "[]\n", "")
    assert run(tmp_path / "nowhere", [command], capsys) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [([], ["other:1", "tiny:1", "tiny:2"]), (["tiny"], ["tiny:1"]), (["tiny:2"], ["tiny:2"])],
    ids=["all", "in service", "one"],
)
def test_verify_names_what_is_whole(
    make_store: MakeStore, arguments: list[str], checked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2, other=1)
    code, out, _ = run(store, ["verify", *arguments, "--json"], capsys)
    assert code == 0
    assert json.loads(out) == [{"model": model, "files": "whole"} for model in checked]


def test_verify_fails_on_a_changed_file(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=1)
    (store / "tiny/1/card.md").write_text("another card")
    code, out, err = run(store, ["verify"], capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {store / 'tiny/1/card.md'} was changed")


def test_promote_puts_a_version_into_service_and_keeps_the_reason(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2)
    assert run(store, ["promote", "tiny:2", "--reason", "sees blue better"], capsys) == (
        0,
        "model tiny  version 2  before [1]\n",
        "",
    )
    assert (pointer(store).version, pointer(store).reason) == (2, "sees blue better")


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
        (["rollback", "tiny"], "no version of tiny was in service before; there is tiny:1"),
        (["rollback", "large"], "no version of large was in service before; there is nothing of that name"),
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


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    """Paths of a private and its public key, made as docs/model-package.md says."""
    lines = re.findall(r"^(openssl .*?)  +#", (ROOT / "docs/model-package.md").read_text(), re.M)
    assert len(lines) == 2
    for line in lines:
        subprocess.run(shlex.split(line), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    return str(tmp_path / "private.pem"), str(tmp_path / "public.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_a_package_is_signed_packed_unpacked_and_verified_with_keys_of_openssl(
    make_store: MakeStore, tmp_path: Path, keys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, there, packed = make_store(tiny=2), tmp_path / "there", str(tmp_path / "tiny.tar.gz")
    code, _, err = run(store, ["verify", "tiny:1", "--key", keys[1]], capsys)
    assert code == 1
    assert err.startswith("error: tiny:1 is not signed; ")
    assert run(store, ["sign", "tiny:1", "--key", keys[0]], capsys) == (
        0,
        f"model tiny:1  signature {store / 'tiny/1.sig'}\n",
        "",
    )
    assert run(store, ["verify", "tiny:1", "--key", keys[1]], capsys)[1] == "model tiny:1  files whole  signature fits the key\n"
    code, out, _ = run(store, ["pack", "tiny", packed, "--json"], capsys)
    assert json.loads(out) == [{"model": "tiny:1", "file": packed, "bytes": Path(packed).stat().st_size}]
    code, out, _ = run(there, ["unpack", packed, "--key", keys[1]], capsys)
    assert (code, out) == (0, "model tiny:1  in_service True\n")
    assert run(there, ["verify", "--key", keys[1]], capsys)[0] == 0


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
    assert err == f"error: {store} cannot be changed or read: {reason}; nothing was put into service\n"
    assert contents(store) == before


@pytest.mark.parametrize(
    "arguments", [[], ["paint"], ["promote"], ["rollback"], ["sign", "tiny"], ["pack", "tiny"], ["unpack"]], ids=str
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: python -m models" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "verify", "promote", "rollback", "sign", "pack", "unpack"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([command, "--help"])
    assert raised.value.code == 0
    assert f"usage: python -m models {command}" in capsys.readouterr().out

"""Rows for a terminal: nothing that a package says commands it."""

import re
from pathlib import Path

import pytest

from models.__main__ import main
from models.lifecycle import gate
from models.lifecycle.gate import GateRequest
from models.registry import registry
from models.terminal.table import lines, printable, table
from tests.factories import make_package

EVIL = "red\x1b]0;owned\x07\x1b[2J\r", "gr\n\nerror: all is well", "blue\x9b31m\u202eeulb"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u732b", "caf\u00e9 \u732b"),
        ("a\x1b[1m", "a\\x1b[1m"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x7f\x80\x9b", "\\x7f\\x80\\x9b"),
        ("\u202e\u2028\u2066", "\\u202e\\u2028\\u2066"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_what_commands_a_terminal_is_escaped_and_letters_are_not(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert lines([{"key": text}]) == f"key {shown}"
    assert table([{"key": text}]).split("\n")[1] == shown


def test_what_is_to_be_kept_stays() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.usefixtures("here")
def test_no_command_lets_a_package_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    for _ in range(2):
        make_package(store, labels=EVIL, architecture="net\x1b[8m\nx", provenance={"renamed": 7})
    gate.write(store, "tiny", 2, gate.judge(store, "tiny", 2, GateRequest(classes_change="why\x1b[0m")))
    registry.promote(store, "tiny", 2, "because\x1b[5m\nof\x07", "eve\x1b@desk")
    commands = (["list"], ["show", "tiny:2"], ["diff", "tiny:1", "tiny:2"], ["promote", "tiny:1"], ["verify"])
    commands += (["rename", "tiny:1", EVIL[1], "green"], ["rename", "tiny:1", "x\x1b[2J\ny", "z"], ["diff", "tiny:1", "tiny:3"])
    commands += (["show", "a\x1bb"], ["pull", "/nowhere\x1b[2J/tiny/4"], ["retire", "tiny:\x1b"], ["rollback", "tiny"])
    for command in commands:
        code = main([*command, "--store", str(store)])
        written = capsys.readouterr()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", written.out + written.err)
        assert (written.err.count("\n"), written.err[:7]) == ((1, "error: ") if code else (0, ""))
        assert main([*command, "--json", "--store", str(store)]) in (0, 1)
        assert "\x1b" not in (found := capsys.readouterr()).out + found.err

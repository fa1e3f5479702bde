"""make audit: what counts as a finding, what as skipped, and that exceptions end."""

import datetime
import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.audit import __main__ as audit

TODAY = datetime.date(2026, 6, 1)
CLEAN = {"name": "numpy", "version": "2.0", "vulns": []}
FAULTY = {"name": "pillow", "version": "1.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["1.1", "2.0"]}]}
UNKNOWN = {"name": "hubel", "version": "1", "skip_reason": "Dependency not found on PyPI"}
Answer = Callable[..., str | None]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """``ask(packages)``: what check_known_faults says when pip-audit answers with these, or writes this to stderr."""

    def export(form: str, part: str, target: Path) -> None:
        target.write_text("numpy==2.0\npillow==1.0 ; python_version < '3.12'\n")

    def answer(packages: list[dict[str, Any]] | None = None, stderr: str = "") -> str | None:
        text = "" if packages is None else json.dumps({"dependencies": packages})
        monkeypatch.setattr(audit, "export", export)
        monkeypatch.setattr(audit, "run", lambda command: subprocess.CompletedProcess(command, 1, text, stderr))
        return audit.check_known_faults()

    return answer


def test_known_faults_are_named_with_the_version_that_has_none(ask: Answer) -> None:
    assert ask([CLEAN, FAULTY, UNKNOWN]) == "pillow 1.0: GHSA-1, fixed in 1.1, 2.0"


def test_nothing_known_is_no_fault(ask: Answer) -> None:
    assert ask([CLEAN, UNKNOWN]) is None


@pytest.mark.parametrize("stderr", ["requests.exceptions.ConnectionError: ...", "(Caused by NameResolutionError(...))"])
def test_no_network_is_skipped(ask: Answer, stderr: str) -> None:
    with pytest.raises(audit.Skipped, match="the database of known faults cannot be asked"):
        ask(stderr=stderr)


def test_an_index_that_knows_nothing_is_skipped_and_not_passed(ask: Answer) -> None:
    with pytest.raises(audit.Skipped, match="it knows none of the 2 packages"):
        ask([UNKNOWN, UNKNOWN])


def test_a_tool_that_breaks_is_a_fault(ask: Answer) -> None:
    assert ask(stderr="Traceback ...\nTypeError: x") == "Traceback ...\nTypeError: x"


EXCEPTION = '[[exception]]\nid = "GHSA-1"\nreason = "not reached"\nexpires = 2026-06-0{}\n'


def test_an_exception_holds_until_it_expires() -> None:
    assert audit.accepted(EXCEPTION.format(1), TODAY) == ["GHSA-1"]
    with pytest.raises(ValueError, match="the exception for GHSA-1 expired on 2026-06-01: decide again"):
        audit.accepted(EXCEPTION.format(1), TODAY + datetime.timedelta(days=1))


def test_each_exception_has_an_id_a_reason_and_an_end() -> None:
    for exception in tomllib.loads(audit.EXCEPTIONS.read_text()).get("exception", []):
        assert set(exception) == {"id", "reason", "expires"}
        assert exception["id"]
        assert len(exception["reason"]) > 20
        assert isinstance(exception["expires"], datetime.date)


def test_a_package_in_two_versions_is_asked_about_twice() -> None:
    lines = ["a==1", "b==1 ; sys_platform == 'linux'", "b==2 ; sys_platform != 'linux'", "c==1"]
    assert audit.waves(lines) == [["a==1", "b==1", "c==1"], ["b==2"]]

"""service/__main__.py: what can be asked of the program without starting it."""

import tempfile
from pathlib import Path

import pytest

from service.__main__ import main, place_of_metrics
from service.settings import Settings


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    for name in Settings.__struct_fields__:
        assert f"HUBEL_{name.upper()}=" in said


def test_an_argument_that_is_none_is_refused_and_nothing_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--port=3001"])
    assert "unrecognized arguments: --port=3001" in capsys.readouterr().err


def test_metrics_are_kept_where_systemd_says_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    for given in ("", "run/hubel", str(tmp_path / "nowhere")):
        monkeypatch.setenv("RUNTIME_DIRECTORY", given)
        assert place_of_metrics() == Path(tempfile.gettempdir())
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/run/other")
    assert place_of_metrics() == tmp_path
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert place_of_metrics() == Path(tempfile.gettempdir())

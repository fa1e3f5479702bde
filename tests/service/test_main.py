"""service/__main__.py: what can be asked of the program without starting it."""

import pytest

from service.__main__ import main
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

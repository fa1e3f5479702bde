"""service/__main__.py: what can be asked of the program without starting it."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.captures import captured
from models.captures.captured import CapturedAnswer
from service.__main__ import main, place_of_metrics
from service.monitoring.answer_token import AnswerTokens
from service.settings import Settings
from tests.factories import make_image


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


@pytest.mark.parametrize("by", ["answer", "id"])
def test_what_is_kept_of_an_answer_is_forgotten_by_the_answer_or_its_id_whoever_signed_it(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captured.prepare(folder := tmp_path / "kept")
    monkeypatch.setenv("HUBEL_FEEDBACK_DIR", str(folder))
    answer_id, image = "0a" * 16, make_image()
    token = AnswerTokens([b"lost" * 8], "pets", -1000).sign("web", answer_id, 0, 1, 0, 0.9, False)
    name = captured.image_name(image)
    captured.write_image(folder, name, image)
    captured.write_answer(folder, CapturedAnswer(answer_id, 0, "web", name, "pets", 1, "cat", 0.9, False, datetime.now(UTC)))
    forget = ["forget", token if by == "answer" else answer_id]
    assert main(forget) == 0
    assert "deleted what was kept of the request: 1 labels" in capsys.readouterr().out
    assert not list((folder / captured.IMAGES).iterdir())
    assert main(forget) == 1
    assert "nothing is kept of the request of" in capsys.readouterr().err

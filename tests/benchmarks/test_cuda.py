"""benchmarks/cuda.py, on a stand-in for a GPU: every part is measured, and what there is no time for is said."""

from pathlib import Path

import pytest

from benchmarks import cuda
from tests.factories import make_package


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCHES": 3, "TURNS": 1, "SECONDS": {True: 0.0}, "STAND_IN_SECONDS": 0.0, "PLANNING": 0.0}.items():
        monkeypatch.setattr(cuda, name, value)


def test_every_part_is_measured_on_the_stand_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.main(["--stand-in", str(make_package(tmp_path))]) == 0
    text = capsys.readouterr().out
    assert "failed" not in text
    assert "skipped" not in text
    assert "CUDAExecutionProvider in fp32, batches of 1, 2, 4, 8; n = 1 turns" in text
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| ")]
    assert {"one session", "a session for each size"} <= set(rows)
    assert (rows.count("HEURISTIC"), rows.count("EXHAUSTIVE")) == (4, 4)
    assert "largest difference 0" in text


def test_parts_without_time_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.main(["--seconds", "0", str(make_package(tmp_path))]) == 0
    text = capsys.readouterr().out
    assert [f"{part}: left out, there is no time for it" in text for part in ("changing", "options", "shared", "http")] == [
        True
    ] * 4

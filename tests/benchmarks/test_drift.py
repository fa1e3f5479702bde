"""benchmarks/drift.py: the table that it prints, of a tiny package and few pictures."""

from pathlib import Path

import pytest

from benchmarks import drift
from service.monitoring import drift as watch
from tests.factories import LABELS, make_image, make_package


def pictures(folder: Path, each: int, seed: int, side: int) -> Path:
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for i in range(each):
            (folder / label / f"{i}.png").write_bytes(make_image("PNG", side, side, seed=seed + i, color=label))
    return folder


def test_what_is_changed_rises_and_what_is_not_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drift, "WINDOWS", 2)
    monkeypatch.setattr(watch, "LEAST", 10)
    make_package(tmp_path / "store")
    usual = pictures(tmp_path / "usual" / "test", 40, 0, side=40)
    other = pictures(tmp_path / "other" / "test", 20, 500, side=64)
    command = ["--data", str(usual), "--other", str(other), "--model", "tiny", "--store", str(tmp_path / "store")]

    assert drift.main(command) == 0

    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    table = {name: dict(zip(rows[0][1:], cells, strict=True)) for name, *cells in rows[2:]}
    assert set(table) == {*drift.CHANGES, "half of the classes alone", "other"}

    def greatest(name: str, figure: str) -> float:
        return float(table[name][figure].rpartition("/")[2])

    assert max(greatest("as they are", figure) for figure in ("classes", "brightness", "size")) < 0.25
    assert greatest("darkened (to 0.4)", "brightness") > 1
    assert greatest("other", "size") > 1
    assert greatest("half of the classes alone", "classes") > 0.25

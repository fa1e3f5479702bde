"""training/report/speed.py: every graph that is there, on every provider that is installed."""

import time
from pathlib import Path

import numpy as np
import pytest

from models.package import precision
from models.package.manifest import MODEL
from models.package.precision import CPU
from tests.factories import make_onnx
from training.publishing import export
from training.report import speed

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)


def test_every_way_to_compute_is_measured_at_both_batch_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.001)
    make_onnx(tmp_path / MODEL)

    found = speed.measure(tmp_path, PIXELS)

    ways = [(provider, p) for provider in export.installed() for p in precision.computable(provider) if p != "int8"]
    assert [(row["provider"], row["precision"], row["batch"]) for row in found] == [(*way, b) for way in ways for b in (1, 16)]
    assert (CPU, "fp32") in ways
    assert all(row["images_per_second"] > 0 and row["calls"] >= speed.LEAST for row in found)


def test_calls_are_timed_one_by_one_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0)
    lengths = iter([*[0.2] * speed.WARM, 0.02, 0.001, 0.02, 0.001, 0.02])

    seconds = speed.seconds_of(lambda: time.sleep(next(lengths)))

    assert [round(s >= 0.02) for s in seconds] == [1, 0, 1, 0, 1]


def test_a_run_without_graphs_has_no_speed(tmp_path: Path) -> None:
    assert speed.measure(tmp_path, PIXELS) == []

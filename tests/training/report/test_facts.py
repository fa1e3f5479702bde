"""training/report/facts.py: the run's own data, and figures that a hand can check."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import Journey
from training.loop import checkpoint as checkpoints
from training.publishing import export
from training.report import facts


def test_the_origin_holds_what_a_run_can_be_repeated_by(journey: Journey) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)

    origin = facts.origin(checkpoint, model)

    assert origin.items() >= checkpoint.provenance.items()
    assert origin["recipe"]["seed"] == 0
    assert origin["data"]["training_sha256"] == checkpoint.data["training_sha256"]
    assert origin["epochs"] == 4
    assert origin["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("right", "samples", "interval"),  # the values of Newcombe 1998, table I, method 3 (Wilson's)
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_the_interval_is_wilsons(right: int, samples: int, interval: tuple[float, float]) -> None:
    rows = [{"support": samples - 5}, {"support": 5}]

    headline = facts.headline({"samples": samples, "top1": right / samples, "classes": rows})

    assert (headline["low"], headline["high"]) == pytest.approx(interval, abs=1e-3)
    assert headline["commonest_class"] == pytest.approx((samples - 5) / samples, abs=1e-4)


def test_an_exported_run_has_its_graphs_measured(content: dict[str, Any], journey: Journey) -> None:
    exported = content["exported"]

    assert exported["parity"]["epoch"] == 4
    assert exported["sizes"]["model.onnx"] == (journey.run / "model.onnx").stat().st_size
    assert {row["batch"] for row in exported["speed"]} == {1, 16}


def test_a_run_that_was_not_exported_says_so(journey: Journey, tmp_path: Path) -> None:
    shutil.copytree(journey.run, tmp_path / "run")
    (tmp_path / "run" / export.FILE).unlink()

    found = facts.exported(tmp_path / "run", checkpoints.load(journey.run)[0], np.zeros((1, 16, 16, 3), np.uint8))

    assert re.search(r"run '.*hubel export .* DATA' first", found["left_out"])


def test_the_epoch_that_is_kept_is_the_one_whose_weights_answer(journey: Journey) -> None:
    checkpoint = checkpoints.load(journey.run)[0]
    history = checkpoint.history

    for kept, expected in ((2, history[1]), (4, history[3]), (0, history[3])):  # 0: of an earlier version, which kept the last
        checkpoint.kept_epoch = kept
        assert facts.kept(checkpoint) == expected
    checkpoint.history, checkpoint.epoch, checkpoint.kept_epoch = [], 0, 0
    assert facts.kept(checkpoint) is None

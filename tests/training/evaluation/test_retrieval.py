"""training/evaluation/retrieval.py: figures that a recount by hand confirms."""

import numpy as np
import pytest

from training.evaluation import retrieval as module
from training.evaluation.retrieval import retrieval


def at(*degrees: float) -> np.ndarray:
    """Features at these angles, of various lengths."""
    angles = np.radians(degrees)
    lengths = np.arange(1, len(degrees) + 1)[:, None]
    return (lengths * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def test_figures_are_those_of_a_recount() -> None:
    # From 0: 10 (its own), 35, 80. From 10: 0 (its own), 35, 80. From 35: 10, 0, 80 (its own). From 80: 35 (its own), 10, 0.
    found = retrieval(at(0, 10, 35, 80), np.array([0, 0, 1, 1]))
    assert found == {"recall_at_1": 0.75, "mean_average_precision": pytest.approx((1 + 1 + 1 / 3 + 1) / 4, abs=1e-4)}


def test_an_image_that_is_alone_in_its_class_is_found_by_none_and_not_asked_for() -> None:
    assert retrieval(at(0, 1, 50), np.array([0, 0, 1])) == {"recall_at_1": 1.0, "mean_average_precision": 1.0}
    assert retrieval(at(0, 50), np.array([0, 1])) == {}


def test_of_many_images_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = at(0, 40, 1, 41, 2, 42, 90, 91), np.array([0, 1, 0, 1, 0, 1, 0, 1])
    monkeypatch.setattr(module, "MAX_IMAGES", 4)
    assert retrieval(features, targets) == retrieval(features[::2], targets[::2])


def test_images_looked_at_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(23, 5)).astype(np.float32), random.integers(0, 3, 23)
    whole = retrieval(features, targets)
    monkeypatch.setattr(module, "AT_ONCE", 4)
    assert retrieval(features, targets) == whole

"""training/evaluation/novelty.py: what training images are like is near, all else far, and the number says how far."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation import novelty
from training.evaluation.novelty import LEAST, THRESHOLD, Reference, fit, fit_curve, fit_gaussian

Features = NDArray[np.float32]


def flat(n: int, seed: int, dimensions: int = 12, within: int = 4) -> Features:
    """Features (n, dimensions) that lie in a few directions only, all on one side of zero."""
    random = np.random.default_rng(seed)
    axes = np.abs(np.random.default_rng(9).normal(size=(within, dimensions)))
    noise = random.normal(0, 0.02, (n, dimensions))
    return (np.abs(random.normal(1, 0.5, (n, within))) @ axes + noise).astype(np.float32)


@pytest.fixture(scope="module")
def reference() -> Reference:
    found = fit(flat(400, seed=1), flat(200, seed=2))
    assert found is not None
    return found


def test_the_number_is_the_share_of_held_out_images_that_are_nearer(reference: Reference) -> None:
    novelties = reference.novelty(flat(4000, seed=3))
    for level in (0.1, 0.5, 0.9, THRESHOLD):
        assert float((novelties < level).mean()) == pytest.approx(level, abs=0.06)


def test_what_lies_elsewhere_is_novel(reference: Reference) -> None:
    others = np.abs(np.random.default_rng(4).normal(size=(200, 12))).astype(np.float32)
    assert float((reference.novelty(others) > THRESHOLD).mean()) > 0.9


def test_it_is_between_0_and_1_whatever_the_features(reference: Reference) -> None:
    strange = np.stack([np.zeros(12), np.full(12, 1e10), -np.ones(12), reference.gaussian.mean]).astype(np.float32)
    novelties = reference.novelty(strange)
    assert np.isfinite(novelties).all()
    assert novelties.min() >= 0
    assert novelties.max() <= 1


def test_how_long_features_are_does_not_count(reference: Reference) -> None:
    some = flat(20, seed=5)
    np.testing.assert_allclose(reference.novelty(7 * some), reference.novelty(some), atol=1e-3)


def test_distances_beyond_all_held_out_images_are_still_told_apart() -> None:
    curve = fit_curve(np.linspace(1, 2, 100))
    far = curve.novelty(np.array([2.0, 2.05, 2.1]))
    assert (np.diff(far) > 0).all()
    assert (far < 1).all()


def test_equal_distances_of_many_images_make_one_step() -> None:
    curve = fit_curve(np.array([1.0] * 80 + [2.0] * 20))
    assert (np.diff(curve.distances) > 0).all()
    assert curve.novelty(np.array([0.5, 3.0])) == pytest.approx([curve.shares[0], 1.0], abs=1e-6)


@pytest.mark.parametrize(("trained", "held_out"), [(LEAST - 1, 100), (100, LEAST - 1)])
def test_too_few_images_say_nothing(trained: int, held_out: int) -> None:
    assert fit(flat(trained, seed=1), flat(held_out, seed=2)) is None


def test_there_are_ten_images_for_each_direction() -> None:
    assert fit_gaussian(flat(30, seed=1)).directions.shape == (12, 3)
    assert fit_gaussian(flat(1000, seed=1)).directions.shape == (12, 11)


def test_features_that_are_all_the_same_give_numbers() -> None:
    same = np.ones((40, 6), np.float32)
    found = fit(same, same)
    assert found is not None
    assert np.isfinite(found.novelty(np.eye(6, dtype=np.float32))).all()


def test_what_was_written_is_read(tmp_path: Path, reference: Reference) -> None:
    with (tmp_path / "novelty.npz").open("wb") as file:
        novelty.write(file, reference)
    some = flat(10, seed=6)
    np.testing.assert_array_equal(novelty.read(tmp_path / "novelty.npz").novelty(some), reference.novelty(some))

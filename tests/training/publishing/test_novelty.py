"""training/publishing/novelty.py: a graph tells the novelty that NumPy computes, and all else as before."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.factories import make_onnx, make_picture, run_onnx
from training.evaluation.novelty import Curve, Gaussian, Reference, fit_curve, fit_gaussian
from training.publishing.class_angle import class_distance, of_head
from training.publishing.novelty import Nodes, attach, extend, put_out

DIMENSIONS, CLASSES = 24, 5


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    make_onnx(tmp_path / "model.onnx", classes=CLASSES, dimensions=DIMENSIONS)
    return tmp_path / "model.onnx"


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    made = [np.asarray(make_picture(32, 32, seed=seed)) for seed in range(60)]
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    return np.concatenate([np.stack(made), noise, np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 255, np.uint8)])


def learnt(features: np.ndarray) -> tuple[Gaussian, Curve]:
    gaussian = fit_gaussian(features[:30])
    return gaussian, fit_curve(gaussian.distance(features[30:60]))


def test_the_graph_gives_what_numpy_gives(graph: Path, pictures: np.ndarray) -> None:
    before = run_onnx(graph, pictures)
    reference = Reference(*learnt(before["features"]))

    attach(graph, reference)

    after = run_onnx(graph, pictures)
    expected = reference.novelty(before["features"])
    assert after["novelty"].shape == (len(pictures), 1)
    assert np.ptp(expected) > 0.9
    np.testing.assert_allclose(after["novelty"][:, 0], expected, atol=1e-4)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    onnx.checker.check_model(onnx.load(graph), full_check=True)


def test_a_curve_that_is_all_tail_is_told(graph: Path, pictures: np.ndarray) -> None:
    features = run_onnx(graph, pictures)["features"]
    gaussian, _ = learnt(features)
    curve = fit_curve(gaussian.distance(features[:2]))
    assert curve.shares[1] == pytest.approx(0.5)

    attach(graph, Reference(gaussian, curve))

    np.testing.assert_allclose(run_onnx(graph, pictures)["novelty"][:, 0], curve.novelty(gaussian.distance(features)), atol=1e-4)


def test_the_batch_stays_of_any_size(graph: Path, pictures: np.ndarray) -> None:
    attach(graph, Reference(*learnt(run_onnx(graph, pictures)["features"])))
    whole = run_onnx(graph, pictures)["novelty"]
    np.testing.assert_allclose(run_onnx(graph, pictures[7:8])["novelty"], whole[7:8], atol=1e-5)


def test_the_angle_to_the_nearest_class_is_computed_of_logits(graph: Path, pictures: np.ndarray) -> None:
    weight = next(onnx.numpy_helper.to_array(one) for one in onnx.load(graph).graph.initializer if one.name == "weight")
    found = run_onnx(graph, pictures)
    mean = found["features"].mean(0)
    angle = of_head(weight, np.zeros(CLASSES, np.float32), mean)
    centred, directions = found["features"] - mean, weight - weight.mean(0)
    cosines = (centred / np.linalg.norm(centred, axis=1)[:, None]) @ (directions / np.linalg.norm(directions, axis=1)[:, None]).T
    np.testing.assert_allclose(angle.distance(found["logits"], found["features"]), 1 - cosines.max(1), atol=1e-4)

    curve = fit_curve(angle.distance(found["logits"], found["features"])[:60])
    nodes = Nodes()
    put_out(nodes, class_distance(nodes, angle), curve)
    extend(graph, nodes)

    expected = curve.novelty(1 - cosines.max(1))
    np.testing.assert_allclose(run_onnx(graph, pictures)["novelty"][:, 0], expected, atol=1e-3)

"""linear_head.py: a linear layer at the optimum of multinomial logistic regression, for features as they are given."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.package.probability import softmax
from training.errors import DataError
from training.loop import linear_head

Floats = NDArray[np.float32]


def make_features(classes: int, n: int = 90, d: int = 5) -> tuple[Floats, NDArray[np.int64]]:
    """Overlapping clouds, one a class, in features of very different sizes; the last feature never changes."""
    rng = np.random.default_rng(classes)
    targets = np.arange(n) % classes
    centres = rng.normal(0, 1, (classes, d))
    features = (centres[targets] + rng.normal(0, 1, (n, d))) * np.geomspace(0.01, 100, d) + np.linspace(-50, 50, d)
    features[:, -1] = 0.1
    return features.astype(np.float32), targets


def answer(features: NDArray[np.floating], layer: tuple[Floats, Floats]) -> NDArray[np.floating]:
    return softmax(features @ layer[0].T + layer[1])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_layer_is_at_the_optimum_of_its_objective(classes: int) -> None:
    """The gradient of c x cross-entropy + half the sum of squared weights of standardised features is 0 there."""
    features, targets = make_features(classes)
    c = 0.5
    layer = linear_head.fit_head(features, targets, classes, c)

    rest = answer(features.astype(np.float64), layer) - np.eye(classes)[targets]
    deviation = features.std(0, dtype=np.float64)
    deviation[-1] = 1
    standardised = (features - features.mean(0, dtype=np.float64)) / deviation
    weight = layer[0] * deviation

    assert np.abs(c * rest.T @ standardised + weight).max() < 0.02
    assert np.abs(c * rest.sum(0)).max() < 0.02  # no penalty on the bias
    assert np.abs(weight).max() > 0.2


def test_the_layer_answers_raw_features_as_a_fit_on_standardised_ones_does() -> None:
    features, targets = make_features(4)
    mean, deviation = features.mean(0), np.where(features.std(0) > 1e-4, features.std(0), 1)
    expected: Any = LogisticRegression(C=0.3, max_iter=1000).fit((features - mean) / deviation, targets)

    found = answer(features, linear_head.fit_head(features, targets, 4, 0.3))

    np.testing.assert_allclose(found, expected.predict_proba((features - mean) / deviation), atol=2e-3)


def test_clouds_that_lie_apart_are_told_apart() -> None:
    features, targets = make_features(3)
    features[:, 1] += 10 * targets

    weight, bias = linear_head.fit_head(features, targets, 3, 10)

    assert (weight.shape, bias.shape, weight.dtype, bias.dtype) == ((3, 5), (3,), np.float32, np.float32)
    assert (answer(features, (weight, bias)).argmax(1) == targets).all()


def test_a_smaller_c_gives_smaller_weights() -> None:
    strong, weak = (linear_head.fit_head(*make_features(3), 3, c)[0] for c in (0.001, 1))

    assert (np.abs(strong[:, :-1]) < np.abs(weak[:, :-1])).all()
    assert (strong[:, -1] == 0).all()  # of the feature that never changes


def test_the_same_arguments_give_the_same_layer() -> None:
    first, second = (linear_head.fit_head(*make_features(3), 3, 0.1) for _ in range(2))

    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def replaced(features: Floats, value: float) -> Floats:
    features = features.copy()
    features[3, 1] = value
    return features


@pytest.mark.parametrize(
    ("features", "targets", "classes", "reason"),
    [
        pytest.param(
            make_features(3)[0], make_features(3)[1], 4, r"4 classes .*missing are \[3\], unknown are \[\]", id="missing"
        ),
        pytest.param(make_features(3)[0], make_features(3)[1], 2, r"missing are \[\], unknown are \[2\]", id="unknown"),
        pytest.param(make_features(3)[0], make_features(3)[1] * 0, 1, "2 classes at least", id="one class"),
        pytest.param(make_features(3)[0][:-1], make_features(3)[1], 3, r"\(89, 5\) and targets of \(90,\)", id="lengths"),
        pytest.param(replaced(make_features(3)[0], np.nan), make_features(3)[1], 3, "not a finite number", id="no number"),
        pytest.param(replaced(make_features(3)[0], np.inf), make_features(3)[1], 3, "not a finite number", id="infinite"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(
    features: Floats, targets: NDArray[np.int64], classes: int, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        linear_head.fit_head(features, targets, classes, 1.0)


def test_a_fit_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "ITERATIONS", 1)

    with pytest.raises(DataError, match=r"not fitted after 1 steps with c = 100; give a smaller c"):
        linear_head.fit_head(*make_features(3), 3, 100)

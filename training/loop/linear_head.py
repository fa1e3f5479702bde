"""The head of a network whose features are given: multinomial logistic regression, fitted to its optimum at once.

For linear probes, and for recipes whose trunk has nothing to learn.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from training.errors import DataError

ITERATIONS = 2000  # of L-BFGS; 50 are usual


def fit_head(
    features: NDArray[np.float32], targets: NDArray[np.int64], classes: int, c: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (classes, d) and bias (classes,), both float32, of the linear layer that answers features (n, d).

    The features are standardised before the fit, and weight and bias take them as they were given. c > 0 is what a
    training loss counts for beside the penalty, half the sum of squared weights of standardised features: the
    smaller, the stronger the penalty. The same arguments give the same layer.

    Raises:
        DataError: an array that is not as above, a feature that is no number, a class without a target, or a fit that
            does not end.
    """
    _check(features, targets, classes)
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    deviation = features.std(0, dtype=np.float64).astype(np.float32)
    deviation[deviation <= 1e-6 * np.abs(mean)] = 1  # a feature that never changes, or by rounding alone
    two = classes == 2  # then one row is fitted, the logit of class 1 above that of class 0, and its halves are both rows
    regression = LogisticRegression(C=2 * c if two else c, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            regression.fit((features - mean) / deviation, targets)
        except ConvergenceWarning as err:
            raise DataError(f"the linear layer is not fitted after {ITERATIONS} steps with c = {c:g}; give a smaller c") from err
    weight, bias = regression.coef_, regression.intercept_
    if two:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / deviation
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def _check(features: NDArray[np.float32], targets: NDArray[np.int64], classes: int) -> None:
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise DataError(f"features are of shape {features.shape} and targets of {targets.shape}; (n, d) and (n,) belong together")
    if not np.isfinite(features).all():
        raise DataError("a feature is not a finite number: the network that made it has diverged, train it again")
    unknown = sorted({int(c) for c in targets} - set(range(classes)))
    missing = sorted(set(range(classes)) - {int(c) for c in targets})
    if unknown or missing or classes < 2:
        raise DataError(
            f"a linear layer for {classes} classes needs targets of each class from 0 to {classes - 1}, and 2 classes at least; "
            f"missing are {missing}, unknown are {unknown}"
        )

"""models/package/drift_reference.py: figures that are low for more of the same and rise with what differs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.errors import PackageError
from models.package import drift_reference as references
from models.package.drift_reference import FILE, Reference

RNG = np.random.default_rng(5)
SPREAD = np.linspace(3, 0.2, 40)


def features(n: int, off: float = 0.0, wide: float = 1.0) -> NDArray[np.float32]:
    return (RNG.normal(size=(n, 40)) * SPREAD * wide + 7 + off).astype(np.float32)


def make(n: int = 2000, **changes: Any) -> Reference:
    given: dict[str, Any] = {
        "answers": RNG.integers(0, 4, n),
        "confidence": RNG.beta(8, 1, n),
        "classes": 4,
        "features": features(n),
        "brightness": RNG.normal(120, 20, n),
        "sharpness": RNG.gamma(2, 1, n),
        "size": np.full(n, 32.0),
    }
    return references.make(**(given | changes))


def coordinates(reference: Reference, found: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([references.project(reference, row) for row in found])


def test_more_of_the_same_is_stable_and_another_mixture_is_not() -> None:
    usual = np.bincount(RNG.integers(0, 10, 5000), minlength=10)
    same = np.bincount(RNG.integers(0, 10, 2000), minlength=10)
    other = np.bincount(np.minimum(RNG.integers(0, 14, 2000), 9), minlength=10)
    assert references.stability(usual, same) < 0.01
    assert references.stability(usual, other) > 0.1


def test_chance_is_taken_off_so_that_many_classes_do_not_look_like_drift() -> None:
    usual = np.bincount(RNG.integers(0, 1000, 5000), minlength=1000)
    same = np.bincount(RNG.integers(0, 1000, 2000), minlength=1000)
    assert references.stability(usual, same) < 0.1


def test_a_class_that_no_longer_comes_gives_a_number_and_no_infinity() -> None:
    index = references.stability(np.array([500, 500, 0]), np.array([0, 0, 900]))
    assert 5 < index < 50


def test_the_index_is_the_sum_over_bins_as_defined() -> None:
    expected, found = np.array([600_000, 400_000]), np.array([500_000, 500_000])
    by_hand = (0.5 - 0.6) * np.log(0.5 / 0.6) + (0.5 - 0.4) * np.log(0.5 / 0.4)
    assert references.stability(expected, found) == pytest.approx(by_hand, rel=1e-3)


def test_features_of_the_same_kind_are_near_and_shifted_or_wider_ones_are_far() -> None:
    reference = make()
    same = references.distance(reference, coordinates(reference, features(500)))
    shifted = references.distance(reference, coordinates(reference, features(500, off=1.0)))
    wider = references.distance(reference, coordinates(reference, features(500, wide=2.0)))
    assert same < 0.05
    assert shifted == pytest.approx(40 / (SPREAD**2).sum(), rel=0.15)  # the square of the shift over the variance
    assert wider == pytest.approx(1.0, rel=0.15)  # (2 - 1)^2 times the variance over it


def test_directions_are_found_where_images_are_fewer_than_dimensions_and_the_reverse() -> None:
    many = features(3000)
    mean, directions, deviations, rest = references.principal(many)
    expected = np.sqrt(np.linalg.eigvalsh(np.cov(many.T))[::-1])
    assert mean == pytest.approx(many.mean(0), abs=1e-3)
    assert deviations == pytest.approx(expected[:32], rel=1e-3)
    assert rest[0] == pytest.approx(np.sqrt((expected[32:] ** 2).sum()), rel=1e-2)
    assert directions @ directions.T == pytest.approx(np.eye(32), abs=1e-4)
    few = many[:10]
    _, directions, deviations, rest = references.principal(few)
    assert deviations == pytest.approx(np.sqrt(np.linalg.eigvalsh(np.cov(few.T))[::-1][:9]), rel=1e-3)
    assert directions @ directions.T == pytest.approx(np.eye(9), abs=1e-4)


def test_a_size_that_all_images_have_gets_a_bin_of_its_own() -> None:
    edges, found = references.binned(np.full(50, 32.0))
    assert found.tolist() == [0, 50, 0]
    assert references.counts(np.array([31.0, 32.0, 33.0]), edges).tolist() == [1, 1, 1]


def test_a_blurred_picture_is_less_sharp_and_a_dark_one_as_sharp() -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    sharp, dark = np.asarray(picture), np.asarray(picture) // 3
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(2)))
    assert references.sharpness(blurred) < 0.2 * references.sharpness(sharp)
    assert references.sharpness(dark) == pytest.approx(references.sharpness(sharp), rel=0.05)
    assert references.brightness(dark) == pytest.approx(references.brightness(sharp) / 3, rel=0.02)
    assert references.sharpness(np.full((32, 32, 3), 7, np.uint8)) == 0


def test_a_reference_comes_back_as_it_was_written(tmp_path: Path) -> None:
    reference = make()
    references.write(tmp_path / FILE, reference)
    again = references.read((tmp_path / FILE).read_bytes(), 4, 40)
    for name in Reference.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))
    assert again.mean.dtype == again.directions.dtype == np.float32


@pytest.mark.parametrize(("classes", "dimensions"), [(5, 40), (4, 41)])
def test_a_reference_of_another_graph_is_refused(tmp_path: Path, classes: int, dimensions: int) -> None:
    references.write(tmp_path / FILE, make())
    with pytest.raises(PackageError, match="is not the reference of this graph"):
        references.read((tmp_path / FILE).read_bytes(), classes, dimensions)


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive"])
def test_what_is_no_reference_is_refused(data: bytes) -> None:
    with pytest.raises(PackageError):
        references.read(data, 4, 40)


def test_a_reference_with_what_is_no_number_is_refused(tmp_path: Path) -> None:
    references.write(tmp_path / FILE, make())
    found = dict(np.load(tmp_path / FILE))
    found["mean"][3] = np.nan
    np.savez_compressed(tmp_path / FILE, **found)
    with pytest.raises(PackageError, match="mean holds what is no number"):
        references.read((tmp_path / FILE).read_bytes(), 4, 40)

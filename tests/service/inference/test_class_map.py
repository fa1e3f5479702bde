"""service/inference/class_map.py: from a row of the network to a map of 0 to 1."""

import numpy as np
import pytest

from models.package import head as heads
from models.package import manifest as manifests
from models.package.head import Head
from service.inference.class_map import class_map, shape_of
from tests.factories import make_manifest, make_package


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Head:
    """Twice the mean of redness for class 0, of greenness for 1, of blueness for 2."""
    folder = make_package(tmp_path_factory.mktemp("store"))
    return heads.read(folder, manifests.read(folder))


def row(*, logits: tuple[float, ...] = (1, 3, 2), **places: tuple[int, int, int, float]) -> "dict[str, heads.Array]":
    """channel, line, column and value of single places of a feature map of zeros."""
    feature_map = np.zeros((4, 8, 8), np.float32)
    for channel, y, x, value in places.values():
        feature_map[channel, y, x] = value
    return {"logits": np.array(logits, np.float32), "feature_map": feature_map}


def test_the_map_is_what_the_class_asks_of_each_channel_from_0_to_1(head: Head) -> None:
    given = row(a=(0, 1, 2, 8.0), b=(0, 5, 5, 2.0), c=(1, 3, 3, 4.0))
    red = class_map(head, given, 0)
    assert (red.shape, red.dtype, red.max()) == ((8, 8), np.float32, 1)
    assert {(int(y), int(x)): float(red[y, x]) for y, x in np.argwhere(red)} == {(1, 2): 1.0, (5, 5): 0.25}
    assert np.argwhere(class_map(head, given, 1)).tolist() == [[3, 3]]


def test_without_a_class_the_likeliest_is_explained(head: Head) -> None:
    given = row(a=(0, 1, 2, 8.0), c=(1, 3, 3, 4.0))
    assert (class_map(head, given) == class_map(head, given, 1)).all()


def test_where_nothing_speaks_for_the_class_the_map_is_0(head: Head) -> None:
    assert not class_map(head, row(), 0).any()
    against = class_map(head, row(a=(0, 1, 2, -8.0)), 0)
    assert not against.any()
    assert np.isfinite(against).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_makes_no_map(head: Head, value: float) -> None:
    with pytest.raises(ValueError, match="no numbers"):
        class_map(head, row(a=(0, 1, 2, value)), 0)


def test_a_map_has_the_places_of_the_feature_map() -> None:
    assert shape_of(make_manifest()) == (8, 8)
    assert shape_of(make_manifest(outputs={"logits": [3], "features": [4], "feature_map": [4]})) == ()

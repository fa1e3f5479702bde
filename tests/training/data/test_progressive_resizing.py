"""training/data/progressive_resizing.py: which size an epoch has."""

import pytest

from models.image.spec import InputSpec
from training.data import progressive_resizing

SQUARE = InputSpec(128, 128, 144)


@pytest.mark.parametrize("epochs", [1, 7])
def test_without_sides_every_epoch_has_the_size_of_the_input(epochs: int) -> None:
    assert {progressive_resizing.at(InputSpec(32, 48, 48), (), epoch, epochs) for epoch in range(epochs)} == {(32, 48)}


@pytest.mark.parametrize(("epochs", "counts"), [(3, [1, 1, 1]), (30, [10, 10, 10]), (31, [11, 10, 10]), (5, [2, 2, 1])])
def test_the_epochs_are_shared_out_equally_in_the_order_of_the_sides(epochs: int, counts: list[int]) -> None:
    sides = [progressive_resizing.at(SQUARE, (96, 112, 128), epoch, epochs)[0] for epoch in range(epochs)]

    assert sides == [96] * counts[0] + [112] * counts[1] + [128] * counts[2]


@pytest.mark.parametrize(
    ("spec", "size"), [(InputSpec(60, 90, 90), (40, 60)), (InputSpec(90, 60, 90), (60, 40)), (SQUARE, (40, 40))]
)
def test_a_side_is_the_shorter_one_and_the_shape_stays(spec: InputSpec, size: tuple[int, int]) -> None:
    assert progressive_resizing.at(spec, (40,), 0, 1) == size

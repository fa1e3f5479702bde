"""training/report/receptive.py: what an element sees, against fields known from the literature and against gradients."""

import pytest
import torch
from torch import Tensor, nn

from training.networks import catalogue
from training.networks.classifier import Classifier
from training.report.receptive import Field, fields


class Squash(nn.Module):
    """Functions, not modules: means of cells, every second row, channels of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(torch.tanh(nn.functional.avg_pool2d(x, 2))[:, :, ::2], (0, 0, 0, 0, 0, 1))


class TwoPaths(nn.Module):
    """The image itself beside five columns of it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 3, (1, 5), padding=(0, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.wide(x)


def conv(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(3, 3, kernel, stride, padding, dilation)


@pytest.mark.parametrize(
    ("layers", "size", "box"),
    [
        pytest.param([conv(3, padding=1)], (3, 3), (9, 12, 9, 12), id="one 3x3"),
        pytest.param([conv(3, padding=1), conv(3, padding=1)], (5, 5), (8, 13, 8, 13), id="two 3x3 see 5x5"),
        pytest.param([conv(3)], (3, 3), (10, 13, 10, 13), id="no padding"),
        pytest.param([conv(3, dilation=2, padding=2)], (5, 5), (8, 13, 8, 13), id="dilated"),
        pytest.param([conv(7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1)], (11, 11), (35, 46, 35, 46), id="ResNet's stem"),
        pytest.param([conv(5), nn.Tanh(), nn.AvgPool2d(2), conv(5), nn.AvgPool2d(2)], (16, 16), (40, 56, 40, 56), id="LeNet"),
        pytest.param([TwoPaths()], (1, 5), (10, 11, 8, 13), id="two paths"),
        pytest.param([Squash()], (2, 2), (40, 42, 20, 22), id="functions"),
        pytest.param([nn.BatchNorm2d(3), nn.ReLU(inplace=True)], (1, 1), (10, 11, 10, 11), id="nothing but itself"),
    ],
)
def test_the_field_of_an_element_is_the_one_computed_by_hand(
    layers: list[nn.Module], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    (field,) = fields([nn.Sequential(*layers)], 64, 56)

    assert field.size == size
    assert field.box(10, 10) == box


def test_a_network_whose_fields_are_known_has_them_at_every_stage() -> None:
    stages = catalogue.build("resnet18", 3).stages()

    assert [field.size[0] for field in fields(stages[:3], 110, 16)] == [11, 43, 99]


def test_fields_end_at_the_borders_of_the_image() -> None:
    field = fields([conv(5, padding=2)], 9, 12)[0]

    assert field.box(0, 0) == (0, 3, 0, 3)
    assert field.box(8, 11) == (6, 9, 9, 12)


def by_gradient(stages: list[nn.Sequential], height: int, width: int, row: int, column: int) -> tuple[int, ...]:
    """Pixels that the gradient of an element reaches, over many random images so that no ReLU hides one."""
    torch.manual_seed(0)
    images = torch.randn(64, 3, height, width, requires_grad=True)
    nn.Sequential(*stages).eval()(images)[:, :, row, column].abs().sum().backward()
    assert images.grad is not None
    reached = (images.grad != 0).any(0).any(0)
    rows, columns = reached.any(1).nonzero(), reached.any(0).nonzero()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize("places", [[(0, 0), (7, 5)], [(3, 2), (5, 9)]])
@pytest.mark.parametrize("depth", [1, 2])
def test_fields_are_where_gradients_reach(depth: int, places: list[tuple[int, int]]) -> None:
    stages = catalogue.build("resnet10-small", 3).stages()[:depth]

    field: Field = fields(stages, 24, 20)[-1]

    for place in places:
        assert field.box(*place) == by_gradient(stages, 24, 20, *place)


def test_the_network_is_left_as_it_was() -> None:
    model: Classifier = catalogue.build("resnet10-small", 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    fields(model.stages(), 8, 8)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_gives_something_for_nothing_is_not_known() -> None:
    with pytest.raises(ValueError, match="something else than 0 for 0"):
        fields([nn.Sequential(conv(3), nn.Sigmoid())], 8, 8)

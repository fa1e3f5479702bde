"""The operations that the networks are made of do what lectures work out by hand: convolution, pooling, activations.

Where a lecture prints only a result, its input is chosen here so that it can be checked in the head.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.training.networks.factories import build_unfilled

COUNTING = torch.arange(16.0).reshape(4, 4)  # 0 to 15, row by row


def convolve(image: Tensor, kernel: Tensor, **arguments: Any) -> Tensor:
    """One channel; as networks and lectures have it, the kernel is not turned around."""
    return functional.conv2d(image[None, None], kernel[None, None], **arguments)[0, 0]


def grid(*rows: str) -> Tensor:
    return torch.tensor([[float(value) for value in row.split()] for row in rows])


# Convolution


def test_counting_numbers_under_a_counting_kernel() -> None:
    """One lecture prints 357 for the third. One row further down, each of the nine numbers is 4 more and the sum 4 x 36
    more: 258 + 144 = 402."""
    found = convolve(COUNTING, torch.arange(9.0).reshape(3, 3))

    assert found.tolist() == [[258, 294], [402, 438]]


def test_every_step_of_a_convolution_is_a_sum_of_products() -> None:
    image, kernel = torch.randn(6, 6, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)

    found = convolve(image, kernel)

    assert found.shape == (4, 4)
    for i, j in product(range(4), range(4)):
        by_hand = sum(float(image[i + a, j + b] * kernel[a, b]) for a, b in product(range(3), range(3)))
        assert found[i, j].item() == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        pytest.param([-1.0, 1.0], [2.0, 0, -3, 4, 0], id="(-1, 1): the change from one value to the next"),
        pytest.param([1.0, 0.0, 1.0], [4.0, 3, 7, 4], id="(1, 0, 1): the sum of both neighbours"),
    ],
)
def test_a_convolution_of_a_row(kernel: list[float], expected: list[float]) -> None:
    row = torch.tensor([1.0, 3, 3, 0, 4, 4])

    found = functional.conv1d(row[None, None], torch.tensor(kernel)[None, None])[0, 0]

    assert found.tolist() == expected


def test_a_curve_detector_answers_to_its_curve_and_not_to_another() -> None:
    """6600 = 4 x 50 x 30 + 20 x 30 on the back of a mouse, 0 on its head."""
    detector = grid(
        "0 0 0 0 0 30 0",
        "0 0 0 0 30 0 0",
        "0 0 0 30 0 0 0",
        "0 0 0 30 0 0 0",
        "0 0 0 30 0 0 0",
        "0 0 0 30 0 0 0",
        "0 0 0 0 0 0 0",
    )
    back = grid(
        "0 0 0 0 0 0 30",
        "0 0 0 0 50 50 50",
        "0 0 0 20 50 0 0",
        "0 0 0 50 50 0 0",
        "0 0 0 50 50 0 0",
        "0 0 0 50 50 0 0",
        "0 0 0 50 50 0 0",
    )
    head = grid(
        "0 0 0 0 0 0 0",
        "0 40 0 0 0 0 0",
        "40 0 40 0 0 0 0",
        "40 20 0 0 0 0 0",
        "0 50 0 0 0 0 0",
        "0 0 50 0 0 0 0",
        "25 25 0 50 0 0 0",
    )

    assert convolve(back, detector).item() == 6600
    assert convolve(head, detector).item() == 0


LINES = {
    "horizontal": grid("-1 -1 -1", "2 2 2", "-1 -1 -1"),
    "vertical": grid("-1 2 -1", "-1 2 -1", "-1 2 -1"),
    "45 degrees": grid("-1 -1 2", "-1 2 -1", "2 -1 -1"),
    "135 degrees": grid("2 -1 -1", "-1 2 -1", "-1 -1 2"),
}


@pytest.mark.parametrize("drawn", LINES)
def test_a_line_detector_answers_most_to_lines_of_its_own_direction(drawn: str) -> None:
    line = (LINES[drawn] > 0).float()
    answers = {name: convolve(line, kernel).item() for name, kernel in LINES.items()}

    assert answers[drawn] == 6
    assert {value for name, value in answers.items() if name != drawn} == {0}


@pytest.mark.parametrize("kernel", [grid("-1 -1 -1", "-1 8 -1", "-1 -1 -1"), grid("0 -1 0", "-1 4 -1", "0 -1 0")])
def test_an_edge_kernel_answers_at_edges_alone(kernel: Tensor) -> None:
    step = torch.zeros(5, 8)
    step[:, 4:] = 10

    found = convolve(step, kernel)

    assert found[:, [0, 1, 4, 5]].count_nonzero() == 0
    assert (found[:, 2] < 0).all()
    assert torch.equal(found[:, 2], -found[:, 3])


def test_a_sharpening_kernel_is_the_image_plus_its_edges() -> None:
    image = torch.randn(6, 6)

    found = convolve(image, grid("0 -1 0", "-1 5 -1", "0 -1 0"))

    torch.testing.assert_close(found, image[1:-1, 1:-1] + convolve(image, grid("0 -1 0", "-1 4 -1", "0 -1 0")))
    torch.testing.assert_close(convolve(torch.full((4, 4), 7.0), grid("0 -1 0", "-1 5 -1", "0 -1 0")), torch.full((2, 2), 7.0))


def test_a_blur_is_the_mean_of_nine_pixels() -> None:
    torch.testing.assert_close(convolve(COUNTING, torch.full((3, 3), 1 / 9)), grid("5 6", "9 10"))


def test_a_channel_of_the_result_sums_over_all_channels_before_and_adds_its_bias() -> None:
    image, kernels, bias = torch.randn(3, 5, 5), torch.randn(2, 3, 3, 3), torch.randn(2)

    found = functional.conv2d(image[None], kernels, bias)[0]

    for one, kernel, offset in zip(found, kernels, bias, strict=True):
        channels = [convolve(plane, part) for plane, part in zip(image, kernel, strict=True)]
        torch.testing.assert_close(one, torch.stack(channels).sum(0) + offset)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("constant", "0 0 1 2 3 0 0"), ("reflect", "3 2 1 2 3 2 1"), ("replicate", "1 1 1 2 3 3 3")],
)
def test_padding_puts_zeros_or_the_mirrored_or_repeated_edge_around(mode: str, expected: str) -> None:
    found = functional.pad(torch.tensor([[1.0, 2, 3]]), (2, 2), mode)

    assert torch.equal(found, grid(expected))


def test_a_dilated_kernel_is_a_larger_one_with_zeros_between() -> None:
    image, kernel = torch.randn(7, 7), torch.randn(2, 2)
    larger = torch.zeros(4, 4)
    larger[::3, ::3] = kernel

    torch.testing.assert_close(convolve(image, kernel, dilation=3), convolve(image, larger))


@pytest.mark.parametrize("side", [9, 28, 32])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), list(product([1, 3, 5], [1, 2, 3], [0, 1, 2], [1, 2])))
def test_the_side_of_the_result_is_as_the_formula_says(side: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    """floor((side + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; without dilation and where the division leaves
    no rest, that is (side - kernel + 2 padding) / stride + 1."""
    expected = math.floor((side + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1)
    image = torch.empty(1, 1, side, side, device="meta")

    found = functional.conv2d(image, torch.empty(1, 1, kernel, kernel, device="meta"), None, stride, padding, dilation)

    assert found.shape == (1, 1, expected, expected)
    if dilation == 1 and (side - kernel + 2 * padding) % stride == 0:
        assert expected == (side - kernel + 2 * padding) // stride + 1


def test_32_kernels_of_3x3_make_26x26x32_of_a_digit() -> None:
    model = build_unfilled("convnet-32-64-128", 10)
    digit = torch.empty(1, 3, 28, 28, device="meta")

    assert model.trunk[:2](digit).shape == (1, 32, 26, 26)  # type: ignore[index]


def test_a_shifted_image_has_a_shifted_result_and_the_same_greatest_value() -> None:
    """Convolution is equivariant, a maximum over the whole result is invariant."""
    image = torch.zeros(12, 12)
    image[3:6, 2:5] = torch.randn(3, 3)
    kernel = torch.randn(3, 3)
    shifted = image.roll((2, 4), (0, 1))

    found, moved = convolve(image, kernel), convolve(shifted, kernel)

    torch.testing.assert_close(moved, found.roll((2, 4), (0, 1)))
    torch.testing.assert_close(moved.max(), found.max())


# Convolution as a matrix product, and its derivatives


def as_matrix(kernel: Tensor, height: int, width: int) -> Tensor:
    """The matrix that maps an image, flattened, to its convolution with ``kernel``, flattened."""
    rows, columns = height - kernel.shape[0] + 1, width - kernel.shape[1] + 1
    matrix = torch.zeros(rows, columns, height, width, dtype=kernel.dtype)
    for i, j in product(range(rows), range(columns)):
        matrix[i, j, i : i + kernel.shape[0], j : j + kernel.shape[1]] = kernel
    return matrix.reshape(rows * columns, height * width)


def test_a_convolution_is_a_product_with_a_matrix_and_its_transpose_carries_the_gradient_back() -> None:
    image = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(3, 2, dtype=torch.float64)
    matrix = as_matrix(kernel, 5, 6)
    result = convolve(image, kernel)
    gradient = torch.randn_like(result)

    (found,) = torch.autograd.grad(result, image, gradient)

    torch.testing.assert_close(result.flatten(), matrix @ image.flatten())
    torch.testing.assert_close(found.flatten(), matrix.T @ gradient.flatten())
    transposed = functional.conv_transpose2d(gradient[None, None], kernel[None, None])[0, 0]
    torch.testing.assert_close(found, transposed)


def test_the_gradient_of_the_kernel_is_the_image_convolved_with_the_gradient_of_the_result() -> None:
    image = torch.randn(5, 6, dtype=torch.float64)
    kernel = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    result = convolve(image, kernel)
    gradient = torch.randn_like(result)

    (found,) = torch.autograd.grad(result, kernel, gradient)

    torch.testing.assert_close(found, convolve(image, gradient))


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2)])
def test_gradients_are_slopes(stride: int, padding: int, dilation: int) -> None:
    """Of a convolution, its kernels and its biases: as differences of the loss over small steps."""
    torch.manual_seed(0)
    image, kernels, bias = torch.randn(2, 2, 5, 5), torch.randn(3, 2, 3, 3), torch.randn(3)
    inputs = image, kernels, bias = [value.double().requires_grad_() for value in (image, kernels, bias)]

    def loss() -> Tensor:
        return functional.conv2d(image, kernels, bias, stride, padding, dilation).square().sum()

    for value, gradient in zip(inputs, torch.autograd.grad(loss(), inputs), strict=True):
        for index in (0, value.numel() // 2, value.numel() - 1):
            with torch.no_grad():
                flat, step = value.view(-1), 1e-5
                flat[index] += step
                above = loss().item()
                flat[index] -= 2 * step
                below = loss().item()
                flat[index] += step
            assert gradient.flatten()[index].item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-5)


# Pooling


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(grid("1 1 2 4", "5 6 7 8", "3 2 1 0", "1 2 3 4"), grid("6 8", "3 4"), id="of mixed numbers"),
        pytest.param(COUNTING, grid("5 7", "13 15"), id="of counting numbers"),
    ],
)
def test_max_pooling_keeps_the_greatest_of_each_cell(image: Tensor, expected: Tensor) -> None:
    assert torch.equal(functional.max_pool2d(image[None], 2)[0], expected)


def test_average_and_sum_pooling_of_the_same_cells() -> None:
    average = functional.avg_pool2d(COUNTING[None], 2)[0]

    assert torch.equal(average, grid("2.5 4.5", "10.5 12.5"))
    assert torch.equal(functional.avg_pool2d(COUNTING[None], 2, divisor_override=1)[0], 4 * average)


def test_a_small_shift_within_a_cell_does_not_change_a_max_pooling() -> None:
    image = torch.zeros(1, 4, 4)
    image[0, 0, 2] = 5

    assert torch.equal(functional.max_pool2d(image, 2), functional.max_pool2d(image.roll(1, 2), 2))


def test_the_gradient_of_a_max_pooling_goes_to_the_greatest_alone() -> None:
    image = COUNTING[None].clone().requires_grad_()

    functional.max_pool2d(image, 2).sum().backward()

    assert image.grad is not None
    assert image.grad[0].nonzero().tolist() == [[1, 1], [1, 3], [3, 1], [3, 3]]


# Activations

ALPHA, SCALE = 1.67326, 1.0507  # SELU's, Klambauer et al. 2017, arXiv 1706.02515
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], float]]] = {
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + math.exp(-x))),
    "tanh": (torch.tanh, lambda x: 2 / (1 + math.exp(-2 * x)) - 1),
    "ReLU": (functional.relu, lambda x: max(0.0, x)),
    "leaky ReLU": (functional.leaky_relu, lambda x: x if x > 0 else 0.01 * x),
    "PReLU": (lambda x: functional.prelu(x, x.new_tensor([0.2])), lambda x: x if x > 0 else 0.2 * x),
    "ELU": (functional.elu, lambda x: x if x > 0 else math.exp(x) - 1),
    "SELU": (functional.selu, lambda x: SCALE * (x if x > 0 else ALPHA * (math.exp(x) - 1))),
    "GELU": (functional.gelu, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    "softplus": (functional.softplus, lambda x: math.log(1 + math.exp(x))),
    "SiLU": (functional.silu, lambda x: x / (1 + math.exp(-x))),
    "sign": (torch.sign, lambda x: float(x > 0) - float(x < 0)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_formula(name: str) -> None:
    found, formula = ACTIVATIONS[name]
    values = [-3.0, -1.0, -0.25, 0.0, 0.25, 1.0, 3.0]

    assert found(torch.tensor(values, dtype=torch.float64)).tolist() == pytest.approx([formula(x) for x in values], abs=1e-5)


def test_selu_keeps_mean_zero_and_variance_one() -> None:
    """What its two constants are for."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    found = functional.selu(x)

    assert found.mean().item() == pytest.approx(0, abs=0.01)
    assert found.var().item() == pytest.approx(1, abs=0.01)


# Counting parameters


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        pytest.param("mlp-800-400", [628_000, 320_400, 4_010], id="784-800-400-10"),
        pytest.param("convnet-32-64-128", [320, 18_496, 73_856, 11_530], id="pooled"),
        pytest.param("convnet-32-64-128-unpooled", [320, 18_496, 73_856, 619_530], id="unpooled"),
        pytest.param("lenet5", [156, 2_416, 48_120, 10_164, 850], id="LeNet-5"),
    ],
)
def test_layers_have_as_many_parameters_as_lectures_count(architecture: str, expected: list[int]) -> None:
    layers = [m for m in build_unfilled(architecture, 10).modules() if isinstance(m, nn.Conv2d | nn.Linear)]

    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == expected

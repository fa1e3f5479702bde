"""training/data/balance.py: rare classes count as much as frequent ones, by being drawn or by their weight."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.data import balance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_targets(*counts: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize("kind", ["none", "weights"])
def test_an_epoch_shows_each_image_once_unless_classes_are_drawn(kind: balance.Balance) -> None:
    order = balance.draw(make_targets(90, 10), kind, generator())

    assert sorted(order.tolist()) == list(range(100))
    assert order.tolist() != list(range(100))


def test_the_sampler_shows_each_class_as_often_as_the_others() -> None:
    targets = make_targets(5000, 900, 90, 10)

    order = balance.draw(targets, "sampler", generator())

    assert len(order) == 6000
    counts = np.bincount(targets[order])
    deviation = np.sqrt(6000 * 1 / 4 * 3 / 4)
    assert abs(counts - 1500).max() < 3 * deviation


def test_the_sampler_shows_each_image_of_a_class_as_often_as_the_others() -> None:
    targets = make_targets(5000, 20)

    drawn = np.bincount(balance.draw(targets, "sampler", generator()), minlength=5020)

    rare = drawn[targets == 1]
    assert abs(rare - rare.sum() / 20).max() < 4 * np.sqrt(rare.sum() / 20)
    frequent = drawn[targets == 0]
    assert abs(np.bincount(frequent)[:3] / 5000 - np.array([1, 0.5, 0.125]) * np.exp(-0.502)).max() < 0.03  # Poisson


def test_the_sampler_passes_over_classes_without_images() -> None:
    targets = np.array([0, 0, 3, 3, 3, 3])

    order = balance.draw(targets, "sampler", generator())

    assert set(targets[order]) <= {0, 3}
    assert len(order) == 6


@pytest.mark.parametrize("kind", ["none", "weights", "sampler"])
def test_the_order_is_decided_by_the_generator_alone(kind: balance.Balance) -> None:
    first, again, other = (balance.draw(make_targets(40, 4), kind, generator(seed)).tolist() for seed in (1, 1, 2))

    assert first == again != other


def test_one_image_is_an_epoch() -> None:
    assert balance.draw(np.array([1]), "sampler", generator()).tolist() == [0]


def test_weights_are_inverse_to_the_counts_and_one_on_average_over_the_images() -> None:
    targets = make_targets(60, 30, 10)

    weights = balance.class_weights(targets, 3, "weights")

    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights[targets].mean().item() == pytest.approx(1)
    np.testing.assert_allclose(weights * torch.tensor([60, 30, 10]), 100 / 3, rtol=1e-6)


def test_a_class_without_images_does_not_upset_the_weights() -> None:
    targets = np.array([0, 0, 2])

    weights = balance.class_weights(targets, 4, "weights")

    assert weights is not None
    assert weights[targets].tolist() == pytest.approx([0.75, 0.75, 1.5])
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize("kind", ["none", "sampler"])
def test_without_weights_the_loss_is_torchs(kind: balance.Balance) -> None:
    logits, shares = torch.randn(9, 4, generator=generator()), torch.rand(9, 4, generator=generator(1)).softmax(1)
    weights = balance.class_weights(make_targets(3, 3, 2, 1), 4, kind)

    loss = balance.losses(logits, shares, weights, 0.1).mean()

    assert loss.item() == pytest.approx(functional.cross_entropy(logits, shares, label_smoothing=0.1).item(), rel=1e-6)


def test_an_image_weighs_what_its_classes_do() -> None:
    logits, weights = torch.randn(3, 2, generator=generator()), torch.tensor([0.5, 4.0])
    shares = torch.tensor([[1, 0], [0, 1], [0.25, 0.75]])

    loss = balance.losses(logits, shares, weights, 0.2).mean()

    smooth = 0.8 * shares + 0.1
    each = -(smooth * logits.log_softmax(1)).sum(1)
    assert loss.item() == pytest.approx(((0.5 * each[0] + 4 * each[1] + 3.125 * each[2]) / 3).item())


def test_the_loss_of_every_image_is_least_where_the_network_says_its_class_however_rare_another_is() -> None:
    weights = balance.class_weights(make_targets(990, 10), 2, "weights")
    logits = torch.zeros(1, 2, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(balance.losses(logits, torch.tensor([[1.0, 0]]), weights, 0.1), logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()

    assert logits.softmax(1)[0, 0].item() == pytest.approx(0.95, abs=0.01)

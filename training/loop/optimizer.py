"""What moves the weights: the optimizer of a recipe, its groups of parameters, and the rate of a step."""

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from training.loop.muon import Muon, is_hidden
from training.networks import freezing
from training.networks.classifier import Classifier
from training.recipe import Recipe

RMSPROP_DECAY, RMSPROP_EPSILON = 0.9, 1e-7  # Keras's defaults: torch's are 0.99 and 1e-8
ADAM_SQUARES = 0.999  # the second beta of Kingma and Ba 2014, arXiv 1412.6980


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer over the parameters of ``model``."""
    groups, rate, momentum = parameter_groups(model, recipe), recipe.learning_rate, recipe.momentum
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, rate, RMSPROP_DECAY, RMSPROP_EPSILON, momentum=momentum)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, (momentum, ADAM_SQUARES))
    if recipe.optimizer == "muon":
        return Muon(groups, rate, momentum, nesterov=recipe.nesterov and momentum > 0)
    return torch.optim.SGD(groups, rate, momentum, nesterov=recipe.nesterov and momentum > 0)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Kernels and matrices, which decay, and biases and norms, which do so where the recipe says it; of each part of the
    network apart where their rates differ. ``rate_share`` is of the rate of a step."""
    decay = recipe.weight_decay
    groups: list[dict[str, object]] = []
    for share, parameters in _shares(model, recipe.layer_decay):
        if recipe.optimizer == "muon":
            hidden, parameters = [p for p in parameters if is_hidden(p)], [p for p in parameters if not is_hidden(p)]
            by_muon = share * recipe.muon_rate / recipe.learning_rate
            groups.append({"params": hidden, "weight_decay": 0.0, "rate_share": by_muon, "orthogonal": True})
        decayed, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": decay, "rate_share": share})
        groups.append({"params": others, "weight_decay": decay * recipe.decay_norms, "rate_share": share})
    return groups


def _shares(model: nn.Module, layer_decay: float) -> list[tuple[float, list[Parameter]]]:
    """Parameters by their share of the learning rate: 1 of the heads, of each part before ``layer_decay`` times that of
    the next (as BEiT is fine-tuned, Bao et al. 2021, arXiv 2106.08254)."""
    if layer_decay == 1 or not isinstance(model, Classifier):
        return [(1.0, list(model.parameters()))]
    parts = [freezing.parameters(part) for part in freezing.parts(model)]
    heads = list(model.head.parameters()) + list(model.auxiliary.parameters())
    return [*((layer_decay ** (len(parts) - i), part) for i, part in enumerate(parts)), (1.0, heads)]


def set_rate(optimizer: Optimizer, rate: float, momentum: float) -> None:
    """Learning rate of the heads and momentum (of Adam: the first beta) of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_share", 1.0)  # checkpoints of old have none
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum

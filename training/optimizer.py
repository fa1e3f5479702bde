"""What moves the weights: the optimizer of a recipe, its groups of parameters, and the rate of a step.

Neighbours: schedule.py gives rate and momentum, train.py steps.
"""

import torch
from torch import nn
from torch.optim import Optimizer

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
    return torch.optim.SGD(groups, rate, momentum, nesterov=recipe.nesterov and momentum > 0)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Kernels and matrices, which decay; biases and norms, which do so where the recipe says it."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    decay = recipe.weight_decay
    return [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": decay * recipe.decay_norms}]


def set_rate(optimizer: Optimizer, rate: float, momentum: float) -> None:
    """Learning rate and momentum (of Adam: the first beta) of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum

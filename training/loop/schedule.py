"""Learning rate and momentum of each step."""

import math

from training.recipe import Recipe

FIRST, LAST = 25.0, 1e4  # of one cycle: what the highest rate is divided by at first; and that one again at last
DIP = 0.1  # by how much one cycle lowers the momentum: from 0.95 to 0.85 in Smith's paper


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate of a step (0 to steps - 1): a straight line up during the warm-up, then as the schedule says."""
    peak = recipe.learning_rate
    if recipe.schedule == "onecycle":
        return _cycle(step, steps, recipe.warmup_share, peak / FIRST, peak, peak / FIRST / LAST)
    warmup = max(1.0, recipe.warmup_share * steps)
    return peak * min((step + 1) / warmup, 1.0) * _share(step, steps, warmup, recipe)


def momentum_at(step: int, steps: int, recipe: Recipe) -> float:
    """Momentum of a step: the recipe's; in one cycle it is lowest where the rate is highest."""
    if recipe.schedule != "onecycle":
        return recipe.momentum
    return _cycle(step, steps, recipe.warmup_share, recipe.momentum, max(recipe.momentum - DIP, 0.0), recipe.momentum)


def _share(step: int, steps: int, warmup: float, recipe: Recipe) -> float:
    """Share of the highest rate, but for the warm-up."""
    left = min((steps - step) / max(steps - warmup, 1.0), 1.0)
    if recipe.schedule == "linear":
        return left
    if recipe.schedule == "cosine":
        return (1 - math.cos(math.pi * left)) / 2
    if recipe.schedule == "steps":
        return recipe.step_factor ** sum(step >= share * steps for share in recipe.steps)
    return 1.0


def _cycle(step: int, steps: int, rise: float, first: float, middle: float, last: float) -> float:
    """From ``first`` to ``middle`` in the share ``rise`` of the steps, then to ``last``, along half a cosine each
    (Smith and Topin 2017, arXiv 1708.07120; the curve of torch.optim.lr_scheduler.OneCycleLR)."""
    turn, end = max(rise * steps - 1, 0.0), steps - 1
    if step < turn:
        return _between(first, middle, step / turn)
    return _between(middle, last, (step - turn) / max(end - turn, 1.0))


def _between(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2

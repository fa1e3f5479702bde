"""A moving average of the weights, which often answers better than the weights themselves (Polyak and Juditsky 1992).

torch's AveragedModel with get_ema_multi_avg_fn has one decay from the first step on, and averages counters too.
"""

from copy import deepcopy

import torch

from training.networks.classifier import Classifier


class Average:
    """``model`` holds the averages of the weights of ``of`` and of its running statistics; counters are copied."""

    def __init__(self, of: Classifier, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(of).requires_grad_(False)
        self._pairs = list(zip(self.model.state_dict().values(), of.state_dict().values(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0. The first steps weigh more, so that a short run is not an
        average of its random beginning: the decay rises from 0.1 (TensorFlow's ExponentialMovingAverage, num_updates)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, value in self._pairs:
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

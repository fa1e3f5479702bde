"""Which parts of a network do not learn: frozen ones keep their weights and the statistics of their norms.

The parts are, from the input to the head, the stages of the trunk and then the neck; a neck without weights belongs to the last
stage.
"""

from bisect import bisect_right
from typing import Literal

from torch import nn
from torch.nn import Parameter

from training.networks.classifier import Classifier

FEATURES: Literal["features"] = "features"  # all but the head
Freeze = int | Literal["features"]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def parts(model: Classifier) -> list[list[nn.Module]]:
    """Modules of each part; a trunk without stages is one."""
    found: list[list[nn.Module]] = [[stage] for stage in model.stages() or [model.trunk]]
    if any(True for _ in model.neck.parameters()):
        return [*found, [model.neck]]
    return [*found[:-1], [*found[-1], model.neck]]


def parameters(part: list[nn.Module]) -> list[Parameter]:
    return [parameter for module in part for parameter in module.parameters()]


def check(model: Classifier, architecture: str, freeze: int) -> None:
    """Raises ValueError when the network has fewer stages than ``freeze``."""
    if freeze > (stages := len(model.stages())):
        raise ValueError(
            f'freeze is {freeze}, {architecture} has {stages} stages; give fewer, or "{FEATURES}" for all but its head'
        )


def frozen_at(epoch: int, model: Classifier, freeze: Freeze, unfreeze_every: int) -> int:
    """How many parts, from the input, do not learn in an epoch, counted from 0."""
    first = len(parts(model)) if freeze == FEATURES else freeze
    return max(first - epoch // unfreeze_every, 0) if unfreeze_every else first


def freeze(model: Classifier, count: int, keep_statistics: bool = False) -> None:
    """Freeze the first ``count`` parts of a network in training mode, and have the others learn.

    An auxiliary head learns where the stage that it hangs on does: else it could teach nothing. keep_statistics: the norms of
    the parts that learn normalise by the statistics that they have, not by those of each batch.
    """
    for i, part in enumerate(parts(model)):
        for module in part:
            _set(module, learns=i >= count)
            for norm in module.modules() if keep_statistics else ():
                if isinstance(norm, NORMS):
                    norm.eval()
    for layer, head in model.auxiliary.items():
        _set(head, learns=bisect_right(model.ends, int(layer)) >= count)


def _set(module: nn.Module, learns: bool) -> None:
    module.requires_grad_(learns)
    module.train(learns)

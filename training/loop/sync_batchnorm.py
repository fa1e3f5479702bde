"""Batch norm over the images of all processes, as one process with the whole batch would compute it.

On GPUs this is torch's SyncBatchNorm, which knows no CPU; there it is the layer below. Names and values of the weights stay.
"""

from typing import Any, cast

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn import functional


class Total(torch.autograd.Function):
    """The sum of a tensor over all processes. What one process puts in counts in the losses of all, so gradients are
    summed in the same way."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """Takes (n, channels, ...) of any further dimensions; n may differ from process to process."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        axes, shape = [0, *range(2, input.ndim)], [1, -1, *[1] * (input.ndim - 2)]
        values = input.float()
        here = values.new_tensor([values.numel() / values.shape[1]])
        sums, count = total(torch.cat([values.sum(axes), here])).split([values.shape[1], 1])
        mean = sums / count
        centred = values - mean.view(shape)
        variance = total(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach(), count.detach())
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics, of which the variance is the unbiased one, towards those of this batch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


def total(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over all processes, through which gradients flow."""
    return cast(Tensor, Total.apply(tensor))


def share(module: nn.Module) -> None:
    """Make every batch norm within ``module`` one over all processes."""
    if torch.cuda.is_available():
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, _shared(child))
        else:
            share(child)


def _shared(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> SharedBatchNorm:
    """The same parameters and statistics in a layer that shares."""
    new = SharedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        setattr(new, name, cast(Any, value))
    return new.train(layer.training)

"""Muon: hidden convolutions move by orthogonal matrices, so that no direction of a kernel lags behind the others; what else
learns moves by SGD (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the powers 1, 3 and 5: they raise small singular values the most (ibid.)
ITERATIONS = 3  # as for the network of airbench94_muon.py, https://github.com/KellerJordan/cifar10-airbench
LEAST = 1e-7  # norm that is divided by
PIXELS = 3  # channels of an image


def is_hidden(parameter: Parameter) -> bool:
    """Whether it is a kernel (outputs, inputs, height, width) that does not read pixels, nor a channel each."""
    return parameter.ndim == 4 and parameter.shape[1] > PIXELS


class Muon(SGD):
    """SGD, but for the groups that are "orthogonal".

    Their kernels have the length sqrt(outputs), which a norm after them does not see, in place of a decay; a rate is how far one
    goes relative to it. Torch's Muon takes matrices alone and leaves lengths and all else to others.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            for kernel in group["params"] if group.get("orthogonal") else ():
                if kernel.grad is not None:
                    direction = self._direction(kernel, group["momentum"])
                    kernel.mul_(len(kernel) ** 0.5 / kernel.norm().clamp(min=LEAST))
                    kernel.sub_(orthogonal(direction.flatten(1)).reshape(direction.shape), alpha=group["lr"])
                    kernel.grad = None  # SGD leaves it alone then
        return super().step(closure)

    def _direction(self, kernel: Parameter, momentum: float) -> Tensor:
        """Nesterov's momentum of its gradient."""
        assert kernel.grad is not None
        if "momentum_buffer" not in (state := self.state[kernel]):
            state["momentum_buffer"] = torch.zeros_like(kernel)
        speed = state["momentum_buffer"].mul_(momentum).add_(kernel.grad)
        return kernel.grad.add(speed, alpha=momentum)


def orthogonal(matrix: Tensor) -> Tensor:
    """(n, m) float: about U V^T of ``matrix`` = U S V^T, with singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm().clamp(min=LEAST)
    x = x.T if len(x) > x.shape[1] else x  # the smaller of the two products
    for _ in range(ITERATIONS):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return x.T if len(matrix) > matrix.shape[1] else x

"""A stand-in for a GPU on machines without one: what is moved to "cuda" stays where it is, and convolutions are computed there
as CUDA does by default, with 10 bits of the mantissa of what is convolved (TF32)."""

import sys
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn


def rounded(values: Tensor) -> Tensor:
    """float32 to 10 bits of mantissa, to the nearest."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).view_as(values)


def pretend(patch: pytest.MonkeyPatch) -> list[str]:
    """From now on there seems to be a GPU to training/, not to torch itself, which would look for its driver. Returns what
    networks compute on, of each convolution "cuda" or "cpu"."""
    used: list[str] = []
    to, convolve = nn.Module.to, nn.Conv2d._conv_forward  # pyright: ignore[reportPrivateUsage]
    move, make = cast(Any, Tensor.to), torch.tensor

    def module_to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        place = str(kwargs.pop("device", args[0] if args else "cpu"))
        for layer in self.modules():
            layer.__dict__["place"] = place.partition(":")[0]
        return self

    def module_cpu(self: nn.Module) -> nn.Module:
        return module_to(to(self, "cpu"), "cpu")

    def tensor_to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        here = ["cpu" if str(a).startswith("cuda") else a for a in args]
        return move(self, *here, **{key: "cpu" if str(value).startswith("cuda") else value for key, value in kwargs.items()})

    def tensor(*args: Any, **kwargs: Any) -> Tensor:
        kwargs.pop("device", None)
        return make(*args, **kwargs)

    def forward(self: nn.Conv2d, pixels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        place = self.__dict__.get("place", "cpu")
        used.append(place)
        if place == "cuda" and torch.backends.cudnn.allow_tf32:
            pixels, weight = rounded(pixels), rounded(weight)
        return convolve(self, pixels, weight, bias)

    def is_available() -> bool:
        return str(sys._getframe(1).f_globals["__name__"]).startswith("training")  # pyright: ignore[reportPrivateUsage]

    patch.setattr(torch.cuda, "is_available", is_available)
    patch.setattr(nn.Module, "to", module_to)
    patch.setattr(nn.Module, "cpu", module_cpu)
    patch.setattr(Tensor, "to", tensor_to)
    patch.setattr(torch, "tensor", tensor)
    patch.setattr(nn.Conv2d, "_conv_forward", forward)
    return used

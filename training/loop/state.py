"""What changes while a network is trained: its weights and what moves them. The sidecar holds the facts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.loop.checkpoint import Weights
from training.loop.device import Device
from training.loop.distributed import ALONE, Processes
from training.loop.optimizer import make_optimizer
from training.networks.classifier import Classifier
from training.networks.ema import Average
from training.recipe import Recipe

RUNNING = ("running_mean", "running_var")  # torch's names of the statistics of a norm


@dataclass(frozen=True)
class State:
    """parts: that of the model, perhaps compiled; the model itself is not, so its weights keep their names. hint: features to
    those of a teacher, a layer that no answer needs."""

    model: Classifier
    parts: Callable[[Tensor], tuple[list[tuple[float, Tensor]], Tensor]]
    optimizer: Optimizer
    scaler: torch.GradScaler
    average: Average | None
    hint: nn.Linear | None = None

    def learning(self) -> list[nn.Parameter]:
        """All that has gradients."""
        return [*self.model.parameters(), *(self.hint.parameters() if self.hint else ())]

    def answering(self) -> Classifier:
        """The network to evaluate and to keep: the average of the weights where there is one."""
        return self.average.model if self.average else self.model

    def statistics(self) -> list[Tensor]:
        """The running statistics of the norms, those that are averaged too."""
        networks = [self.model, self.average.model] if self.average else [self.model]
        return [value for network in networks for name, value in network.named_buffers() if name.endswith(RUNNING)]

    def content(self) -> dict[str, Any]:
        """All of it, to go on with: tensors that are not copied."""
        average = self.average.model.state_dict() if self.average else {}
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        hint = {"hint": self.hint.state_dict()} if self.hint else {}
        return {name: part.state_dict() for name, part in parts.items()} | {"average": average} | hint

    def restore(self, content: dict[str, Any]) -> None:
        """Become what ``content`` was taken of. Raises KeyError, ValueError or RuntimeError where it does not fit."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
        if self.average:
            self.average.model.load_state_dict(content["average"])
        if self.hint:
            self.hint.load_state_dict(content["hint"])


def begin(model: Classifier, recipe: Recipe, device: Device, processes: Processes = ALONE, hinted: int = 0) -> State:
    """The state of a run that has not begun; ``model`` is moved to the device. hinted: dimensions of a teacher's features that
    its own are to be like; 0 is none."""
    if processes.size > 1 and device.is_gpu:  # torch's layer knows no CPU
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(device.name, memory_format=layout(recipe))  # type: ignore[call-overload]
    forward = torch.compile(model.parts) if recipe.compile else model.parts
    average = Average(model, recipe.ema) if recipe.ema else None
    optimizer, hint = make_optimizer(model, recipe), None
    if hinted:
        hint = nn.Linear(model.head.in_features, hinted).to(device.name)
        optimizer.add_param_group({"params": list(hint.parameters()), "weight_decay": recipe.weight_decay, "rate_share": 1.0})
    return State(model, forward, optimizer, device.scaler(), average, hint)


def layout(recipe: Recipe) -> torch.memory_format:
    """Of images and kernels in memory."""
    return torch.channels_last if recipe.channels_last else torch.contiguous_format


def copied(weights: Weights) -> Weights:
    """``weights`` as they are now, on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}

"""Networks without a run: of shapes alone, and with random weights."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from models.image.spec import InputSpec
from training.networks import catalogue, pretrained
from training.networks.classifier import Classifier


def build_unfilled(architecture: str, classes: int) -> Classifier:
    """Shapes without memory, so that the big ones cost nothing."""
    with torch.device("meta"):
        return catalogue.build(architecture, classes)


def build_filled(architecture: str, classes: int) -> Classifier:
    """Small random weights and plausible statistics of batch norms, quicker than a real initialisation; eval mode."""
    torch.manual_seed(0)
    model = build_unfilled(architecture, classes).to_empty(device="cpu").eval()
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.zero_()
        elif value.ndim > 1:
            bound = (6 / value[0].numel()) ** 0.5  # He's, so that differences between images reach the logits
            value.uniform_(-bound, bound)
        elif name.endswith(("running_var", "weight")):
            value.uniform_(0.5, 1.5)
        else:
            value.uniform_(-0.1, 0.1)
    return model


def save(net: Any, folder: Path, name: str) -> Path:
    """Its weights as a file named in torchvision's way, with the beginning of its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.pth"
    torch.save(net.state_dict(), path)
    return path.rename(folder / f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")


def publish(monkeypatch: pytest.MonkeyPatch, path: Path, address: str = "https://127.0.0.1:9") -> None:
    """As if torchvision published the file of that name as IMAGENET1K_V1 of every architecture."""
    there = pretrained.Published(f"{address}/{path.name}", InputSpec(224, 224, 256))
    monkeypatch.setattr(pretrained, "published", lambda _: {"IMAGENET1K_V1": there})

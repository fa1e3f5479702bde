"""The shape that every network here has: a trunk of convolutions, a neck to a feature vector, a linear head."""

import torch
from torch import Tensor, nn


class MirrorAverage(nn.Module):
    """Mean of a trunk's feature maps for an image and for its mirror image, the latter mirrored back."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        n = images.shape[0]
        both = self.trunk(torch.cat([images, images.flip(3)]))
        return (both[:n] + both[n:].flip(3)) / 2


class Classifier(nn.Module):
    """trunk: (n, 3, h, w) -> feature map (n, channels, h', w'); neck: feature map -> features (n, dimensions);
    head: features -> logits (n, classes)."""

    def __init__(self, trunk: nn.Module, neck: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.head = head

    def mirrored(self) -> "Classifier":
        """The same weights, answering from each image and its mirror image together; twice the work."""
        return Classifier(MirrorAverage(self.trunk), self.neck, self.head)

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, features and feature map of normalised images (n, 3, h, w) float."""
        feature_map = self.trunk(images)
        features = self.neck(feature_map)
        return self.head(features), features, feature_map

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """What the training loss is made of: the logits with weight 1."""
        return [(1.0, self(images))]

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs(images)[0]

"""The shape that every network here has: a trunk of convolutions, a neck to a feature vector, a linear head."""

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.3  # of the loss of an auxiliary head (Szegedy et al. 2014, arXiv 1409.4842, section 5)


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
    head: features -> logits (n, classes).

    ends: where each stage of the trunk, then a nn.Sequential, ends: (3, 5) are the stages trunk[:3] and trunk[3:5].
    auxiliary: heads that help to train and answer nothing: output of the layer trunk[key] -> logits (n, classes).
    """

    def __init__(
        self,
        trunk: nn.Module,
        neck: nn.Module,
        head: nn.Linear,
        ends: tuple[int, ...] = (),
        auxiliary: Mapping[int, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.head = head
        self.ends = ends
        self.auxiliary = nn.ModuleDict({str(layer): extra for layer, extra in (auxiliary or {}).items()})

    def mirrored(self) -> "Classifier":
        """The same weights, answering from each image and its mirror image together; twice the work. Not for training."""
        return Classifier(MirrorAverage(self.trunk), self.neck, self.head)

    def stages(self) -> list[nn.Sequential]:
        """The trunk's stages, with its own layers: what one puts out, the next takes. None of a mirrored form."""
        return [cast(nn.Sequential, self.trunk)[begin:end] for begin, end in pairwise((0, *self.ends))]

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, features and feature map of normalised images (n, 3, h, w) float."""
        feature_map = self.trunk(images)
        features = self.neck(feature_map)
        return self.head(features), features, feature_map

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """What the training loss is made of: the logits with weight 1, then those of auxiliary heads, in training mode."""
        return self.parts(images)[0]

    def parts(self, images: Tensor) -> tuple[list[tuple[float, Tensor]], Tensor]:
        """``weighted_logits``, and the features."""
        if not (self.training and self.auxiliary):
            logits, features = self(images, with_features=True)
            return [(1.0, logits)], features
        found: list[tuple[float, Tensor]] = []
        x = images
        for name, layer in self.trunk.named_children():
            x = layer(x)
            if name in self.auxiliary and self.auxiliary[name].training:  # not one that is frozen
                found.append((AUXILIARY_WEIGHT, self.auxiliary[name](x)))
        features = self.neck(x)
        return [(1.0, self.head(features)), *found], features

    def forward(self, images: Tensor, with_features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """The logits alone, or with the features."""
        logits, features, _ = self.outputs(images)
        return (logits, features) if with_features else logits

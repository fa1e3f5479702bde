"""The shape that every network here has: a trunk of convolutions, a neck to a feature vector, a linear head."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """trunk: (n, 3, h, w) -> feature map (n, channels, h', w'); neck: feature map -> features (n, dimensions);
    head: features -> logits (n, classes)."""

    def __init__(self, trunk: nn.Module, neck: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.head = head

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, features and feature map of normalised images (n, 3, h, w) float."""
        feature_map = self.trunk(images)
        features = self.neck(feature_map)
        return self.head(features), features, feature_map

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs(images)[0]

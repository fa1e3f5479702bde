"""The neck of the networks whose features are means over the feature map (Lin et al. 2013, arXiv 1312.4400, section 3.2)."""

from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """(n, channels, h, w) -> (n, channels). As a module of its own because torch's adaptive pooling comes out of the
    export with a gather and shape arithmetic around it."""

    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.mean((2, 3))

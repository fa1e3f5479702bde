"""The first layer of the networks for grey images, so that their graphs take RGB pixels as all others do."""

from torch import Tensor, nn


class Grey(nn.Module):
    """(n, 3, h, w) -> (n, 1, h, w), the mean of the channels, which are equal in a grey image; no parameters."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(1, keepdim=True)

"""The filters of the first layer as pictures: what a network looks for in an image before anything else."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from training.networks.classifier import Classifier
from training.report import pictures

MOST = 64
SIDE = 28  # pixels at least, of a filter in the picture
COLUMNS = 8
GAP = 4
NOISE = 0.4  # correlation of neighbouring weights that noise has at most, in few and small filters


def show(model: Classifier, begun: Classifier | None = None) -> dict[str, Any]:
    """``shape`` (filters, channels, height, width), the picture of the first MOST filters and, with the network as it began,
    what is ``unlearnt`` of them; else ``left_out``, why."""
    weights = first_filters(model)
    if weights is None:
        return {"left_out": "the first layer takes neither a grey image nor one of red, green and blue"}
    tiles = np.stack([_tile(weight) for weight in weights[:MOST]])
    return {
        "shape": list(weights.shape),
        "shown": len(tiles),
        "unlearnt": None if begun is None else unlearnt(weights, first_filters(begun)),
        "picture": pictures.uri(pictures.grid(tiles, COLUMNS, GAP)),
    }


def first_filters(model: Classifier) -> NDArray[np.float32] | None:
    """Weights (filters, 1 or 3, height, width) of the first convolution, or of a first linear layer on a square grey
    image; None where the first layer is neither."""
    layers = [m for m in (*model.trunk.modules(), *model.neck.modules(), model.head) if isinstance(m, nn.Conv2d | nn.Linear)]
    weights: NDArray[np.float32] = layers[0].weight.detach().float().cpu().numpy()
    if weights.ndim == 2:
        side = round(weights.shape[1] ** 0.5)
        return weights.reshape(-1, 1, side, side) if side**2 == weights.shape[1] else None
    return weights if weights.shape[1] in (1, 3) else None


def unlearnt(weights: NDArray[np.float32], begun: NDArray[np.float32] | None) -> float | None:
    """The share of the filters' pattern, as variance, that is of the noise that they began with; None where that was no noise,
    or there is no pattern. What all pixels of a channel have in common is no pattern."""
    if begun is None or begun.shape != weights.shape or abs(_correlation(begun[..., 1:], begun[..., :-1])) > NOISE:
        return None
    share = _correlation(*(w - w.mean((2, 3), keepdims=True) for w in (weights, begun)))
    return round(share**2, 4) if np.isfinite(share) else None


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    with np.errstate(invalid="ignore"):
        return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def _tile(weight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(1 or 3, height, width) -> (h, w, 4): mid-grey is a weight of 0, the largest one of the filter full light or dark."""
    shades = 127.5 + 127.5 * weight / max(float(np.abs(weight).max()), 1e-12)
    pixels = np.broadcast_to(shades.round().astype(np.uint8).transpose(1, 2, 0), (*weight.shape[1:], 3))
    factor = -(-SIDE // max(weight.shape[1:]))
    opaque = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
    return opaque.repeat(factor, axis=0).repeat(factor, axis=1)

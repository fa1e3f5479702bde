"""The parts of images that excite each of a stage's first channels most: what the channel looks for.

After Zeiler and Fergus 2013 (arXiv 1311.2901, section 4): of each image its strongest place, of all images the strongest.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.dataset import ImageSet
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.report import network, pictures
from training.report.receptive import Field, fields

CHANNELS = 16
PATCHES = 9  # a channel
COLUMNS = 3
SIDE = 40  # pixels, of a patch in the picture
MOST_IMAGES, LEAST_IMAGES, SECONDS = 5000, 500, 20
BATCH = 100


def show(model: Classifier, checkpoint: Checkpoint, images: ImageSet) -> dict[str, Any]:
    """Of each stage the ``field`` (height and width in pixels that a place sees) and of each of its first CHANNELS the
    PATCHES strongest places: file, top, bottom, left, right, and one picture of all; or ``left_out``, why.

    As many images are looked at as SECONDS allow, evenly taken: LEAST_IMAGES at least, MOST_IMAGES at most.
    """
    stages = model.stages()
    if not stages:
        return {"left_out": "the network has no convolutions: each of its units looks at the whole image"}
    try:
        seen = fields(stages, *images.pixels.shape[1:3])
    except ValueError as err:
        return {"left_out": f"what a place of this network sees cannot be told: {err}"}
    looked_at, maxima, places = strongest_of_each(model, checkpoint, images)
    found = [
        {
            "field": list(field.size),
            "channels": [_channel(looked_at, field, maxima[s][:, c], places[s][:, c]) for c in range(maxima[s].shape[1])],
        }
        for s, field in enumerate(seen)
    ]
    return {"images": len(looked_at), "stages": found}


def strongest_of_each(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet
) -> tuple[ImageSet, list[NDArray[np.float32]], list[NDArray[np.int64]]]:
    """The images looked at, and of each stage the highest value (n, channels) with its place (n, channels, 2)."""
    order = np.random.default_rng(0).permutation(len(images))[:MOST_IMAGES]  # so that wherever it stops, all are mixed
    found: list[tuple[Sequence[NDArray[np.float32]], Sequence[NDArray[np.int64]]]] = []
    began, looked_at = time.monotonic(), 0
    with tqdm(total=len(order), desc="patches", unit=" images", leave=False) as bar:
        while looked_at < len(order) and (looked_at < LEAST_IMAGES or time.monotonic() - began < SECONDS):
            batch = images.pixels[np.sort(order[looked_at : looked_at + BATCH])]
            found.append(_strongest(model, checkpoint, batch))
            looked_at += len(batch)
            bar.update(len(batch))
    taken = np.concatenate([np.sort(order[i : i + BATCH]) for i in range(0, looked_at, BATCH)])
    maxima, places = ([np.concatenate(parts) for parts in zip(*(batch[kind] for batch in found), strict=True)] for kind in (0, 1))
    return images.subset(taken), maxima, places


def _strongest(
    model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int64]]]:
    maxima, places = list[NDArray[np.float32]](), list[NDArray[np.int64]]()
    for output in network.outputs(model, checkpoint, pixels):
        values, index = output[:, :CHANNELS].float().flatten(2).max(2)
        maxima.append(values.cpu().numpy())
        places.append(np.stack(np.divmod(index.cpu().numpy(), output.shape[3]), axis=2))
    return maxima, places


def _channel(images: ImageSet, field: Field, maxima: NDArray[np.float32], places: NDArray[np.int64]) -> dict[str, Any]:
    """maxima (n,) and places (n, 2) of a channel. No patches where no image excites it more than another."""
    if np.ptp(maxima) == 0:
        return {"patches": []}
    patches: list[dict[str, Any]] = []
    tiles: list[pictures.Pixels] = []
    for i in np.argsort(-maxima, kind="stable")[:PATCHES]:
        top, bottom, left, right = (int(edge) for edge in field.box(*places[i]))
        patches.append({"file": images.paths[i], "top": top, "bottom": bottom, "left": left, "right": right})
        tiles.append(pictures.fitted(images.pixels[int(i)][top:bottom, left:right], SIDE))
    small = max(field.size) <= pictures.LOSSLESS_UP_TO // 4
    return {"patches": patches, "picture": pictures.uri(pictures.grid(np.stack(tiles), COLUMNS), lossless=small)}

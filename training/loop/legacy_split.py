"""Runs of earlier versions, which did not note what they held out: it was drawn by the order of the images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data import crop, dataset
from training.data.dataset import ImageSet
from training.data.lineage import Past, past_of
from training.errors import CheckpointError, DataError
from training.loop.checkpoint import Checkpoint


def training_images(source: str | Path, checkpoint: Checkpoint) -> tuple[ImageSet, ImageSet]:
    """What was trained on and what was held out; raises CheckpointError when ``source`` has changed, for then it cannot be
    found again."""
    recipe = checkpoint.recipe
    sets = dataset.load_sets(source, recipe.input, checkpoint.classes)
    trained, held_out = sets.apart(_drawn(sets.pool.targets, recipe.validation_share, recipe.seed))
    if dataset.fingerprint(held_out) != checkpoint.data["validation_sha256"]:
        raise CheckpointError(
            f"{source} does not hold the validation images that this checkpoint was trained beside, or has changed since: an "
            "earlier version trained it and noted no more of them; bring the data back as they were, or train again"
        )
    return trained, held_out


def load(source: str | Path, checkpoint: Checkpoint, finer: float = 1.0) -> tuple[ImageSet, ImageSet]:
    """The images of a run that was begun, as ``crop.load``; raises CheckpointError too."""
    if not checkpoint.past:
        return training_images(source, checkpoint)
    return crop.load(source, checkpoint.recipe, checkpoint.past, finer)


def past(source: str | Path, checkpoint: Checkpoint) -> Past | None:
    """None where it cannot be found again."""
    try:
        trained, held_out = training_images(source, checkpoint)
    except (CheckpointError, DataError):
        return None
    return past_of(trained.identities, held_out.identities)


def _drawn(targets: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    order = np.random.default_rng(seed).permutation(len(targets))
    members = [order[targets[order] == c] for c in np.unique(targets)]
    return np.sort(np.concatenate([own[: min(max(1, round(share * len(own))), len(own) - 1)] for own in members]))

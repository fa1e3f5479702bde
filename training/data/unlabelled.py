"""Images that nobody has labelled, to learn from a teacher on: decoded as those to train on are, in no class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.image.spec import InputSpec
from training.data import decoded
from training.data.dataset import ImageSet
from training.data.near_duplicates import copies_of
from training.data.pixels import picked
from training.data.sources.catalogue import open_source
from training.data.sources.folder import list_images
from training.data.sources.source import Part
from training.errors import DataError

OF_NO_CLASS = -1  # target


class Unlabelled(NamedTuple):
    """known: how many more are among the images to train on; measured: copies and near copies of images that are measured on.
    Both are left out."""

    images: ImageSet
    known: int
    measured: int


def load(source: str, spec: InputSpec, training: ImageSet, measured: Sequence[ImageSet]) -> Unlabelled:
    """Decode every image below the folder ``source``, however its folders are called, or what another form of data gives to train
    on, whatever its labels. What is trained or measured on anyway is left out.

    Raises:
        DataError: there is none.
    """
    part = listed(source)
    found = decoded.decoded(part, spec)
    good = np.array([not why for why in found.reasons], np.bool_)
    skipped = tuple(f"{item.name}: {why}" for item, why in zip(part.items, found.reasons, strict=True) if why)
    known = good & np.isin(found.identities, training.identities)
    held = _held(found, measured) & good & ~known
    kept = np.flatnonzero(good & ~known & ~held)
    if not len(kept):
        raise DataError(f"unlabelled is {source}, which holds no image{_why(known, held, skipped)}: add images, or leave it out")
    images = ImageSet(
        picked(found.pixels, kept),
        np.full(len(kept), OF_NO_CLASS),
        training.classes,
        tuple(part.items[i].path for i in kept),
        (*part.left_out, *skipped),
        found.identities[kept],
        found.small[kept],
        ("",) * len(kept),
    )
    return Unlabelled(images, int(known.sum()), int(held.sum()))


def listed(source: str) -> Part:
    """The images to be had, not read yet."""
    folder = Path(source)
    part = list_images(folder) if folder.is_dir() else open_source(source).train
    return replace(part, items=tuple(replace(item, label="", group="") for item in part.items))


def _held(found: decoded.Decoded, measured: Sequence[ImageSet]) -> NDArray[np.bool_]:
    """Which are images that are measured on, or near copies of them."""
    same = np.isin(found.identities, np.concatenate([images.identities for images in measured]))
    same[list(copies_of(np.concatenate([images.small for images in measured]), found.small))] = True
    return same


def _why(known: NDArray[np.bool_], held: NDArray[np.bool_], skipped: Sequence[str]) -> str:
    counts = {"trained on anyway": int(known.sum()), "measured on": int(held.sum()), "not to be read": len(skipped)}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f" but {told}" if told else ""

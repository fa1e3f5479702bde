"""Sources -> arrays. Pixels come from models.preprocess, as in serving.

Neighbours: sources/ lists what there is, augmentation.py makes batches of it, train.py and evaluate.py read from here.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.answers import identity
from models.errors import ImageError
from models.input import InputSpec
from models.preprocess import preprocess
from training import shared
from training.errors import DataError
from training.sources.catalogue import open_source
from training.sources.folder import list_folder
from training.sources.source import Part, reason
from training.threads import in_threads


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, decoded.

    pixels: (n, height, width, 3) uint8, RGB.
    targets: (n,) int64, indices into ``classes``.
    paths: names of the images in their part, which can be printed.
    skipped: "path: reason" for each file that was left out.
    identities: (n,) uint64, models.answers.identity of each file; empty for images that were made.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    skipped: tuple[str, ...]
    identities: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: NDArray[np.int64]) -> "ImageSet":
        paths = tuple(self.paths[i] for i in indices)
        identities = self.identities[indices] if len(self.identities) else self.identities
        return ImageSet(self.pixels[indices], self.targets[indices], self.classes, paths, self.skipped, identities)


@shared.once
def load_training(source: str | Path, spec: InputSpec, validation_share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images of ``source``, which sources/catalogue.py opens.

    Where it gives no validation images, ``validation_share`` of each class is split off the training images with
    ``seed``, before those that the source has beside them are added. Test images are never decoded here.

    Raises:
        DataError: fewer than two classes, a class without one good image, or one that only the validation images have.
    """
    found = open_source(source)
    train = decode(found.train, spec)
    if found.validation is not None:
        train, validation = train, decode(found.validation, spec, train.classes)
    else:
        train, validation = split(train, validation_share, seed)
    return (train if found.more is None else joined(train, decode(found.more, spec, train.classes))), validation


def joined(images: ImageSet, more: ImageSet) -> ImageSet:
    """Both, of the same classes."""
    pixels, targets = np.concatenate([images.pixels, more.pixels]), np.concatenate([images.targets, more.targets])
    return ImageSet(pixels, targets, images.classes, images.paths + more.paths, images.skipped + more.skipped)


@shared.once
def load_test(source: str | Path, spec: InputSpec, classes: tuple[str, ...]) -> ImageSet | None:
    """Test images of ``source`` where it gives some; raises DataError as ``decode``."""
    part = open_source(source).test
    return None if part is None else decode(part, spec, classes)


def load_folder(folder: Path, spec: InputSpec, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Every image below the class folders of ``folder``, in a fixed order; raises DataError as ``decode``."""
    return decode(list_folder(folder), spec, classes)


def decode(part: Part, spec: InputSpec, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Decode the images of a part; one that cannot be decoded is left out and named in ``skipped``.

    Raises:
        DataError: fewer than two classes, a class that is not in ``classes``, a class without one good image, or more
            pixels than the memory of this machine.
    """
    check_classes(part, classes)
    classes = classes or part.classes
    pixels, identities = _room_for(part, spec), np.empty(len(part.items), np.uint64)

    def read(i: int) -> str | None:
        try:
            file = part.items[i].read()
            pixels[i], identities[i] = preprocess(file, spec), identity(file)
        except (ImageError, OSError) as err:
            return reason(err)
        return None

    reasons = list(in_threads(read, len(part.items), f"decode {part.place}"))
    kept = [i for i, why in enumerate(reasons) if why is None]
    skipped = [f"{item.name}: {why}" for item, why in zip(part.items, reasons, strict=True) if why is not None]
    if empty := [name for name in part.classes if name not in {part.items[i].label for i in kept}]:
        raise DataError(f"no usable image of the class {', '.join(empty)} in {part.place}; add images or remove the class")
    number = {name: i for i, name in enumerate(classes)}
    targets = np.array([number[part.items[i].label] for i in kept], np.int64)
    paths = tuple(part.items[i].path for i in kept)
    pixels = pixels if len(kept) == len(reasons) else pixels[kept]
    return ImageSet(pixels, targets, classes, paths, (*part.left_out, *skipped), identities[kept])


def check_classes(part: Part, known: tuple[str, ...] | None) -> None:
    """Raises DataError when there are fewer than two classes to train on, or one that is not among the known ones."""
    if len(part.classes) < (1 if known else 2):
        raise DataError(
            f"{part.place} holds {len(part.classes)} classes, a classifier needs at least 2; in a folder, the images of "
            f"each class lie in a folder of their own, such as {part.place}/cat and {part.place}/dog"
        )
    if unknown := sorted(set(part.classes) - set(known or part.classes)):
        raise DataError(f"{part.place} holds classes that the network does not know: {', '.join(unknown)}")


def _room_for(part: Part, spec: InputSpec) -> NDArray[np.uint8]:
    """(items, height, width, 3); raises DataError where that is more than the machine's memory."""
    needed = len(part.items) * spec.height * spec.width * 3
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise DataError(
            f"the {len(part.items)} images of {part.place} take {needed / 2**30:.1f} GiB at {spec.height}x{spec.width} pixels, "
            f"this machine has {memory / 2**30:.1f} GiB; lower input.height and input.width, or take fewer images"
        )
    return np.empty((len(part.items), spec.height, spec.width, 3), np.uint8)


def split(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split ``share`` of each class off, one image at least and not all; raises DataError when a class has only one."""
    validation = held_out(images.targets, images.classes, share, seed)
    training = np.setdiff1d(np.arange(len(images)), validation)
    return images.subset(training), images.subset(validation)


def held_out(targets: NDArray[np.int64], classes: tuple[str, ...], share: float, seed: int) -> NDArray[np.int64]:
    """Indices of the images to validate on, ascending: ``share`` of each class, as ``split``."""
    order = np.random.default_rng(seed).permutation(len(targets))
    held: list[NDArray[np.int64]] = []
    for c, name in enumerate(classes):
        members = order[targets[order] == c]
        if len(members) < 2:
            raise DataError(f"class {name} has {len(members)} usable image; at least 2 are needed, 1 of them to validate")
        held.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    return np.sort(np.concatenate(held))


def fingerprint(images: ImageSet) -> str:
    """SHA-256 over classes, paths, targets and pixels: the same images in the same order give the same value."""
    digest = hashlib.sha256("\n".join((*images.classes, "", *images.paths)).encode())
    digest.update(images.targets.tobytes())
    digest.update(np.ascontiguousarray(images.pixels).data)
    return digest.hexdigest()


def channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (1 at least, to divide by) of each channel, in units of the 0 to 255 scale."""
    sample = images.pixels[:: max(1, len(images) // 5000)]
    values = np.arange(256)
    counts = [np.bincount(sample[..., channel].ravel(), minlength=256) for channel in range(3)]
    mean = np.array([np.average(values, weights=count) for count in counts])
    variance = np.array([np.average((values - m) ** 2, weights=count) for m, count in zip(mean, counts, strict=True)])
    return mean.round(2).tolist(), np.sqrt(variance).clip(1).round(2).tolist()

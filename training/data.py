"""Image folders -> arrays. Pixels come from models.preprocess, as in serving.

Neighbours: augmentation.py makes batches of them, train.py and evaluate.py read from here.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.header import ImageError
from models.input import InputSpec
from models.preprocess import preprocess
from training.errors import DataError

VALIDATION_FOLDERS = ("val", "valid", "validation")


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, decoded.

    pixels: (n, height, width, 3) uint8, RGB.
    targets: (n,) int64, indices into ``classes``.
    skipped: "path: reason" for each file that was left out.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    skipped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: NDArray[np.int64]) -> "ImageSet":
        paths = tuple(self.paths[i] for i in indices)
        return ImageSet(self.pixels[indices], self.targets[indices], self.classes, paths, self.skipped)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the class folders of ``folder``, sorted; raises DataError when there are fewer than two."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder that holds one folder of images for each class")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"{folder} holds {len(names)} class folders, a classifier needs at least 2: put the images of each class "
            f"into a folder of its own, such as {folder}/cat and {folder}/dog"
        )
    return tuple(names)


def load_folder(folder: Path, spec: InputSpec, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Decode every image below the class folders of ``folder``, in a fixed order.

    A file that cannot be decoded is left out and named in ``skipped``; hidden files and folders are passed over.

    Raises:
        DataError: fewer than two classes, a class that is not in ``classes``, or a class without one good image.
    """
    found = class_folders(folder)
    unknown = sorted(set(found) - set(classes or found))
    if unknown:
        raise DataError(f"{folder} holds classes that the network does not know: {', '.join(unknown)}")
    classes = classes or found
    files = [
        (path, classes.index(name))
        for name in found
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return _decode_all(files, spec, classes, folder)


def _decode_all(files: list[tuple[Path, int]], spec: InputSpec, classes: tuple[str, ...], folder: Path) -> ImageSet:
    pixels = np.empty((len(files), spec.height, spec.width, 3), np.uint8)
    kept: list[int] = []
    skipped: list[str] = []

    def decode(i: int) -> str | None:
        try:
            pixels[i] = preprocess(files[i][0].read_bytes(), spec)
        except (ImageError, OSError) as err:
            return f"{files[i][0]}: {err}"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(pool.map(decode, range(len(files))), f"decode {folder}", len(files), unit=" images", leave=False)
        for i, reason in enumerate(bar):
            if reason is None:
                kept.append(i)
            else:
                skipped.append(reason)
    targets = np.array([files[i][1] for i in kept], np.int64)
    empty = sorted({classes[c] for _, c in files} - {classes[c] for c in targets})
    empty += [name for name in class_folders(folder) if name not in {classes[c] for _, c in files}]
    if empty:
        raise DataError(f"no usable image in {', '.join(str(folder / name) for name in empty)}; add images or remove the folder")
    paths = tuple(files[i][0].relative_to(folder).as_posix() for i in kept)
    return ImageSet(pixels if len(kept) == len(files) else pixels[kept], targets, classes, paths, tuple(skipped))


def load_training(data: Path, spec: InputSpec, validation_share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images of ``data``.

    ``data`` is a folder of class folders, or holds one as ``train``. Validation images come from ``val``, ``valid``
    or ``validation`` beside ``train``, else ``validation_share`` of each class is split off the training images
    with ``seed``. A ``test`` folder is never read here.
    """
    root = data / "train" if (data / "train").is_dir() else data
    train = load_folder(root, spec)
    beside = [data / name for name in VALIDATION_FOLDERS if root != data and (data / name).is_dir()]
    if beside:
        return train, load_folder(beside[0], spec, train.classes)
    return split(train, validation_share, seed)


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

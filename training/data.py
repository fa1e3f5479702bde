"""Image folders -> arrays -> augmented batches. Pixels come from models.preprocess, as in serving.

Neighbours: train.py and evaluate.py read from here.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
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
    order = np.random.default_rng(seed).permutation(len(images))
    held: list[NDArray[np.int64]] = []
    for c, name in enumerate(images.classes):
        members = order[images.targets[order] == c]
        if len(members) < 2:
            raise DataError(f"class {name} has {len(members)} usable image; at least 2 are needed, 1 of them to validate")
        held.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    validation = np.sort(np.concatenate(held))
    training = np.setdiff1d(np.arange(len(images)), validation)
    return images.subset(training), images.subset(validation)


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


def batches(
    images: ImageSet, size: int, generator: torch.Generator, crop_padding: int, flip: bool, cutout: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of shuffled, augmented batches: images (size, height, width, 3) uint8, targets (size,) int64.

    The generator alone decides order and augmentation. The last, smaller batch is dropped when there are others.
    """
    order = torch.randperm(len(images), generator=generator)
    stop = max(len(order) - size + 1, 1)
    for start in range(0, stop, size):
        index = order[start : start + size].numpy()
        batch = torch.from_numpy(images.pixels[index])
        yield augment(batch, generator, crop_padding, flip, cutout), torch.from_numpy(images.targets[index])


def augment(images: torch.Tensor, generator: torch.Generator, crop_padding: int, flip: bool, cutout: int) -> torch.Tensor:
    """Random shift by up to ``crop_padding`` pixels (edges mirrored), random mirror image, and a square of ``cutout``
    pixels painted mid-grey. images: (n, height, width, 3) uint8; the same comes back."""
    n, height, width, _ = images.shape
    rows = torch.arange(height).expand(n, height)
    columns = torch.arange(width).expand(n, width)
    if crop_padding:
        shift = torch.randint(-crop_padding, crop_padding + 1, (2, n, 1), generator=generator)
        rows, columns = _mirror(rows + shift[0], height), _mirror(columns + shift[1], width)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    images = images[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if cutout:
        top = torch.randint(1 - cutout, height, (n, 1), generator=generator)
        left = torch.randint(1 - cutout, width, (n, 1), generator=generator)
        row, column = torch.arange(height), torch.arange(width)
        inside_rows = (row >= top) & (row < top + cutout)
        inside_columns = (column >= left) & (column < left + cutout)
        images[inside_rows[:, :, None] & inside_columns[:, None, :]] = 127
    return images


def cutmix(
    images: torch.Tensor, targets: torch.Tensor, classes: int, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste a random box of the next image of the batch into ``share`` of the images, and mix the targets by area
    (Yun et al. 2019, arXiv 1905.04899, with alpha 1).

    images: (n, height, width, 3) uint8; targets: (n,) int64. Back come images and targets (n, classes) float32.
    """
    n, height, width, _ = images.shape
    mixed = torch.nn.functional.one_hot(targets, classes).float()
    if not share:
        return images, mixed
    side = (torch.rand(n, 1, generator=generator) * (torch.rand(n, 1, generator=generator) < share)).sqrt()
    centre = torch.rand(2, n, 1, generator=generator)
    inside = [
        (torch.arange(length) >= (c - side / 2) * length) & (torch.arange(length) < (c + side / 2) * length)
        for c, length in zip(centre, (height, width), strict=True)
    ]
    box = inside[0][:, :, None] & inside[1][:, None, :]  # (n, height, width)
    area = box.float().mean(dim=(1, 2))[:, None]
    images = torch.where(box[..., None], images.roll(1, 0), images)
    return images, mixed * (1 - area) + mixed.roll(1, 0) * area


def _mirror(index: torch.Tensor, length: int) -> torch.Tensor:
    """Fold indices outside 0 to length - 1 back inside, without repeating the edge."""
    index = index.abs()
    return torch.where(index >= length, 2 * (length - 1) - index, index).clamp(0, length - 1)

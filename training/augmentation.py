"""Arrays of images -> shuffled, augmented batches. The generator alone decides order and augmentation.

Neighbours: data.py holds the images, train.py asks for an epoch.
"""

from collections.abc import Iterator

import torch

from training.data import ImageSet


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

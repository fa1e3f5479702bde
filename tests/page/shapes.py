"""A drawn data set for the pictures of a report: six shapes that are alike in pairs, turned, in any colours, and noisy."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE, FINER = 32, 4  # pixels; drawn larger and made smaller
CORNERS = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "star": 10, "circle": 48}
NOISE = 12  # of 255


def draw(name: str, random: np.random.Generator) -> Image.Image:
    dark, bright = (tuple(random.integers(low, low + 110, 3).tolist()) for low in (10, 130))
    ground, colour = (dark, bright) if random.random() < 0.5 else (bright, dark)
    image = Image.new("RGB", (SIDE * FINER, SIDE * FINER), ground)
    n, turn, radius = CORNERS[name], random.uniform(0, 2 * np.pi), random.uniform(7, 12) * FINER
    centre = (SIDE / 2 + random.uniform(-3, 3, 2)) * FINER
    radii = radius * (np.where(np.arange(n) % 2, 0.5, 1) if name == "star" else np.ones(n))
    angles = turn + 2 * np.pi * np.arange(n) / n
    points = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=1)
    ImageDraw.Draw(image).polygon([tuple(point) for point in points.tolist()], fill=colour)
    small = image.filter(ImageFilter.GaussianBlur(FINER / 2)).resize((SIDE, SIDE), Image.Resampling.BOX)
    noisy = np.asarray(small) + random.normal(0, NOISE, (SIDE, SIDE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def make(folder: Path, train: int = 100, test: int = 50) -> None:
    """``train`` and ``test`` images of each shape, the same each time."""
    random = np.random.default_rng(0)
    for split, each in (("train", train), ("test", test)):
        for name in CORNERS:
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(each):
                draw(name, random).save(place / f"{i:03d}.png")

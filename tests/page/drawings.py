"""python -m tests.page.drawings: draws the sample pictures of the page into service/web, the same each time.

Each is a thing that the bundled model ``imagenet`` knows, made of fields of distance, so that edges and shades are smooth.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.http.page import WEB

WIDTH, HEIGHT, FINER = 480, 360, 2  # pixels; drawn larger and made smaller
Field = NDArray[np.float64]
Colour = tuple[int, int, int]


class Canvas:
    """Colours from 0 to 255; x and y in pixels of the finished picture."""

    def __init__(self, seed: int) -> None:
        self.y, self.x = np.mgrid[0 : HEIGHT * FINER, 0 : WIDTH * FINER] / FINER + 0.5 / FINER
        self.pixels = np.zeros((*self.x.shape, 3))
        self.random = np.random.default_rng(seed)

    def fill(self, distance: Field, colour: "Colour | Field", soft: float = 0.7, strength: float = 1.0) -> None:
        """Put a colour where a distance is below zero, with an edge that is so many pixels soft."""
        cover = strength * np.clip(0.5 - distance / (2 * soft), 0, 1)[..., None]
        self.pixels = (1 - cover) * self.pixels + cover * np.asarray(colour, float)

    def fade(self, share: Field, one: Colour, other: Colour) -> Field:
        """A colour that goes over into another."""
        part = np.clip(share, 0, 1)[..., None]
        return (1 - part) * np.array(one, float) + part * np.array(other, float)

    def noise(self, cells: int) -> Field:
        """Smooth, from -1 to 1."""
        small = Image.fromarray((255 * self.random.random((cells * 3 // 4 + 1, cells))).astype(np.uint8))
        wide, high = self.x.shape[1], self.x.shape[0]
        return np.asarray(small.resize((wide, high), Image.Resampling.BICUBIC), float) / 127.5 - 1

    def circle(self, x: float, y: float, radius: float) -> Field:
        return np.hypot(self.x - x, self.y - y) - radius

    def box(self, left: float, top: float, right: float, bottom: float, round: float = 0.0) -> Field:
        dx = np.abs(self.x - (left + right) / 2) - (right - left) / 2 + round
        dy = np.abs(self.y - (top + bottom) / 2) - (bottom - top) / 2 + round
        return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - round

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float) -> Field:
        along = ((self.x - x0) * (x1 - x0) + (self.y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        part = np.clip(along, 0, 1)
        return np.hypot(self.x - x0 - part * (x1 - x0), self.y - y0 - part * (y1 - y0)) - width / 2

    def save(self, path: Path, quality: int = 82) -> None:
        shown = np.clip(self.pixels + self.random.normal(0, 3, self.pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(shown).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path, quality=quality, optimize=True)


def sky(canvas: Canvas, top: Colour = (74, 136, 205), bottom: Colour = (196, 224, 242)) -> None:
    canvas.pixels = canvas.fade(canvas.y / HEIGHT, top, bottom)
    clouds = canvas.noise(7) + 0.5 * canvas.noise(15) + 0.25 * canvas.noise(31)
    canvas.fill(0.35 - clouds, (246, 249, 252), soft=0.5, strength=0.75)


def balloon() -> Canvas:
    """A hot-air balloon over hills."""
    canvas = Canvas(1)
    sky(canvas)
    for height, wave, colour in ((300, 34, (120, 150, 128)), (322, 24, (92, 132, 84)), (340, 12, (70, 112, 58))):
        hills = height + wave * np.sin(canvas.x / 70 + height) * 0.5
        canvas.fill(hills - canvas.y, canvas.fade((canvas.y - height) / 60, colour, (44, 78, 40)))
    x, y, radius = 235.0, 130.0, 100.0
    dx, dy = (canvas.x - x) / radius, (canvas.y - y) / radius
    narrow = np.where(dy > 0, np.sqrt(np.clip(1 - 0.62 * np.clip(dy / 1.32, 0, 1) ** 1.3, 0.05, 1)), 1)
    skin = np.where(dy > 0, np.hypot(dx / narrow, dy / 1.32), np.hypot(dx, dy)) - 1
    skin = np.maximum(skin, dy - 1.18)
    across = np.arcsin(np.clip(dx / narrow / np.sqrt(np.clip(1 - (dy / 1.34) ** 2, 0.02, 1)), -1, 1)) / np.pi + 0.5
    gores = np.floor(across * 9).astype(int)
    stripes = np.array([(214, 52, 44), (246, 196, 52), (40, 96, 178)], float)[gores % 3]
    light = np.clip(0.55 + 0.6 * (-0.55 * dx - 0.35 * dy + 0.55 * np.sqrt(np.clip(1 - dx**2 - dy**2 / 1.8, 0, 1))), 0.35, 1.12)
    seam = np.abs(across * 9 - np.round(across * 9)) < 0.035
    canvas.fill(skin * radius, stripes * (light * np.where(seam, 0.8, 1))[..., None])
    for side in (-1, 1):
        canvas.fill(canvas.line(x + 33 * side, y + 112, x + 15 * side, y + 158, 1.6), (60, 44, 32))
    basket = canvas.fade((canvas.x - x + 18) / 36, (166, 112, 60), (104, 66, 34))
    weave = 1 - 0.18 * ((np.floor(canvas.x / 3) + np.floor(canvas.y / 3)) % 2)
    canvas.fill(canvas.box(x - 18, y + 156, x + 18, y + 182, 4), basket * weave[..., None])
    canvas.fill(canvas.box(x - 20, y + 154, x + 20, y + 160, 3), (88, 54, 28))
    return canvas


def clock() -> Canvas:
    """A clock on a wall."""
    canvas = Canvas(2)
    wall = 1 + 0.03 * canvas.noise(60) + 0.05 * canvas.noise(5)
    canvas.pixels = canvas.fade(canvas.x / WIDTH, (216, 200, 172), (188, 168, 138)) * wall[..., None]
    x, y = 240.0, 178.0
    canvas.fill(canvas.circle(x + 10, y + 14, 142), (96, 80, 60), soft=14, strength=0.55)
    turn = np.arctan2(canvas.y - y, canvas.x - x)
    rim = canvas.fade(0.5 + 0.5 * np.cos(turn + 2.3), (58, 34, 20), (168, 108, 62))
    canvas.fill(canvas.circle(x, y, 144), rim)
    canvas.fill(canvas.circle(x, y, 124), (70, 42, 24), soft=2)
    canvas.fill(canvas.circle(x, y, 121), canvas.fade((canvas.y - y + 121) / 242, (252, 250, 242), (232, 227, 212)))
    for minute in range(60):
        angle = np.pi * minute / 30
        inner, width = (100, 4.5) if minute % 5 == 0 else (108, 1.6)
        ends = [(x + r * np.sin(angle), y - r * np.cos(angle)) for r in (inner, 114)]
        canvas.fill(canvas.line(*ends[0], *ends[1], width), (28, 26, 26))
    for angle, length, width in ((304.0, 62, 8.0), (54.0, 92, 5.5)):
        radians = np.radians(angle)
        tip, tail = (length, -16)
        ends = [(x + r * np.sin(radians), y - r * np.cos(radians)) for r in (tail, tip)]
        canvas.fill(canvas.line(ends[0][0] + 3, ends[0][1] + 4, ends[1][0] + 3, ends[1][1] + 4, width), (120, 112, 100), 3, 0.4)
        canvas.fill(canvas.line(*ends[0], *ends[1], width), (20, 19, 20))
    canvas.fill(canvas.circle(x, y, 8), (20, 19, 20))
    shine = np.maximum(canvas.circle(x, y, 121), -canvas.circle(x + 40, y + 60, 150))
    canvas.fill(shine, (255, 255, 255), 6, 0.28)
    return canvas


def traffic_light() -> Canvas:
    """A traffic light, red, against the sky."""
    canvas = Canvas(3)
    sky(canvas, (92, 140, 196), (206, 224, 236))
    canvas.fill(canvas.box(228, 300, 252, 400), canvas.fade((canvas.x - 228) / 24, (116, 120, 124), (58, 62, 66)))
    canvas.fill(canvas.box(166, 16, 314, 318, 22), canvas.fade((canvas.x - 166) / 148, (54, 58, 54), (22, 24, 24)))
    canvas.fill(canvas.box(176, 26, 304, 308, 16), canvas.fade((canvas.x - 176) / 128, (40, 44, 42), (26, 28, 28)))
    lamps = ((72, (255, 62, 40), 1.0), (167, (120, 92, 20), 0.0), (262, (16, 84, 52), 0.0))
    for y, colour, lit in lamps:
        canvas.fill(canvas.circle(240, y, 45), (10, 11, 11), 1.5)
        away = np.hypot(canvas.x - 232, canvas.y - y + 10) / 44
        bright = tuple(min(255, round(c + 110 * lit + 24)) for c in colour)
        grid = 1 + 0.08 * np.sin(canvas.x * 1.1) * np.sin(canvas.y * 1.1)
        canvas.fill(canvas.circle(240, y, 39), canvas.fade(away, bright, colour) * grid[..., None])  # type: ignore[arg-type]
        visor = np.maximum(canvas.circle(240, y, 47), np.maximum(-canvas.circle(240, y + 12, 47), canvas.y - y + 4))
        canvas.fill(visor, (14, 15, 15), 1)
    glow = np.maximum(canvas.circle(240, 72, 60), canvas.box(166, 16, 314, 318, 22))
    canvas.fill(glow, (255, 80, 50), 14, 0.16)
    return canvas


def main() -> None:
    for name, draw in (("balloon", balloon), ("clock", clock), ("traffic-light", traffic_light)):
        draw().save(WEB / f"{name}.jpg")


if __name__ == "__main__":
    main()

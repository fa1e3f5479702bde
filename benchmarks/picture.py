"""Latency against offered load as a picture: two panels, p50 and p99, one line a system, its name at its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.results import Results

MODEL = "resnet50"
WIDTH, PANEL, GAP = 800, 300, 62
LEFT, RIGHT, TOP = 70, 196, 64
# Okabe and Ito's colours, which the colour-blind tell apart; yellow left out, it is too pale for a line.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
INK, FAINT = "#333333", "#dddddd"


@dataclass(frozen=True)
class Curve:
    """One system: (images a second offered, p50, p99 in milliseconds), by load."""

    title: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Axes:
    """Where values stand: x from 0 to ``most``, y from ``low`` to ``high``, logarithmic, in a panel that begins at ``top``."""

    most: float
    low: float
    high: float
    top: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self.most

    def y(self, value: float) -> float:
        return self.top + PANEL * (1 - math.log(value / self.low) / math.log(self.high / self.low))


def curves_of(results: Results) -> list[Curve]:
    """The systems that were asked at several loads."""
    curves: list[Curve] = []
    for record in results.of(MODEL):
        seen = [load.seen for load in sorted(record.loads, key=lambda load: load.share)]
        points = [(one.planned, one.answers["200"].p50_ms, one.answers["200"].p99_ms) for one in seen if "200" in one.answers]
        if len(points) > 2:
            curves.append(Curve(record.title, points))
    return curves


def draw(curves: Sequence[Curve]) -> str:
    """An SVG file."""
    most = ceiling(max(x for curve in curves for x, _, _ in curve.points) * 1.02)
    parts = [text(LEFT - 46, 26, f"Latency of one image against offered load, {MODEL}", 17, weight="bold")]
    for number, name in ((1, "half of the requests are answered within (p50)"), (2, "99 % are answered within (p99)")):
        values = [point[number] for curve in curves for point in curve.points]
        top = TOP + (number - 1) * (PANEL + GAP)
        axes = Axes(most, floor_of(min(values)), ceiling(max(values)), top)
        parts += [*grid(axes, name), *lines(axes, curves, number)]
    bottom = TOP + 2 * PANEL + GAP
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, "offered load, images a second (random arrivals)", 14, "middle"))
    height = bottom + 58
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'{head} font-family="Helvetica, Arial, sans-serif">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def grid(axes: Axes, name: str) -> list[str]:
    """Lines and figures behind the curves."""
    right, bottom = axes.x(axes.most), axes.top + PANEL
    parts = [text(LEFT - 46, axes.top - 12, f"{name}, milliseconds", 14)]
    for value in ticks(axes.low, axes.high):
        y = axes.y(value)
        parts += [line(LEFT, y, right, y, FAINT), text(LEFT - 8, y + 4.5, f"{value:,g}", 13, "end")]
    step = axes.most / 5
    for i in range(6):
        x = axes.x(i * step)
        parts += [line(x, bottom, x, bottom + 5, INK), text(x, bottom + 20, f"{i * step:,g}", 13, "middle")]
    return [*parts, line(LEFT, bottom, right, bottom, INK)]


def lines(axes: Axes, curves: Sequence[Curve], number: int) -> list[str]:
    """The curves, and their names to the right, as high as their ends as far as they do not overlap."""
    ends = [(axes.y(curve.points[-1][number]), i) for i, curve in enumerate(curves)]
    places = dict(zip([i for _, i in sorted(ends)], apart([y for y, _ in sorted(ends)], 18, axes.top + PANEL), strict=True))
    parts: list[str] = []
    for i, curve in enumerate(curves):
        colour, points = COLOURS[i % len(COLOURS)], [(axes.x(point[0]), axes.y(point[number])) for point in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        width = 3 if i == 0 else 1.8
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 0.7}" fill="{colour}"/>' for x, y in points]
        (x, y), at = points[-1], axes.x(axes.most) + 14
        parts.append(
            f'<path d="M{x + 5:.1f} {y:.1f} L{at - 3:.1f} {places[i]:.1f}" stroke="{colour}" stroke-width="0.8" opacity="0.6"/>'
        )
        parts.append(text(at, places[i] + 4.5, curve.title, 13.5, colour=colour, weight="bold" if i == 0 else "normal"))
    return parts


def apart(places: Sequence[float], distance: float, bottom: float) -> list[float]:
    """Sorted places moved so that neighbours are at least so far apart and none is below the bottom."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance) if moved else place)
    limit = bottom
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - distance
    return moved


def ceiling(value: float) -> float:
    """The next of 1, 2, 3, 5 times a power of ten that is not less."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 5, 10) if step * power >= value * 0.999999)


def floor_of(value: float) -> float:
    """The next such number that is not more."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (5, 3, 2, 1) if step * power <= value * 1.000001)


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from low to high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{step * 10.0**power:.6g}") for power in powers for step in (1, 2, 5)]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="{colour}"/>'


def text(x: float, y: float, words: str, size: float, anchor: str = "start", colour: str = INK, weight: str = "normal") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'

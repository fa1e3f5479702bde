"""Latency against offered load as a picture: two panels, p50 and p99, one line a system, its name at its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile

from benchmarks.poisson import Seen
from benchmarks.results import Results

MODEL = "resnet50"
WIDTH, PANEL, GAP = 800, 300, 62
LEFT, RIGHT, TOP = 70, 208, 64
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
    """The systems that were asked at several loads, as far as they answered."""
    curves: list[Curve] = []
    for record in results.of(MODEL):
        seen = [load.seen for load in sorted(record.loads, key=lambda load: load.share)]
        points = [(one.planned, one.answers["200"].p50_ms, one.answers["200"].p99_ms) for one in takewhile(answered, seen)]
        if len(points) > 2:
            curves.append(Curve(record.title, points))
    return curves


def answered(seen: Seen) -> bool:
    """Whether all but one request in a hundred was: a server that refuses is not fast."""
    return "200" in seen.answers and seen.answers["200"].count >= 0.99 * (seen.sent + seen.unsent)


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
    """The curves, the first one bold and on top, and their names to the right, about as high as their ends."""
    ends = sorted((axes.y(curve.points[-1][number]), i) for i, curve in enumerate(curves))
    places = apart([y for y, _ in ends], 18, axes.top + PANEL)
    parts: list[str] = []
    for (_, i), place in sorted(zip(ends, places, strict=True), key=lambda pair: -pair[0][1]):
        points = [(axes.x(point[0]), axes.y(point[number])) for point in curves[i].points]
        parts += [*trace(points, COLOURS[i % len(COLOURS)], 3 if i == 0 else 1.8), *name(axes, curves[i], points[-1], place, i)]
    return parts


def trace(points: Sequence[tuple[float, float]], colour: str, width: float) -> list[str]:
    """One curve with a dot at each load that was measured."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    curve = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'
    return [curve, *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 0.7}" fill="{colour}"/>' for x, y in points)]


def name(axes: Axes, curve: Curve, end: tuple[float, float], place: float, number: int) -> list[str]:
    """A curve's name and a thin line from its end to there."""
    colour, at = COLOURS[number % len(COLOURS)], axes.x(axes.most) + 12
    path = f"M{end[0] + 5:.1f} {end[1]:.1f} L{at - 4:.1f} {place:.1f} H{at + 2:.1f}"
    thin = f'<path d="{path}" stroke="{colour}" stroke-width="1" fill="none" opacity="0.7"/>'
    dot = f'<circle cx="{at + 4:.1f}" cy="{place:.1f}" r="4" fill="{colour}"/>'
    return [thin, dot, text(at + 12, place + 4.5, curve.title, 13, weight="bold" if number == 0 else "normal")]


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
    """The next of 1, 2, 5 times a power of ten that is not less."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999999)


def floor_of(value: float) -> float:
    """The next such number that is not more."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (5, 2, 1) if step * power <= value * 1.000001)


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

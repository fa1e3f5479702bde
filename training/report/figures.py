"""Data -> drawings in SVG for the page: curves of the training, calibration, coverage, robustness.

They take the colours of the page around them, so that they can be read on a light page, on a dark one and on paper, and are told
in words to who cannot see them. No word of the user's is drawn: labels stand in the page alone.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from models.package import statistics

# Stand-ins, which become colours of training/style.css: the one that matters, and what it is beside. By lightness alone they are
# told apart too.
INK, ACCENT, BAR = "#010203", "#040506", "#070809"
OF_THE_PAGE = {INK: "currentColor", ACCENT: "var(--accent)", BAR: "var(--bar)"}
SIZE = (4.4, 2.8)  # inches, which a telephone shows with its words nearly as large as those around it
FEW, PALE = 10, 0.35  # answers of a bin, below which it says little, and how its bar shows that
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # words stay words
    "svg.hashsalt": "report",  # the same data give the same file
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


class Drawing:
    """A figure that is being drawn; ``svg`` is there when it is done."""

    svg: str

    def __init__(self, heights: Sequence[float]) -> None:
        self.figure = Figure(figsize=SIZE, layout="constrained")
        self.axes: list[Axes] = list(
            self.figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        )


@contextmanager
def drawing(told: str, *heights: float) -> Generator[Drawing]:
    """``told``: what it shows, for who cannot see it. Axes one below the other, 1 unless ``heights`` gives their proportions."""
    with mpl.rc_context(STYLE):
        new = Drawing(heights or (1,))
        yield new
        new.svg = _svg(new.figure, told)


def _svg(figure: Figure, told: str) -> str:
    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"font: (\d+px) [^;\"]*", r"font: \1 sans-serif", svg)
    svg = re.sub(r' width="[^"]*pt" height="[^"]*pt"|<metadata>.*?</metadata>', "", svg, flags=re.S)
    for colour, name in OF_THE_PAGE.items():
        svg = svg.replace(colour, name)
    return svg.replace("<svg", f'<svg role="img" aria-label={quoteattr(told)}', 1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def training_curve(history: Sequence[dict[str, float]], what: str, kept: float) -> str:
    """``what`` is "loss" or "accuracy": on the images trained on, and on the validation images. ``kept``: the epoch whose
    weights answer, marked where it is not the last."""
    first, last = history[0], history[-1]
    told = (
        f"{what} by epoch: from {first[what]:.2f} to {last[what]:.2f} on the training images, from "
        f"{first[f'validation_{what}']:.2f} to {last[f'validation_{what}']:.2f} on the validation images"
    )
    with drawing(told) as new:
        axes, epochs = new.axes[0], [h["epoch"] for h in history]
        axes.plot(epochs, [h[what] for h in history], color=BAR, marker=".", label="training")
        axes.plot(epochs, [h[f"validation_{what}"] for h in history], color=ACCENT, marker=".", label="validation")
        if what == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        elif max(h["validation_loss"] for h in history) > 20 * max(min(h["validation_loss"] for h in history), 1e-6):
            axes.set_yscale("log")  # the first epochs of a high rate would press the rest flat
            axes.yaxis.set_major_formatter("{x:g}")
        if kept != epochs[-1]:
            axes.axvline(kept, color=INK, linestyle="--", linewidth=1, label=f"kept: epoch {kept:g}")
        _by_epoch(axes, what)
        axes.legend()
    return new.svg


def rate_curve(history: Sequence[dict[str, float]]) -> str:
    """The learning rate of each epoch that has one noted."""
    noted = [h for h in history if "learning_rate" in h]
    told = f"learning rate by epoch: {noted[0]['learning_rate']:.2g} in the first, {noted[-1]['learning_rate']:.2g} in the last"
    with drawing(told) as new:
        axes = new.axes[0]
        axes.plot([h["epoch"] for h in noted], [h["learning_rate"] for h in noted], color=BAR, marker=".")
        _by_epoch(axes, "learning rate")
    return new.svg


def _by_epoch(axes: Axes, what: str) -> None:
    axes.set(xlabel="epoch", ylabel=what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def reliability(bins: Sequence[dict[str, float]]) -> str:
    """Accuracy over confidence, bin by bin, with the intervals that chance leaves, and below how many answers each bin holds.
    Bins of few answers are pale."""
    each = (f"{_percent(b['accuracy'])} of {b['samples']:.0f} answers of about {_percent(b['confidence'])}" for b in bins)
    with drawing(f"how many are right, by the probability of the answer: {', '.join(each)}", 3, 1) as new:
        upper, lower = new.axes
        middle = [(b["low"] + b["high"]) / 2 for b in bins]
        width = 0.9 * (bins[0]["high"] - bins[0]["low"])
        upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1)
        for x, b in zip(middle, bins, strict=True):
            upper.bar(x, b["accuracy"], width, color=BAR, alpha=1 if b["samples"] >= FEW else PALE)
            upper.plot([x, x], statistics.wilson(b["accuracy"], int(b["samples"])), color=INK, linewidth=1)
        upper.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o", color=ACCENT, markersize=4.5)
        upper.set(ylabel="right", xlim=(0, 1), ylim=(0, 1))
        lower.bar(middle, [b["samples"] for b in bins], width, color=BAR)
        lower.set(xlabel="probability of the answer", ylabel="answers")
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        upper.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        upper.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return new.svg


def coverage(curve: Sequence[dict[str, Any]], threshold: float) -> str:
    """Over the threshold: the share of answers kept, and how many of these are right; the chosen threshold is marked."""
    kept = [p for p in curve if p["accuracy"] is not None]
    quarters = [p for p in kept if p["threshold"] * 4 % 1 == 0]
    some = "; ".join(f"{p['threshold']:g}: {_percent(p['coverage'])}, {_percent(p['accuracy'])}" for p in quarters)
    with drawing(f"answers kept, and how many of these are right, at thresholds of {some}") as new:
        axes = new.axes[0]
        axes.plot([p["threshold"] for p in curve], [p["coverage"] for p in curve], color=BAR, label="answers kept")
        axes.plot([p["threshold"] for p in kept], [p["accuracy"] for p in kept], color=ACCENT, label="of these right")
        if threshold > 0:
            axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label=f"chosen: {threshold:g}")
        axes.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower left")
    return new.svg


def robustness(kind: dict[str, Any], plain: float) -> str:
    """Accuracy over the strength of a disturbance, beside the plain one."""
    points = ", ".join(f"{_percent(p['accuracy'])} at {p['value']:g}" for p in kind["points"])
    with drawing(f"right, by {kind['name']}: {points}; {_percent(plain)} as they are") as new:
        axes = new.axes[0]
        positions = range(len(kind["points"]))  # the strengths tried are no even scale
        axes.plot(positions, [p["accuracy"] for p in kind["points"]], color=ACCENT, marker="o", markersize=4.5)
        axes.axhline(plain, color=INK, linestyle="--", linewidth=1)
        axes.set_xticks(positions, [f"{p['value']:g}" for p in kind["points"]])
        axes.set(xlabel=", ".join(filter(None, (kind["name"], kind["unit"]))), ylabel="right", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return new.svg


def novelty(histogram: dict[str, list[float]], limit: float) -> str:
    """How many images lie at which distance from the training images, answered rightly and wrongly; above ``limit`` they are
    called novel."""
    edges = histogram["edges"]
    told = f"images by their distance from the training images, {edges[0]:.2g} to {edges[-1]:.2g}"
    with drawing(f"{told}; novel begins at {limit:.2g}") as new:
        axes, width = new.axes[0], edges[1] - edges[0]
        axes.bar(edges[:-1], histogram["right"], 0.9 * width, align="edge", color=BAR, label="right")
        axes.bar(edges[:-1], histogram["wrong"], 0.9 * width, histogram["right"], align="edge", color=ACCENT, label="wrong")
        axes.axvline(limit, color=INK, linestyle="--", linewidth=1, label="novel from here")
        axes.set(xlabel="distance from the training images", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.margins(y=0.22)  # for the legend
        axes.legend(loc="upper center", ncols=3, columnspacing=1)
    return new.svg

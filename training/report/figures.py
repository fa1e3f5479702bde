"""Data -> drawings in SVG for the page: curves of the training, calibration, coverage, robustness.

They take the colour of the text around them, so that they can be read on a light page, on a dark one and on paper. No word of
the user's is drawn: labels stand in the page alone.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from models.package import statistics

INK = "#010203"  # no other colour here is this one: it becomes that of the text
BLUE, ORANGE = "#3b82c4", "#d9782b"  # told apart by everyone, on white as on black
SIZE = (5.0, 3.0)  # inches
FEW = 10  # answers of a bin, below which it says little
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # words stay words
    "svg.hashsalt": "report",  # the same data give the same file
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
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
def drawing(*heights: float) -> Generator[Drawing]:
    """Axes one below the other, 1 unless ``heights`` gives their proportions."""
    with mpl.rc_context(STYLE):
        new = Drawing(heights or (1,))
        yield new
        new.svg = _svg(new.figure)


def _svg(figure: Figure) -> str:
    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"font: (\d+px) [^;\"]*", r"font: \1 sans-serif", svg)
    return re.sub(r' width="[^"]*pt" height="[^"]*pt"|<metadata>.*?</metadata>', "", svg, flags=re.S).replace(INK, "currentColor")


def training_curve(history: Sequence[dict[str, float]], what: str, kept: float) -> str:
    """``what`` is "loss" or "accuracy": on the images trained on, and on the validation images. ``kept``: the epoch whose
    weights answer, marked where it is not the last."""
    with drawing() as new:
        axes, epochs = new.axes[0], [h["epoch"] for h in history]
        axes.plot(epochs, [h[what] for h in history], color=BLUE, marker=".", label="training")
        axes.plot(epochs, [h[f"validation_{what}"] for h in history], color=ORANGE, marker=".", label="validation")
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
    with drawing() as new:
        axes, noted = new.axes[0], [h for h in history if "learning_rate" in h]
        axes.plot([h["epoch"] for h in noted], [h["learning_rate"] for h in noted], color=BLUE, marker=".")
        _by_epoch(axes, "learning rate")
    return new.svg


def _by_epoch(axes: Axes, what: str) -> None:
    axes.set(xlabel="epoch", ylabel=what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def reliability(bins: Sequence[dict[str, float]]) -> str:
    """Accuracy over confidence, bin by bin, with the intervals that chance leaves, and below how many answers each bin holds.
    Bins of few answers are pale."""
    with drawing(3, 1) as new:
        upper, lower = new.axes
        middle = [(b["low"] + b["high"]) / 2 for b in bins]
        width = 0.9 * (bins[0]["high"] - bins[0]["low"])
        samples = sum(b["samples"] for b in bins)
        upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1)
        for x, b in zip(middle, bins, strict=True):
            upper.bar(x, b["accuracy"], width, color=BLUE, alpha=0.6 if b["samples"] >= FEW else 0.2)
            upper.plot([x, x], statistics.wilson(b["accuracy"], int(b["samples"])), color=INK, linewidth=1, alpha=0.6)
        upper.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o", color=ORANGE, markersize=4)
        upper.set(ylabel="right", xlim=(0, 1), ylim=(0, 1))
        lower.bar(middle, [b["samples"] / samples for b in bins], width, color=INK, alpha=0.4)
        lower.set(xlabel="probability of the answer", ylabel="share")
        for axes in (upper, lower):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        upper.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return new.svg


def coverage(curve: Sequence[dict[str, Any]], threshold: float) -> str:
    """Over the threshold: the share of answers kept, and how many of these are right; the chosen threshold is marked."""
    with drawing() as new:
        axes, kept = new.axes[0], [p for p in curve if p["accuracy"] is not None]
        axes.plot([p["threshold"] for p in curve], [p["coverage"] for p in curve], color=BLUE, label="answers kept")
        axes.plot([p["threshold"] for p in kept], [p["accuracy"] for p in kept], color=ORANGE, label="of these right")
        if threshold > 0:
            axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label=f"chosen: {threshold:g}")
        axes.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower left")
    return new.svg


def robustness(kind: dict[str, Any], plain: float) -> str:
    """Accuracy over the strength of a disturbance, beside the plain one."""
    with drawing() as new:
        axes = new.axes[0]
        positions = range(len(kind["points"]))  # the strengths tried are no even scale
        axes.plot(positions, [p["accuracy"] for p in kind["points"]], color=BLUE, marker="o")
        axes.axhline(plain, color=INK, linestyle="--", linewidth=1)
        axes.set_xticks(positions, [f"{p['value']:g}" for p in kind["points"]])
        axes.set(xlabel=", ".join(filter(None, (kind["name"], kind["unit"]))), ylabel="right", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return new.svg

"""The data of a report -> one HTML file, small and printed too."""

import math
import re
from typing import Any

from markupsafe import Markup, escape

from models.package import statistics
from models.package.manifest import ALWAYS_TOP5
from models.package.report import AFTER
from training import html
from training.loop import eta, initial_weights, teacher
from training.report import figures, speed

MATRIX_UP_TO = 30  # classes; of more, the pairs confused most are a table
SHOWN_MISTAKES = 12  # the others are folded
WORST_FIRST_FROM = 13  # classes; fewer stand in their own order
MOST_ROWS = 500  # classes of the table: a page of 20,000 would be slow to open


def render(content: dict[str, Any]) -> str:
    """The page of what document.py gathered."""
    return html.render(
        "report",
        {
            "percent": percent,
            "points": points,
            "count": count,
            "duration": eta.spoken,
            "megabytes": megabytes,
            "marked": marked,
            "capitalised": capitalised,
        },
        **content,
        after_name=AFTER,
        started_from=started_from(content["run"]),
        taught_by=teacher.told(content["run"]["teacher"]) if "teacher" in content["run"] else "",
        drawn=drawn(content),
        matrix=matrix(content),
        class_rows=class_rows(content["evaluation"]["classes"]),
        worst_first=len(content["evaluation"]["classes"]) >= WORST_FIRST_FROM,
        speed_batches=speed.BATCHES,
        always_top5=ALWAYS_TOP5,
        guessing=math.log(len(content["run"]["classes"])),
        few=figures.FEW,
        shown_mistakes=SHOWN_MISTAKES,
    )


def drawn(content: dict[str, Any]) -> dict[str, Any]:
    """The drawings, as they go into the page."""
    history, evaluation = content["history"], content["evaluation"]
    kept = content["run"]["kept_epoch"]
    curves = [figures.training_curve(history, what, kept) for what in ("loss", "accuracy")] if history else []
    if any("learning_rate" in epoch for epoch in history):
        curves.append(figures.rate_curve(history))
    return {
        "curves": [Markup(svg) for svg in curves],
        "reliability": {when: Markup(figures.reliability(evaluation["reliability"][when])) for when in ("before", "after")},
        "coverage": Markup(figures.coverage(content["coverage"], evaluation["threshold"])),
        "robustness": [
            Markup(figures.robustness(kind, content["robustness"]["plain"])) for kind in content["robustness"]["kinds"]
        ],
    }


def started_from(run: dict[str, Any]) -> str:
    """Where the weights come from that the run began with, in words."""
    before = run.get("started_from")
    return "random weights" if before is None else initial_weights.told(before, run["recipe"].get("weights", ""))


def matrix(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the confusion matrix: label, and of each answer its count and share of the row; empty where it is too large."""
    labels = content["run"]["classes"]
    if len(labels) > MATRIX_UP_TO:
        return []
    counts: list[list[int]] = content["evaluation"]["confusion"]
    return [
        {"label": label, "cells": [{"count": n, "share": n / max(sum(row), 1)} for n in row]}
        for label, row in zip(labels, counts, strict=True)
    ]


def class_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of each class with the interval of its recall, the worst first where they are many, MOST_ROWS of them."""
    if len(rows) >= WORST_FIRST_FROM:
        rows = sorted(rows, key=lambda row: (row["f1"] is None, row["f1"]))[:MOST_ROWS]
    return [row | {"interval": interval(row["recall"], row["support"])} for row in rows]


def interval(share: float | None, n: int) -> str:
    """In which chance leaves a share of ``n`` images (95 %)."""
    low, high = (0.0, 0.0) if share is None else statistics.wilson(share, n)
    return "-" if share is None else f"{100 * low:.0f} to {percent(high, 0)}"


def percent(share: float | None, decimals: int = 1) -> str:
    """A share of 0 to 1, on one line with its sign."""
    return "-" if share is None else f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def points(share: float) -> str:
    """A difference of shares."""
    return f"{100 * share:.1f} points"


def marked(text: str) -> Markup:
    """Text in which code stands between backticks."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def capitalised(text: str) -> str:
    """With its first letter as a sentence begins."""
    return text[:1].upper() + text[1:]


def count(number: float) -> str:
    """A whole number with its thousands told apart."""
    return f"{number:,.0f}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"

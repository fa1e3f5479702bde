"""The data of a report -> one HTML file, small and printed too."""

import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from models.package.manifest import ALWAYS_TOP5
from models.package.report import AFTER
from training import html
from training.loop import eta, initial_weights, teacher
from training.report import figures, speed, strengths

MATRIX_UP_TO = 30  # classes; of more, the pairs confused most are a table
SHOWN_MISTAKES = 12  # the others are folded
MOST_PAIRS = 10  # of classes, where the matrix has all
MOST_ROWS = 500  # classes of the table: a page of 20,000 would be slow to open


def render(content: dict[str, Any]) -> str:
    """The page of what document.py gathered."""
    return html.render(
        "report",
        {
            "percent": percent,
            "points": points,
            "count": count,
            "range": range_style,
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
        speed_batches=speed.BATCHES,
        always_top5=ALWAYS_TOP5,
        guessing=math.log(len(content["run"]["classes"])),
        few=figures.FEW,
        shown_mistakes=SHOWN_MISTAKES,
        shown_in_pairs=sum(len(pair["images"]) for pair in content["confusions"].get("pairs", [])),
        most_pairs=MOST_PAIRS,
    )


def drawn(content: dict[str, Any]) -> dict[str, Any]:
    """The drawings, as they go into the page."""
    history, evaluation, novel = content["history"], content["evaluation"], content["novel"]
    kept = content["run"]["kept_epoch"]
    curves = [figures.training_curve(history, what, kept) for what in ("loss", "accuracy")] if history else []
    if any("learning_rate" in epoch for epoch in history):
        curves.append(figures.rate_curve(history))
    return {
        "curves": [Markup(svg) for svg in curves],
        "reliability": {when: Markup(figures.reliability(evaluation["reliability"][when])) for when in ("before", "after")},
        "coverage": Markup(figures.coverage(content["coverage"], evaluation["threshold"])),
        "novelty": Markup(figures.novelty(novel["histogram"], novel["distance"])) if "histogram" in novel else "",
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
    """The figures of each class with the interval of its recall, the worst first and those without images last, MOST_ROWS of
    them."""
    ordered = sorted(rows, key=lambda row: (row["recall"] is None, row["recall"], -row["support"]))
    return [strengths.with_interval(row) for row in ordered[:MOST_ROWS]]


def range_style(row: Mapping[str, float], at: float, mark: float | None = None) -> str:
    """Where an interval from ``low`` to ``high`` is drawn, the share found, and another that it is compared with."""
    places = {"low": row["low"], "high": row["high"], "at": at} | ({} if mark is None else {"mark": mark})
    return "; ".join(f"--{name}: {100 * share:.2f}%" for name, share in places.items())


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

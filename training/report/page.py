"""The data of a report -> one HTML file, small and printed too. Neighbours: page.html.j2 is its form, document.py gathers the
data, figures.py draws the curves.
"""

from typing import Any

from markupsafe import Markup

from training import pace, pages
from training.report import figures, speed

MATRIX_UP_TO = 30  # classes; of more, the pairs confused most are a table
WORST_FIRST_FROM = 13  # classes; fewer stand in their own order


def render(content: dict[str, Any]) -> str:
    """The page of what document.py gathered."""
    return pages.render(
        "report",
        {"percent": percent, "count": count, "duration": pace.spoken, "megabytes": megabytes},
        **content,
        drawn=drawn(content),
        matrix=matrix(content),
        class_rows=class_rows(content["evaluation"]["classes"]),
        speed_batches=speed.BATCHES,
    )


def drawn(content: dict[str, Any]) -> dict[str, Any]:
    """The drawings, as they go into the page."""
    history, evaluation = content["history"], content["evaluation"]
    curves = [figures.training_curve(history, what) for what in ("loss", "accuracy")] if history else []
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


def matrix(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the confusion matrix: label, and of each answer its count and share of the row; empty where it is too large."""
    counts: list[list[int]] = content["evaluation"]["confusion"]
    if len(counts) > MATRIX_UP_TO:
        return []
    labels = content["run"]["classes"]
    return [
        {"label": label, "cells": [{"count": n, "share": n / max(sum(row), 1)} for n in row]}
        for label, row in zip(labels, counts, strict=True)
    ]


def class_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of each class, the worst first where they are many."""
    if len(rows) < WORST_FIRST_FROM:
        return rows
    return sorted(rows, key=lambda row: (row["f1"] is None, row["f1"]))


def percent(share: float | None, decimals: int = 1) -> str:
    """A share of 0 to 1, on one line with its sign."""
    return "-" if share is None else f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def count(number: float) -> str:
    """A whole number with its thousands told apart."""
    return f"{number:,.0f}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"

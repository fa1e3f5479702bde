"""training/report/figures.py: drawings that are well-formed, take the colour of their page and show what they are given."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pytest

from training.report import figures

HISTORY: list[dict[str, float]] = [
    {
        "epoch": e,
        "loss": 3 - e,
        "accuracy": e / 4,
        "validation_loss": 4 - e,
        "validation_accuracy": e / 5,
        "learning_rate": 0.1 * e,
    }
    for e in (1, 2)
]
BINS = [
    {"low": 0.4, "high": 0.4667, "samples": 5, "confidence": 0.44, "accuracy": 0.4},
    {"low": 0.9333, "high": 1.0, "samples": 15, "confidence": 0.97, "accuracy": 1.0},
]
CURVE: list[dict[str, Any]] = [
    {"threshold": 0.0, "coverage": 1.0, "accuracy": 0.8},
    {"threshold": 0.5, "coverage": 0.5, "accuracy": 0.9},
    {"threshold": 1.0, "coverage": 0.0, "accuracy": None},
]
KIND = {"name": "blur", "unit": "% of the side", "points": [{"value": 1, "accuracy": 0.8}, {"value": 8, "accuracy": 0.1}]}
DISTANCES: dict[str, list[float]] = {"edges": [0.8, 1.0, 1.2, 1.4], "right": [30, 5, 0], "wrong": [2, 4, 3]}
DRAWINGS: dict[str, Callable[[], str]] = {
    "loss": lambda: figures.training_curve(HISTORY, "loss", 2),
    "accuracy": lambda: figures.training_curve(HISTORY, "accuracy", 1),
    "one epoch": lambda: figures.training_curve(HISTORY[:1], "loss", 1),
    "rate": lambda: figures.rate_curve(HISTORY),
    "reliability": lambda: figures.reliability(BINS),
    "coverage": lambda: figures.coverage(CURVE, 0.25),
    "robustness": lambda: figures.robustness(KIND, 0.85),
    "novelty": lambda: figures.novelty(DISTANCES, 1.2),
}


@cache
def draw(name: str) -> str:
    return DRAWINGS[name]()


def words(svg: str) -> list[str]:
    return [
        " ".join("".join(text.itertext()).split()) for text in ElementTree.fromstring(svg).iter() if text.tag.endswith("text")
    ]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_well_formed_small_and_has_the_size_and_colours_of_its_page(name: str) -> None:
    svg = draw(name)

    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "currentColor" in svg
    assert set(re.findall("#[0-9a-f]{6}", svg)) <= {"#ffffff", "#cccccc"}  # of what is not painted
    assert "var(--accent)" in svg or "var(--bar)" in svg
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)
    assert len(svg) < 60_000


def test_the_same_data_give_the_same_drawing() -> None:
    assert DRAWINGS["reliability"]() == draw("reliability")


WORDS = {
    "loss": "loss by epoch: from 2.00 to 1.00 on the training images, from 3.00 to 2.00 on the validation images",
    "rate": "learning rate by epoch: 0.1 in the first, 0.2 in the last",
    "reliability": "40 % of 5 answers of about 44 %, 100 % of 15 answers of about 97 %",
    "coverage": "at thresholds of 0: 100 %, 80 %; 0.5: 50 %, 90 %",
    "robustness": "right, by blur: 80 % at 1, 10 % at 8; 85 % as they are",
    "novelty": "by their distance from the training images, 0.8 to 1.4; novel begins at 1.2",
}


@pytest.mark.parametrize("name", WORDS)
def test_who_cannot_see_a_drawing_is_told_what_it_shows(name: str) -> None:
    root = ElementTree.fromstring(draw(name))

    assert root.attrib["role"] == "img"
    assert WORDS[name] in root.attrib["aria-label"]


def test_a_bar_has_a_part_for_right_and_one_for_wrong_images() -> None:
    bars = [part for part in draw("novelty").split("<g ") if "patch" in part[:20]]

    heights = {colour: sum(f"fill: var(--{colour})" in bar for bar in bars) for colour in ("bar", "accent")}
    assert heights["bar"] >= 3
    assert heights["accent"] >= 3
    assert "novel from here" in words(draw("novelty"))


def test_curves_name_both_sets_of_images() -> None:
    assert {"training", "validation", "loss", "epoch"} <= set(words(draw("loss")))
    assert "learning rate" in words(draw("rate"))


def test_a_first_epoch_far_off_does_not_press_the_curve_flat() -> None:
    wild = [HISTORY[0] | {"validation_loss": 700}, HISTORY[1]]

    assert {"1", "10", "100"} <= set(words(figures.training_curve(wild, "loss", 2)))  # a logarithmic axis
    assert "10" not in words(draw("loss"))


def test_the_chosen_threshold_is_marked_where_there_is_one() -> None:
    assert "chosen: 0.25" in words(draw("coverage"))
    assert not [word for word in words(figures.coverage(CURVE, 0)) if "chosen" in word]


def test_the_strengths_of_a_disturbance_are_the_marks_of_its_axis() -> None:
    found = words(draw("robustness"))

    assert {"1", "8", "blur, % of the side"} <= set(found)


def test_the_epoch_that_is_kept_is_marked_where_it_is_not_the_last() -> None:
    assert "kept: epoch 1" in words(draw("accuracy"))
    assert not [word for word in words(draw("loss")) + words(draw("one epoch")) if "kept" in word]


def test_bins_of_few_answers_are_pale() -> None:
    pale = re.findall(rf"opacity: {figures.PALE}\b", draw("reliability"))
    assert len(pale) == 1  # 5 answers; the other bin holds 15

"""What a network is good at and what it is bad at, as far as the figures exclude chance: its classes, and disturbed images."""

from collections.abc import Iterable, Mapping
from typing import Any

from models.package import statistics

FEW = 10  # images of a class, which say little of it
MOST = 3  # classes named, of the best and of the worst
BORNE = 0.95  # of the accuracy on images as they are, that is left under a disturbance that does little
LARGEST_FALL = 0.75  # of it, that a moderate disturbance must leave
MODERATE = {  # disturbances that a network should bear: a strength of each, and its words
    "JPEG quality": (30, "as a JPEG of quality 30"),
    "blur": (2, "blurred by 2 % of the side"),
    "brightness": (0.5, "at half the brightness"),
    "rotation": (15, "turned by 15 degrees"),
    "shift right and down": (12.5, "shifted by an eighth"),
}


def judge(evaluation: Mapping[str, Any], robustness: Mapping[str, Any], headline: Mapping[str, float]) -> dict[str, Any]:
    """``good`` and ``bad``, each ``classes``, at most MOST whose interval of recall (95 %, Wilson) lies above or below top-1, the
    furthest first, of ``all_classes`` such ones, and ``disturbed``: disturbances of images with the accuracy under them. A
    network that may have learnt nothing is good at no disturbance."""
    top1, plain = evaluation["top1"], robustness["plain"]
    rows = [with_interval(row) for row in evaluation["classes"] if row["support"] >= FEW]
    best = sorted((row for row in rows if row["low"] > top1), key=lambda row: -row["low"])
    worst = sorted((row for row in rows if row["high"] < top1), key=lambda row: row["high"])
    at = disturbed(robustness, MODERATE)
    least = BORNE * plain if headline["low"] > headline["commonest_class"] else 1.01
    return {
        "good": _told(best, {what: accuracy for what, accuracy in at.items() if accuracy >= least}),
        "bad": _told(worst, {what: accuracy for what, accuracy in at.items() if falls(robustness, accuracy)}),
    }


def with_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a class, with ``low`` and ``high``, between which chance leaves its recall; None of no image."""
    low, high = (None, None) if row["recall"] is None else statistics.wilson(row["recall"], row["support"])
    return {**row, "low": low, "high": high}


def disturbed(robustness: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """The accuracy on images that are moderately disturbed in these ways, by the words for each."""
    return {
        MODERATE[kind["name"]][1]: point["accuracy"]
        for kind in robustness["kinds"]
        if kind["name"] in names
        for point in kind["points"]
        if point["value"] == MODERATE[kind["name"]][0]
    }


def falls(robustness: Mapping[str, Any], accuracy: float) -> bool:
    """Whether that is surely less than on the images as they are, and less than LARGEST_FALL of it."""
    plain, n = robustness["plain"], robustness["samples"]
    return accuracy < LARGEST_FALL * plain and statistics.newcombe(plain, n, accuracy, n)[1] < 0


def _told(rows: list[dict[str, Any]], at: dict[str, float]) -> dict[str, Any]:
    keys = ("label", "recall", "low", "high", "support")
    classes = [{key: round(row[key], 4) if isinstance(row[key], float) else row[key] for key in keys} for row in rows[:MOST]]
    return {"classes": classes, "all_classes": len(rows), "disturbed": [{"what": w, "accuracy": a} for w, a in at.items()]}

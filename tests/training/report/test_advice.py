"""training/report/advice.py: each rule speaks of what it is for, with its figures, and of nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from training.report import advice

RECIPE: dict[str, Any] = {
    "architecture": "resnet18",
    "fit": "gradient",
    "linear_c": 0.1,
    "trivial_augment": False,
    "scale": 1.0,
    "cutmix": 0.0,
    "mixup": 0.0,
    "crop_padding": 4,
    "balance": "none",
}
KINDS = {"JPEG quality": 30, "blur": 2, "brightness": 0.5, "rotation": 15, "shift right and down": 12.5}
Change = Callable[[dict[str, Any]], None]


def entry(epoch: int, accuracy: float, validation: float, loss: float = 1.0) -> dict[str, Any]:
    return {"epoch": epoch, "accuracy": accuracy, "validation_accuracy": validation, "loss": loss}


def make_content() -> dict[str, Any]:
    """Of a good network, of which there is nothing to say."""
    rows = [{"label": label, "recall": 0.95, "precision": 0.95, "f1": 0.95, "support": 1000} for label in ("ant", "bee", "wasp")]
    bins = [{"low": 0.9, "high": 1.0, "samples": 3000, "confidence": 0.95, "accuracy": 0.95}]
    kinds = [{"name": n, "unit": "", "points": [{"value": v, "accuracy": 0.93}]} for n, v in KINDS.items()]
    history = [entry(1, 0.5, 0.5), entry(2, 0.97, 0.95)]
    return {
        "headline": {"top1": 0.95, "low": 0.942, "high": 0.957, "commonest_class": 0.34},
        "evaluation": {
            "split": "test",
            "samples": 3000,
            "top1": 0.95,
            "classes": rows,
            "confusion": [[950, 30, 20], [25, 950, 25], [20, 30, 950]],
            "calibration_error": 0.01,
            "calibration_floor_high": 0.02,
            "reliability": {"after": bins},
            "coverage": 0.95,
            "threshold": 0.5,
        },
        "history": history,
        "kept": history[-1],
        "run": {
            "recipe": dict(RECIPE),
            "input": {"height": 128, "width": 128},
            "data": {"training_images": 9000, "validation_images": 1000},
        },
        "filters": {"unlearnt": 0.05},
        "robustness": {"samples": 1000, "plain": 0.95, "kinds": kinds},
        "training_images": [3000, 3000, 3000],
        "sure_mistakes": 0,
        "skipped": {"count": 0, "files": []},
    }


def put(*path: str | int, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def all_of(*changes: Change) -> Change:
    def change(content: dict[str, Any]) -> None:
        for one in changes:
            one(content)

    return change


def trained(*entries: dict[str, Any]) -> Change:
    return all_of(put("history", value=list(entries)), put("kept", value=entries[-1]))


def disturbed(kind: str, accuracy: float) -> Change:
    return put("robustness", "kinds", list(KINDS).index(kind), "points", 0, "accuracy", value=accuracy)


by_heart = trained(entry(1, 0.9, 0.72), entry(2, 0.99, 0.7))
linear = put("run", "recipe", "fit", value="linear")
half_known = put("evaluation", "classes", 0, "recall", value=0.6)
CASES: dict[str, tuple[Change, list[str], list[str]]] = {  # a change, words of what is found and done, flags
    "no better than the commonest class": (
        put("headline", value={"top1": 0.5, "low": 0.44, "high": 0.53, "commonest_class": 0.45}),
        ["50.0 % right is not surely more than the 45.0 %", "Look at the data"],
        ["hubel inspect DATA"],
    ),
    "learnt by heart": (by_heart, ["99.0 % of the training images", "70.0 % of the val"], ["--trivial-augment", "--scale 0.35"]),
    "learnt by heart, small images": (
        all_of(by_heart, put("run", "input", value={"height": 32, "width": 32})),
        ["by heart", "more epochs will not help"],
        ["--trivial-augment"],
    ),
    "learnt by heart in spite of all changes": (
        all_of(by_heart, put("run", "recipe", "trivial_augment", value=True), put("run", "recipe", "scale", value=0.35)),
        ["by heart", "Add images; more"],
        [],
    ),
    "a head learnt by heart": (all_of(by_heart, linear), ["Penalise large weights"], ["--linear-c 0.01"]),
    "still learning": (
        trained(entry(1, 0.4, 0.4, 2.0), entry(2, 0.6, 0.55, 1.0)),
        ["Only 60.0 % of the training images", "after 2 epochs", "Train longer"],
        ["--epochs 4"],
    ),
    "one epoch": (trained(entry(1, 0.4, 0.4)), ["after 1 epoch.", "Train longer"], ["--epochs 2"]),
    "too small to learn": (
        trained(*(entry(e, 0.6, 0.55, 1.0) for e in range(1, 9))),
        ["of 8 epochs the second half hardly taught", "a larger network"],
        [],
    ),
    "features that do not part the classes": (
        all_of(trained(entry(1, 0.6, 0.58)), linear),
        ["its features do not part the classes"],
        ["--fit gradient"],
    ),
    "noise in the filters": (
        put("filters", "unlearnt", value=0.6),
        ["filters are still noise: 60 %", "trained on many images"],
        ["--weights IMAGENET1K_V1", "--start-from RUN"],
    ),
    "noise in the filters of a network without published weights": (
        all_of(put("filters", "unlearnt", value=0.6), put("run", "recipe", "architecture", value="resnet20")),
        ["filters are still noise"],
        ["--recipe photos-lite0", "--start-from RUN"],
    ),
    "a weak class": (
        all_of(half_known, put("evaluation", "confusion", 0, value=[600, 100, 300])),
        ["“\u2068ant\u2069” is answered rightly in 60.0 % of 1000 images (56.9 % to 63.0 %)", "300, are taken for “\u2068wasp"],
        [],
    ),
    "a rare class": (
        all_of(put("training_images", value=[500, 3000, 3000]), put("evaluation", "classes", 0, "recall", value=0.9)),
        ["has 500 training images", "3000", "90.0 % and 95.0 %"],
        ["--balance weights"],
    ),
    "darkness": (
        disturbed("brightness", 0.4),
        ["95.0 % are answered rightly as they are, 40.0 % at half"],
        ["--trivial-augment"],
    ),
    "darkness in spite of changes": (
        all_of(disturbed("brightness", 0.4), put("run", "recipe", "trivial_augment", value=True)),
        ["40.0 % at half the brightness", "Add images that were taken so"],
        [],
    ),
    "shifts": (disturbed("shift right and down", 0.5), ["50.0 % shifted by an eighth"], ["--crop-padding 16"]),
    "poor images": (disturbed("blur", 0.5), ["50.0 % blurred by 2 % of the side", "no recipe makes them"], []),
    "too sure": (
        all_of(
            put("evaluation", "calibration_error", value=0.1),
            put("evaluation", "reliability", "after", 0, "confidence", value=0.99),
        ),
        [
            "too sure: 99.0 % on average, where 95.0 % are right",
            "10.0 points, chance alone would give up to 2.0",
            "1000 validation",
        ],
        [],
    ),
    "few images measured": (
        all_of(put("headline", "low", value=0.81), put("evaluation", "samples", value=49)),
        ["49 images leave open whether 81.0 % or 95.7 %", "Measure on 147 more"],
        [],
    ),
    "a class that nobody measured": (
        all_of(put("evaluation", "classes", 1, "support", value=0), put("evaluation", "classes", 1, "recall", value=None)),
        ["Nothing is known of “\u2068bee\u2069”", "test images"],
        [],
    ),
    "much that is unsure": (
        put("evaluation", "coverage", value=0.6),
        ["40.0 % of the answers are called unsure"],
        ["HUBEL_FEEDBACK_DIR", "hubel retrain"],
    ),
    "mistakes made surely": (
        put("sure_mistakes", value=12),
        ["12 wrong answers were given with 90 %", "label is often wrong"],
        [],
    ),
    "files left out": (put("skipped", "count", value=500), ["500 files, 3.7 % of all"], ["hubel inspect DATA"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_speaks_with_its_figures_and_the_way_on(case: str) -> None:
    change, words, flags = CASES[case]
    content = make_content()
    change(content)

    (found,) = advice.advise(content)

    said = f"{found['found']} {found['do']}".replace("\u00a0", " ")
    assert all(part in said for part in words), said
    assert found["flags"] == flags


def test_there_is_nothing_to_say_of_a_good_network() -> None:
    assert advice.advise(make_content()) == []


SILENT: dict[str, Change] = {
    "a gap that chance explains": all_of(trained(entry(1, 0.97, 0.85)), put("run", "data", "validation_images", value=5)),
    "a gap while both still rise": all_of(
        trained(entry(1, 0.5, 0.4, 2.0), entry(2, 0.92, 0.9)), put("kept", "validation_accuracy", value=0.89)
    ),
    "mixed images, which are hard": all_of(trained(entry(1, 0.6, 0.9)), put("run", "recipe", "cutmix", value=0.5)),
    "noise in a network that began with weights": all_of(
        put("filters", "unlearnt", value=1.0), put("run", "started_from", value={"weights": "x.pth"})
    ),
    "filters that cannot be shown": put("filters", value={"left_out": "none"}),
    "a weak class of three images": all_of(half_known, put("evaluation", "classes", 0, "support", value=3)),
    "rare classes that are balanced": all_of(
        put("training_images", value=[500, 3000, 3000]),
        put("evaluation", "classes", 0, "recall", value=0.9),
        put("run", "recipe", "balance", value="sampler"),
    ),
    "rare classes that do well": put("training_images", value=[500, 3000, 3000]),
    "a fall that chance explains": all_of(disturbed("brightness", 0.7), put("robustness", "samples", value=5)),
    "a small fall": disturbed("rotation", 0.8),
    "an error that a perfect network shows": all_of(
        put("evaluation", "calibration_error", value=0.1), put("evaluation", "calibration_floor_high", value=0.12)
    ),
    "an error that was not judged": all_of(
        put("evaluation", "calibration_error", value=0.1), lambda content: content["evaluation"].pop("calibration_floor_high")
    ),
    "no threshold": all_of(put("evaluation", "coverage", value=0.5), put("evaluation", "threshold", value=0)),
    "no disturbance was tried": put("robustness", "kinds", value=[]),
    "an untrained network": all_of(put("history", value=[]), put("kept", value=None)),
}


@pytest.mark.parametrize("case", SILENT)
def test_a_rule_is_silent_where_its_figures_do_not_say_it(case: str) -> None:
    content = make_content()
    SILENT[case](content)

    assert advice.advise(content) == []


def test_five_pieces_of_advice_at_most_stand_by_their_worth() -> None:
    content = make_content()
    for name in (
        "learnt by heart",
        "noise in the filters",
        "darkness",
        "shifts",
        "poor images",
        "mistakes made surely",
        "too sure",
    ):
        CASES[name][0](content)

    found = [a["found"] for a in advice.advise(content)]

    assert len(found) == advice.MOST
    assert "by heart" in found[0]  # 29 of 100; half of what darkness costs is 27.5
    assert "at half the brightness" in found[1]

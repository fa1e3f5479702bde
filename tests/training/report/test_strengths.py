"""training/report/strengths.py: a class or a disturbance is named where chance does not explain it."""

from typing import Any

import pytest

from training.report import strengths

LEARNT, NOT_LEARNT = ({"low": low, "commonest_class": 0.3} for low in (0.7, 0.3))


def row(label: str, right: int, support: int) -> dict[str, Any]:
    return {"label": label, "recall": right / support if support else None, "support": support}


def evaluation(*rows: dict[str, Any], top1: float = 0.8) -> dict[str, Any]:
    return {"top1": top1, "classes": list(rows)}


def robustness(samples: int = 1000, **accuracies: float) -> dict[str, Any]:
    points = {name: [{"value": value, "accuracy": 0.7}] for name, (value, _) in strengths.MODERATE.items()}
    points |= {name: [{"value": strengths.MODERATE[name][0], "accuracy": accuracy}] for name, accuracy in accuracies.items()}
    kinds = [{"name": name, "unit": "", "points": [*found, {"value": 99, "accuracy": 0.0}]} for name, found in points.items()]
    return {"samples": samples, "plain": 0.8, "kinds": kinds}


def test_classes_are_named_whose_interval_leaves_out_the_accuracy_of_all() -> None:
    rows = [row("good", 98, 100), row("like all", 83, 100), row("best", 100, 100), row("bad", 40, 100), row("worst", 10, 100)]

    found = strengths.judge(evaluation(*rows), robustness(), LEARNT)

    assert [each["label"] for each in found["good"]["classes"]] == ["best", "good"]
    assert [each["label"] for each in found["bad"]["classes"]] == ["worst", "bad"]
    assert found["bad"]["classes"][0] == {"label": "worst", "recall": 0.1, "low": 0.0552, "high": 0.1744, "support": 100}


def test_a_class_of_few_or_no_images_is_not_named() -> None:
    found = strengths.judge(evaluation(row("few", 0, strengths.FEW - 1), row("none", 0, 0)), robustness(), LEARNT)

    assert (found["good"]["classes"], found["bad"]["classes"]) == ([], [])
    assert strengths.judge(evaluation(row("enough", 0, strengths.FEW)), robustness(), LEARNT)["bad"]["all_classes"] == 1


def test_of_many_classes_some_are_named_and_all_are_counted() -> None:
    found = strengths.judge(evaluation(*(row(str(i), i, 100) for i in range(5))), robustness(), LEARNT)["bad"]

    assert ([each["label"] for each in found["classes"]], found["all_classes"]) == (["0", "1", "2"], 5)


def test_disturbances_are_named_that_leave_nearly_all_right_or_take_a_quarter() -> None:
    found = strengths.judge(evaluation(), robustness(blur=0.79, rotation=0.5, brightness=0.61), LEARNT)

    assert found["good"]["disturbed"] == [{"what": "blurred by 2 % of the side", "accuracy": 0.79}]
    assert found["bad"]["disturbed"] == [{"what": "turned by 15 degrees", "accuracy": 0.5}]


def test_a_network_that_may_have_learnt_nothing_is_good_at_no_disturbance() -> None:
    assert strengths.judge(evaluation(), robustness(blur=0.8), NOT_LEARNT)["good"]["disturbed"] == []
    assert strengths.judge(evaluation(), robustness(blur=0.8), LEARNT)["good"]["disturbed"] != []


def test_a_fall_that_chance_may_explain_is_not_named() -> None:
    assert strengths.judge(evaluation(), robustness(10, rotation=0.5), LEARNT)["bad"]["disturbed"] == []


@pytest.mark.parametrize(
    ("right", "support", "interval"),  # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3 (Wilson's)
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_the_interval_of_a_class_is_the_textbook_one(right: int, support: int, interval: tuple[float, float]) -> None:
    found = strengths.with_interval(row("a", right, support))

    assert (found["low"], found["high"]) == pytest.approx(interval, abs=1e-4)


def test_a_class_without_images_has_no_interval() -> None:
    assert strengths.with_interval(row("a", 0, 0)) | {"label": "a"} == row("a", 0, 0) | {"low": None, "high": None}

"""What to do next, concluded from the figures of a report: each rule looks at one thing and says what it found and the way on.

A rule speaks where the figures exclude chance, or where they are too few to exclude it. The worth of what it says is the share
of the answers that it is about, so that rules can be put in order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from models.package import statistics
from training.evaluation import confusion
from training.networks import pretrained
from training.report import strengths
from training.report.strengths import FEW

MOST = 5  # pieces of advice
WIDE = 0.1  # an interval of top-1
GAP = 0.1  # of accuracy, between training and validation images, or between a class and all
FALLS = 0.98  # of the training loss in the second half of a run, while it still learns
LEARNT = 0.9  # accuracy on the training images, below which they are not learnt yet
UNLEARNT = 0.4  # of the pattern of the first filters
OFF = 0.03  # a calibration error that matters
UNEQUAL = 3  # times as many training images, as ``inspect`` has it
COVERED = 0.8
SURE, SURE_MISTAKES = 0.9, 3  # wrong answers of at least that probability, and how many are worth a look
LEFT_OUT = 0.02  # of all files

Content = dict[str, Any]


class Advice(NamedTuple):
    """``found`` concludes from figures, ``do`` is the way on, ``flags`` are options or commands for it."""

    worth: float
    found: str
    do: str
    flags: tuple[str, ...] = ()


def advise(content: Content) -> list[dict[str, Any]]:
    """The MOST pieces of advice of most worth, as plain data; none where the figures ask for nothing."""
    found = sorted((advice for rule in RULES if (advice := rule(content))), key=lambda advice: -advice.worth)
    return [{"found": a.found, "do": a.do, "flags": list(a.flags)} for a in found[:MOST]]


def nothing_learnt(content: Content) -> Advice | None:
    """Top-1 is not surely above what always answering the commonest class gives."""
    headline = content["headline"]
    if headline["low"] > headline["commonest_class"]:
        return None
    found = (
        f"{_percent(headline['top1'])} right is not surely more than the {_percent(headline['commonest_class'])} that always "
        "answering the commonest class would give."
    )
    do = "Look at the data, then train longer, or begin with weights that know images."
    return Advice(1, found, do, ("hubel inspect DATA",))


def learnt_by_heart(content: Content) -> Advice | None:
    """The training images are answered far better than the validation images."""
    kept, recipe = content["kept"], content["run"]["recipe"]
    if kept is None:
        return None
    gap = kept["accuracy"] - kept["validation_accuracy"]
    high = statistics.wilson(kept["validation_accuracy"], content["run"]["data"]["validation_images"])[1]
    if gap < GAP or high >= kept["accuracy"] or (kept["accuracy"] < LEARNT and _still_rises(content)):
        return None
    found = (
        f"The network learns its images by heart: {_percent(kept['accuracy'])} of the training images are answered rightly, "
        f"{_percent(kept['validation_accuracy'])} of the validation images."
    )
    if recipe["fit"] == "linear":
        return Advice(gap, found, "Penalise large weights more, or add images.", (f"--linear-c {recipe['linear_c'] / 10:g}",))
    flags = [] if recipe["trivial_augment"] else ["--trivial-augment"]
    if (
        recipe["scale"] == 1
        and recipe["fit"] == "gradient"
        and min(content["run"]["input"]["height"], content["run"]["input"]["width"]) >= 64
    ):
        flags.append("--scale 0.35")
    change = ", or change them more as they are shown" if flags else ""
    return Advice(gap, found, f"Add images{change}; more epochs will not help.", tuple(flags))


def not_learnt_yet(content: Content) -> Advice | None:
    """Even the training images are not known, though they are shown without mixing them."""
    kept, recipe, history = content["kept"], content["run"]["recipe"], content["history"]
    if kept is None or kept["accuracy"] >= LEARNT or recipe["cutmix"] or recipe["mixup"] or learnt_by_heart(content):
        return None
    found = f"Only {_percent(kept['accuracy'])} of the training images themselves are answered rightly"
    worth = 1 - kept["accuracy"]
    if recipe["fit"] == "linear":
        return Advice(worth, f"{found}: its features do not part the classes.", "Let the network learn too.", ("--fit gradient",))
    epochs = f"{len(history)} {'epoch' if len(history) == 1 else 'epochs'}"
    if history[-1]["loss"] < FALLS * history[len(history) // 2 - 1]["loss"] or len(history) == 1:
        return Advice(worth, f"{found} after {epochs}.", "Train longer.", (f"--epochs {2 * len(history)}",))
    do = "Train a larger network, or at another learning rate."
    return Advice(worth, f"{found}, and of {epochs} the second half hardly taught it more.", do)


def _still_rises(content: Content) -> bool:
    """Whether the last epoch is the best on the validation images."""
    history = content["history"]
    best = max(entry["validation_accuracy"] for entry in history)
    return content["kept"]["epoch"] == history[-1]["epoch"] and history[-1]["validation_accuracy"] >= best


def begin_with_weights(content: Content) -> Advice | None:
    """The first filters are the noise that the network began with."""
    filters, recipe, mistakes = content["filters"], content["run"]["recipe"], 1 - content["headline"]["top1"]
    share = filters.get("unlearnt")
    if share is None or share < UNLEARNT or not mistakes or "started_from" in content["run"]:
        return None
    names = list(pretrained.published(recipe["architecture"]))
    found = f"The first filters are still noise: {_percent(share, 0)} of their pattern are the random numbers they began with."
    do = "Begin with weights that were trained on many images."
    flags = (f"--weights {names[0]}",) if names else ("--recipe photos-lite0",)
    return Advice(mistakes, found, do, (*flags, "--start-from RUN"))


def weak_class(content: Content) -> Advice | None:
    """A class is surely answered worse than all together."""
    evaluation = content["evaluation"]
    rows = [row for row in evaluation["classes"] if row["support"] >= FEW and _is_weak(row, evaluation["top1"])]
    if not rows:
        return None
    lost = [(evaluation["top1"] - row["recall"]) * row["support"] / evaluation["samples"] for row in rows]
    worst = rows[lost.index(max(lost))]
    low, high = statistics.wilson(worst["recall"], worst["support"])
    taken = _taken_for(evaluation, worst["label"])
    more = f"; so are {len(rows) - 1} more" if len(rows) > 1 else ""
    found = (
        f"{_label(worst['label'])} is answered rightly in {_percent(worst['recall'])} of {worst['support']} images "
        f"({_percent(low)} to {_percent(high)}), less than all are{more}; most of its errors, {taken[1]}, are taken for "
        f"{_label(taken[0])}."
    )
    do = "Look at these mistakes for wrong labels, then add images of both classes that show what parts them."
    return Advice(max(lost), found, do)


def _is_weak(row: dict[str, Any], top1: float) -> bool:
    return top1 - row["recall"] >= GAP and statistics.wilson(row["recall"], row["support"])[1] < top1


def _taken_for(evaluation: dict[str, Any], label: str) -> tuple[str, int]:
    """The class that images of ``label`` are most often taken for, and how many."""
    labels = [row["label"] for row in evaluation["classes"]]
    answer, count = confusion.taken_for(confusion.of(evaluation), labels.index(label))
    return labels[answer], count


def unequal_classes(content: Content) -> Advice | None:
    """Rare classes among the training images, answered worse than the commonest."""
    counts, rows = content["training_images"], content["evaluation"]["classes"]
    few, many = (counts.index(end(counts)) for end in (min, max))
    recalls = rows[few]["recall"], rows[many]["recall"]
    is_balanced = content["run"]["recipe"]["balance"] != "none" or content["run"]["recipe"]["fit"] == "linear"
    if counts[many] < UNEQUAL * counts[few] or is_balanced or None in recalls or recalls[0] >= recalls[1]:
        return None
    found = (
        f"{_label(rows[few]['label'])} has {counts[few]} training images and {_label(rows[many]['label'])} {counts[many]}, and "
        f"{_percent(recalls[0])} and {_percent(recalls[1])} of theirs are answered rightly."
    )
    worth = (recalls[1] - recalls[0]) * rows[few]["support"] / content["evaluation"]["samples"]
    return Advice(worth, found, "Add images of the rare classes, or let them count as much.", ("--balance weights",))


def fragile_to_light_or_turning(content: Content) -> Advice | None:
    """What random changes of colour and shape would teach."""
    off = not content["run"]["recipe"]["trivial_augment"]
    do = "Change the images so as they are shown." if off else "Add images that were taken so."
    return _fragile(content, ("brightness", "rotation"), do, ("--trivial-augment",) if off else ())


def fragile_to_shifts(content: Content) -> Advice | None:
    """What random shifts would teach."""
    spec, padding = content["run"]["input"], content["run"]["recipe"]["crop_padding"]
    wanted = max(1, min(spec["height"], spec["width"]) // 8)
    do = "Shift the images further as they are shown." if padding < wanted else "Add images in which the thing is off the middle."
    return _fragile(content, ("shift right and down",), do, (f"--crop-padding {wanted}",) if padding < wanted else ())


def fragile_to_quality(content: Content) -> Advice | None:
    """What images from poorer cameras would teach."""
    return _fragile(content, ("JPEG quality", "blur"), "If such images will come, add some: no recipe makes them.", ())


def _fragile(content: Content, names: Sequence[str], do: str, flags: tuple[str, ...]) -> Advice | None:
    """``do``, where moderate disturbances of these kinds surely cost more than LARGEST_FALL allows."""
    found = content["robustness"]
    n, plain = found["samples"], found["plain"]
    lost = {what: at for what, at in strengths.disturbed(found, names).items() if strengths.falls(found, at)}
    if not lost:
        return None
    parts = ", ".join(f"{_percent(accuracy)} {what}" for what, accuracy in lost.items())
    said = f"Of {n} images {_percent(plain)} are answered rightly as they are, {parts}."
    return Advice((plain - min(lost.values())) / 2, said, do, flags)


def badly_calibrated(content: Content) -> Advice | None:
    """Probabilities are further from the truth than those of a perfect network would seem on so many images."""
    evaluation = content["evaluation"]
    error, high = evaluation["calibration_error"], evaluation.get("calibration_floor_high")
    if high is None or error <= high or error < OFF:
        return None
    bins = evaluation["reliability"]["after"]
    confidence = sum(b["samples"] * b["confidence"] for b in bins) / sum(b["samples"] for b in bins)
    how = "too sure" if confidence > evaluation["top1"] else "not sure enough"
    found = (
        f"Its probabilities are {how}: {_percent(confidence)} on average, where {_percent(evaluation['top1'])} are right; the "
        f"calibration error is {_points(error)}, chance alone would give up to {_points(high)}."
    )
    images = content["run"]["data"]["validation_images"]
    return Advice(error, found, f"Fit the temperature on more than {images} validation images, like those measured.", ())


def few_measured(content: Content) -> Advice | None:
    """The interval of top-1 is wide."""
    headline, n = content["headline"], content["evaluation"]["samples"]
    width = headline["high"] - headline["low"]
    if width < WIDE:
        return None
    found = f"{n} images leave open whether {_percent(headline['low'])} or {_percent(headline['high'])} of the answers are right."
    return Advice(width / 2, found, f"Measure on {3 * n} more to halve that: an interval narrows with the root of its images.")


def unmeasured_classes(content: Content) -> Advice | None:
    """Classes of which no image was measured."""
    rows = content["evaluation"]["classes"]
    empty = [_label(row["label"]) for row in rows if not row["support"]]
    if not empty:
        return None
    more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
    found = f"Nothing is known of {', '.join(empty[:3])}{more}: no image of that was measured."
    return Advice(len(empty) / len(rows), found, f"Put some into the {content['evaluation']['split']} images.")


def often_unsure(content: Content) -> Advice | None:
    """Many answers are called unsure."""
    evaluation = content["evaluation"]
    if evaluation["coverage"] >= COVERED or not evaluation["threshold"]:
        return None
    found = f"{_percent(1 - evaluation['coverage'])} of the answers are called unsure."
    do = "Keep such images while it serves, have people name them, and let the next version learn from that."
    return Advice((1 - evaluation["coverage"]) / 10, found, do, ("HUBEL_FEEDBACK_DIR", "hubel retrain"))


def sure_mistakes(content: Content) -> Advice | None:
    """Wrong answers that the network is sure of: labels are often the cause."""
    count, samples = content["sure_mistakes"], content["evaluation"]["samples"]
    if count < SURE_MISTAKES:
        return None
    found = f"{count} wrong answers were given with {_percent(SURE, 0)} or more."
    return Advice(count / samples, found, "Look at these first: where a network is so sure, the label is often wrong.")


def files_left_out(content: Content) -> Advice | None:
    """Data that could not be used."""
    count, facts = content["skipped"]["count"], content["run"]["data"]
    share = count / (count + facts["training_images"] + facts["validation_images"] + content["evaluation"]["samples"])
    if share < LEFT_OUT:
        return None
    found = f"{count} files, {_percent(share)} of all, were left out."
    return Advice(share, found, "Repair or convert them.", ("hubel inspect DATA",))


RULES: tuple[Callable[[Content], Advice | None], ...] = (
    nothing_learnt,
    learnt_by_heart,
    not_learnt_yet,
    begin_with_weights,
    weak_class,
    unequal_classes,
    fragile_to_light_or_turning,
    fragile_to_shifts,
    fragile_to_quality,
    badly_calibrated,
    few_measured,
    unmeasured_classes,
    often_unsure,
    sure_mistakes,
    files_left_out,
)


def _percent(share: float, decimals: int = 1) -> str:
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _label(label: str) -> str:
    """In quotes that keep the direction of its writing to themselves (U+2068, U+2069)."""
    return f"\u201c\u2068{label}\u2069\u201d"

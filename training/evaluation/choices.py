"""What was chosen by the images that a run is measured on: a figure that something was chosen by is a little too good."""

from collections.abc import Collection
from typing import Any


def told(evaluation: dict[str, Any], recipe: dict[str, Any], precisions: Collection[str]) -> str:
    """In words, for what evaluate.py measured; nothing of images that are no real ones. ``precisions``: those that a graph was
    measured in. Code stands between backticks."""
    fit = recipe.get("fit")
    stops = fit == "both" or (bool(recipe.get("patience")) and fit != "linear")  # which has one epoch
    epoch, sureness = ["the epoch that is kept"] * stops, ["temperature", "threshold"]
    others = sorted(set(precisions) - {"fp32"})
    computing = [f"whether the service computes in {_listed(others)}"] if others else []
    if evaluation["split"] == "test":
        made = f"One choice was made on these images: {computing[0]}." if computing else "No choice was made on these images."
        return f"{made} {_sentence([*epoch, *sureness], 'come from the validation images')}."
    if evaluation["split"] != "validation":
        return ""
    said = "These images were held out of the training to follow it."
    if "calibration_floor" in evaluation:  # earlier evaluations measured with what the same images had chosen
        said += " Temperature and threshold come from them too and are measured out of folds: on each image by what others say."
        sureness = []
    if not (chosen := [*epoch, *sureness, *computing]):
        return f"{said} Nothing else was chosen by them."
    return (
        f"{said} {_sentence(chosen, 'was' if len(chosen) == 1 else 'were')} chosen by them, so the figures flatter a little: put "
        "images that nothing is chosen by into `test/` for figures without that."
    )


def _sentence(subjects: list[str], rest: str) -> str:
    text = _listed(subjects)
    return f"{text[0].upper()}{text[1:]} {rest}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

"""Cases -> a new folder to look at and to train on: class folders below train/, the others below to-review/, list and page."""

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from training.data.sources.source import printable, reason
from training.errors import DataError
from training.review import page
from training.review.collect import REASONS, Case, collect

TRAIN, TO_REVIEW = "train", "to-review"
LIST, PAGE = "review.csv", "review.html"
COLUMNS = ("order", "file", "reason", "given", "predicted", "probability", "version", "answer_id", "index")


def review(folder: Path, out: Path) -> dict[str, Any]:
    """Copy the images of a folder of kept images into ``out``, which must not exist or be empty. Returns what there is.

    Raises:
        DataError: ``folder`` is none, ``out`` holds something, or cannot be written.
    """
    cases = collect(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already and nothing is overwritten; name a new folder")
    try:
        placed = [(case, place) for case in cases if (place := _copy(case, out))]
        _write_list(out / LIST, placed)
        page.write(out / PAGE, str(folder), out, placed)
    except OSError as err:
        raise DataError(f"{out} cannot be written: {reason(err)}") from err
    reasons = Counter(case.reason for case, _ in placed)
    return {
        "to_train_on": sum(case.label is not None and _is_name(case.label) for case, _ in placed),
        "to_review": sum(place.parts[0] == TO_REVIEW for _, place in placed),
        "reasons": {name: reasons[name] for name in REASONS if reasons[name]},
        "folder": str(out),
        "page": str(out / PAGE),
    }


def _copy(case: Case, out: Path) -> Path | None:
    """Copy an image to its place, which is returned; None where it is gone by now."""
    label = case.label if case.label is not None and _is_name(case.label) else None
    predicted = case.answer.label if _is_name(case.answer.label) else ""
    place = Path(TRAIN, label) if label else Path(TO_REVIEW, predicted)
    name = case.path.name[:16] + case.path.suffix
    (out / place).mkdir(parents=True, exist_ok=True)
    try:
        with open(case.path, "rb") as source, open(out / place / name, "xb") as target:
            shutil.copyfileobj(source, target)
    except FileNotFoundError:  # the service cleared it up meanwhile
        (out / place / name).unlink(missing_ok=True)
        return None
    return place / name


def _is_name(label: str) -> bool:
    """Whether a label can be the name of a folder in which images are found."""
    return printable(label) == label and "/" not in label and not label.startswith(".") and label.strip() != ""


def _write_list(path: Path, placed: list[tuple[Case, Path]]) -> None:
    with open(path, "x", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for order, (case, place) in enumerate(placed, 1):
            answer, given = case.answer, case.label or case.answer.given or ""
            figures = (answer.label, f"{answer.probability:.4f}", answer.version, answer.answer_id, answer.index)
            rows.writerow((order, place.as_posix(), case.reason, given, *figures))

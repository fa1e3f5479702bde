"""The report of a run, report.html and report.json: what it is, how good it is, where it fails and what it sees.

Neighbours: evaluate.py measured before; facts.py, robustness.py, filters.py and examples.py gather, page.py makes the page;
package.py publishes it.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models import program
from models.manifest import REPORT
from models.probability import softmax
from training import calibration, confusion, data, evaluate, provenance
from training import checkpoint as checkpoints
from training.errors import CheckpointError
from training.report import examples, facts, filters, page, robustness

PAIRS = 30  # of classes confused most


def report(run: Path, source: str | Path, with_images: bool = True) -> dict[str, Any]:
    """Write run/report.html and run/report.json of the checkpoint in ``run``, evaluated on ``source``; returns the latter.

    Without ``with_images`` they hold no image and no file name of the data, for packages that strangers get.

    Raises:
        CheckpointError: the run was not evaluated since its last epoch, or on other images than ``source`` holds.
        DataError: see there.
    """
    content = gather(run, source, with_images)
    (run / REPORT).write_text(page.render(content), encoding="utf-8", errors="xmlcharrefreplace")
    result = without_pictures(content)
    (run / facts.FILE).write_text(json.dumps(result, indent=1))
    return result


def gather(run: Path, source: str | Path, with_images: bool = True) -> dict[str, Any]:
    """Everything that the report says, as ``report`` has it; pictures under keys of that name."""
    checkpoint, model, _ = checkpoints.load(run)
    evaluation = evaluate.read(run, checkpoint)
    trained, held_out = evaluate.training_images(source, checkpoint)
    test = data.load_test(source, checkpoint.recipe.input, checkpoint.classes)
    images = held_out if test is None else test
    if data.fingerprint(images) != evaluation["dataset_sha256"]:
        again = program.command("evaluate", run, source)
        raise CheckpointError(f"{run} was evaluated on other images than {source} holds: run '{again}' again")
    began = time.monotonic()
    logits = evaluate.logits_of(model, checkpoint, images)
    rate = len(images) / (time.monotonic() - began)
    shares = softmax(logits, evaluation["temperature"])
    skipped = list(dict.fromkeys([*trained.skipped, *held_out.skipped, *images.skipped]))
    return {
        "epoch": checkpoint.epoch,
        "with_images": with_images,
        "made": {"at": datetime.now(UTC).isoformat(timespec="seconds"), **provenance.describe()},
        "run": facts.origin(checkpoint, model),
        "history": checkpoint.history,
        "evaluation": evaluation,
        "headline": facts.headline(evaluation),
        "confused": confusion.most_confused(np.array(evaluation["confusion"]), checkpoint.classes, PAIRS),
        "coverage": calibration.coverage_curve(*evaluate.answers(logits, images.targets, evaluation["temperature"])),
        "robustness": robustness.measure(model, checkpoint, images, rate),
        "filters": filters.show(model),
        **(examples.show(model, checkpoint, trained, images, shares) if with_images else examples.none()),
        "exported": facts.exported(run, checkpoint, images.pixels),
        "skipped": {"count": len(skipped), "files": [_within(source, line) for line in skipped] if with_images else []},
    }


def _within(source: str | Path, line: str) -> str:
    """A line about a file without the folder that the data lie in here."""
    return line.removeprefix(f"{source}/")


def without_pictures(content: Any) -> Any:
    """The same data without the pictures inside them."""
    if isinstance(content, dict):
        return {key: without_pictures(value) for key, value in content.items() if key != "picture"}
    return [without_pictures(value) for value in content] if isinstance(content, list) else content

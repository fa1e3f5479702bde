"""The report of a run, report.html and report.json: what it is, how good it is, where it fails and what it sees."""

import json
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.package.manifest import MODEL, REPORT, PackageError
from models.terminal import program
from training import files, provenance
from training.data import dataset, decoded
from training.data.dataset import ImageSet
from training.errors import CheckpointError, ReportError, TrainingError, in_a_line
from training.evaluation import calibration, choices, confusion, evaluate
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.publishing import export
from training.report import advice, examples, facts, filters, mistakes, novel, page, robustness, strengths

ERROR = "report-error.txt"
PAIRS = 30  # of classes confused most
TIMED = 64  # images by which it is told how many more can be answered


def report(run: Path, source: str | Path, with_images: bool = True, name: str = "") -> dict[str, Any]:
    """Write run/report.html and run/report.json of the checkpoint in ``run``, evaluated on ``source``; returns the latter. They
    call it ``name``, or by its folder.

    Without ``with_images`` they hold no image and no file name of the data, for packages that strangers get.

    Raises:
        CheckpointError: the run was not evaluated since its last epoch, or on other images than ``source`` holds.
        DataError: see there.
        StorageError: the files cannot be written; those before stay.
        ReportError: something else failed; run/report-error.txt has the traceback.
    """
    with files.told(run):
        (run / ERROR).unlink(missing_ok=True)
    try:
        content = gather(run, source, with_images) | ({"name": name} if name else {})
        html, result = page.render(content), without_pictures(content)
        with files.whole(run / REPORT, run / facts.FILE) as (report_file, facts_file):
            report_file.write_text(html, encoding="utf-8", errors="xmlcharrefreplace")
            facts_file.write_text(json.dumps(result, indent=1))
    except (TrainingError, PackageError):
        raise
    except Exception as err:
        with files.told(run / ERROR):
            (run / ERROR).write_text(traceback.format_exc())
        raise ReportError(f"the report cannot be made ({in_a_line(err)}): {run / ERROR} says where") from err
    return result


def gather(run: Path, source: str | Path, with_images: bool = True) -> dict[str, Any]:
    """Everything that the report says, as ``report`` has it; pictures under keys of that name."""
    checkpoint, model, _ = checkpoints.load(run)
    evaluation = evaluate.read(run, checkpoint)
    with decoded.beside(run):
        trained, held_out = evaluate.training_images(source, checkpoint)
        test = dataset.load_test(source, checkpoint.recipe.input, checkpoint.classes)
    images = held_out if test is None else test
    if dataset.fingerprint(images) != evaluation["dataset_sha256"]:
        again = program.command("evaluate", run, source)
        raise CheckpointError(f"{run} was evaluated on other images than {source} holds: run '{again}' again")
    reference = evaluate.read_novelty(run, evaluation)
    outputs = evaluate.outputs_of(model, checkpoint, images)
    answers = calibration.answers(outputs.logits, images.targets, evaluation["temperature"])
    confused = confusion.most_confused(confusion.of(evaluation), checkpoint.classes, PAIRS)
    skipped = list(dict.fromkeys([*trained.skipped, *held_out.skipped, *images.skipped]))
    exported = facts.exported(run, checkpoint, images.pixels)
    answer = answering(run, checkpoint, model, images, exported)
    content: dict[str, Any] = {
        "epoch": checkpoint.epoch,
        "name": run.resolve().name,
        "with_images": with_images,
        "made": {"at": datetime.now(UTC).isoformat(timespec="seconds"), **provenance.describe()},
        "run": facts.origin(checkpoint, model),
        "history": checkpoint.history,
        "kept": facts.kept(checkpoint),
        "choices": choices.told(evaluation, msgspec.to_builtins(checkpoint.recipe), facts.precisions(exported)),
        "training_images": np.bincount(trained.targets, minlength=len(checkpoint.classes)).tolist(),
        "evaluation": evaluation,
        "headline": facts.headline(evaluation),
        "confused": confused,
        "coverage": calibration.coverage_curve(answers.confidence, answers.right),
        "robustness": robustness.measure(answer, images, rate_of(answer, images)),
        "sure_mistakes": mistakes.count_sure(answers, advice.SURE),
        "filters": filters.show(model, None if "started_from" in checkpoint.provenance else begun(checkpoint)),
        "novel": novel.show(reference, outputs.features, images, answers, with_images),
        **(examples.show(model, checkpoint, trained, images, answers, confused) if with_images else examples.none()),
        "exported": exported,
        "skipped": {"count": len(skipped), "files": [_within(source, line) for line in skipped] if with_images else []},
    }
    return content | {
        "judged": strengths.judge(evaluation, content["robustness"], content["headline"]),
        "next": advice.advise(content),
    }


def answering(
    run: Path, checkpoint: Checkpoint, model: Classifier, images: ImageSet, exported: dict[str, Any]
) -> robustness.Answer:
    """What answers disturbed images: the exported graph where there is one, on a CPU several times as quick as torch."""
    if "parity" in exported and (run / MODEL).is_file() and not torch.cuda.is_available():
        session = export.open_session(run / MODEL)
        return lambda pixels: export.logits_of(session, pixels, say=False)
    return lambda pixels: evaluate.logits_of(model, checkpoint, _in_place_of(images, pixels), say=False)


def _in_place_of(images: ImageSet, pixels: NDArray[np.uint8]) -> ImageSet:
    """Other pixels (n, height, width, 3), of any number, without labels."""
    return replace(images, pixels=pixels, targets=np.zeros(len(pixels), np.int64))


def rate_of(answer: robustness.Answer, images: ImageSet) -> float:
    """Images/s."""
    some = images.pixels[:TIMED]
    began = time.monotonic()
    answer(some)
    return len(some) / (time.monotonic() - began)


def begun(checkpoint: Checkpoint) -> Classifier:
    """The network as a run from random weights began."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(checkpoint.recipe.seed)
        return checkpoint.build()


def _within(source: str | Path, line: str) -> str:
    """A line about a file without the folder that the data lie in here."""
    return line.removeprefix(f"{source}/")


def without_pictures(content: Any) -> Any:
    """The same data without the pictures inside them."""
    if isinstance(content, dict):
        return {key: without_pictures(value) for key, value in content.items() if key != "picture"}
    return [without_pictures(value) for value in content] if isinstance(content, list) else content

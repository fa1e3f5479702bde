"""An exported run -> a model package in the store: graphs, golden inputs, card, manifest, and its report where it has one."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.image.fingerprint import fingerprint
from models.package import manifest as manifests
from models.package import statistics
from models.package.drift_reference import FILE as REFERENCE
from models.package.manifest import Accuracy, Evaluation, Manifest
from models.package.precision import GRAPHS
from models.package.probability import BINS
from models.registry import registry
from models.terminal import program
from training import files
from training.errors import CheckpointError
from training.evaluation import choices, evaluate
from training.loop import checkpoint as checkpoints
from training.loop import initial_weights, teacher
from training.loop.checkpoint import Checkpoint
from training.publishing import export, golden

MOST_ROWS, MOST_NAMES = 200, 100  # classes of the card's table, and names in its text
REPORT_FACTS = "report.json"  # of a run: what its report says, as data


def publish(run: Path, store: Path, name: str, with_weights: bool = False) -> Manifest:
    """Publish the exported checkpoint in ``run`` as the next version of ``name``, ``with_weights`` to begin other runs with.

    Raises:
        CheckpointError: the run was not evaluated and exported since its last epoch, or its report is of before.
        PackageError: the package would not verify, the name is not one, or the store cannot be written to.
        StorageError: there is no room to prepare it.
    """
    checkpoint, model, _ = checkpoints.load(run)
    evaluation = evaluate.read(run, checkpoint)
    parity = checkpoints.read_result(run / export.FILE, "export", checkpoint)
    if not (run / manifests.MODEL).is_file():
        raise CheckpointError(f"{run / manifests.MODEL} does not exist: run '{program.command('export', run, 'DATA')}' again")
    if evaluation["dataset_sha256"] != parity["dataset_sha256"]:
        raise CheckpointError(f"{run} was evaluated and exported on different images; run both on the same folder")
    if evaluation["temperature"] != parity.get("temperature"):
        again = program.command("export", run, "DATA")
        raise CheckpointError(f"{run} was evaluated again since it was exported: run '{again}' again")
    has_report = _has_report(run, checkpoint, evaluation)
    draft = _draft(name, checkpoint, evaluation, parity, [manifests.REPORT] if has_report else [])
    with files.told(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        graphs = {name for name in GRAPHS.values() if (run / name).is_file()}
        others = {name for name in (manifests.ANSWERS, REFERENCE) if (run / name).is_file()}  # not of every earlier run
        for made in graphs | others | ({manifests.REPORT} if has_report else set()):
            shutil.copyfile(run / made, folder / made)
        images = golden.made(draft.input.height, draft.input.width)
        logits = export.logits_of(export.open_session(folder / manifests.MODEL), images, say=False)
        np.savez_compressed(folder / manifests.GOLDEN, images=images, logits=logits)
        (folder / manifests.CARD).write_text(
            card(draft, evaluation, export.opset_of(folder / manifests.MODEL)), encoding="utf-8", errors="backslashreplace"
        )
        if with_weights:
            checkpoints.save(folder, _passed_on(checkpoint), model.state_dict(), training={})
        return registry.publish(store, folder, draft)


def _passed_on(checkpoint: Checkpoint) -> Checkpoint:
    """What a package says of its checkpoint: all but the names of the files that were left out."""
    return msgspec.structs.replace(checkpoint, data=checkpoint.data | {"skipped": []}, weights="")


def _has_report(run: Path, checkpoint: Checkpoint, evaluation: dict[str, Any]) -> bool:
    """Whether there is one; raises CheckpointError when it tells of something else than what is published."""
    if not (run / manifests.REPORT).is_file():
        return False
    if checkpoints.read_result(run / REPORT_FACTS, "report", checkpoint).get("evaluation") != evaluation:
        again = program.command("report", run, "DATA")
        raise CheckpointError(f"{run / manifests.REPORT} is of another evaluation: run '{again}' again, or remove it")
    return True


def _draft(name: str, checkpoint: Checkpoint, evaluation: dict[str, Any], parity: dict[str, Any], more: list[str]) -> Manifest:
    """The manifest without version, date and hashes, which the registry sets."""
    parities = {"parity_max_difference": parity["max_difference"], "parity_same_top1": parity["same_top1"]}
    measured = {key: evaluation[key] for key in Evaluation.__struct_fields__ if key in evaluation}
    measured["fitted_temperature"] = parity["temperature"]
    facts = {key: value for key, value in checkpoint.data.items() if key != "skipped"}
    recipe = checkpoint.recipe
    none = "0" * 64
    return Manifest(
        schema=manifests.SCHEMA,
        name=name,
        version=1,
        created=datetime.now(UTC),
        architecture=recipe.architecture,
        labels=list(checkpoint.classes),
        input=recipe.input,
        preprocessing=fingerprint(recipe.input),
        outputs=parity["outputs"],
        temperature=1.0,  # the graph divides by the fitted one
        threshold=evaluation["threshold"],
        novelty_threshold=evaluation.get("novelty_threshold") if manifests.NOVELTY in parity["outputs"] else None,
        evaluation=Evaluation(**measured, **parities, providers=[Accuracy(**figure) for figure in parity["providers"]]),
        provenance={
            **checkpoint.provenance,
            "data": facts | {"files_left_out": len(checkpoint.data["skipped"])},
            "mean": checkpoint.mean,
            "std": checkpoint.std,
            "recipe": {key: value for key, value in msgspec.to_builtins(recipe).items() if key != "input"},
            "epochs": checkpoint.epoch,
            "kept_epoch": checkpoint.kept_epoch,
            "training_seconds": round(checkpoint.seconds),
        },
        files=dict.fromkeys((manifests.MODEL, manifests.GOLDEN, manifests.CARD, *more), none),
    )


def _started_from(source: dict[str, Any]) -> str:
    before = source.get("started_from")
    return "" if before is None else f"It started from {initial_weights.told(before, source['recipe'].get('weights', ''))}.\n\n"


def _taught(source: dict[str, Any]) -> str:
    return f"It was taught by {teacher.told(source['teacher'])}.\n\n" if "teacher" in source else ""


def _despite(data: dict[str, Any]) -> str:
    known = "; ".join(data.get("trained_despite", ()))
    return f"**Its figures are too good to be true**, by what was known of the data: {known}.\n\n" if known else ""


def _more(manifest: Manifest) -> str:
    report = manifests.REPORT
    what = "curves, confusions, mistakes, robustness, and what the network sees"
    return f"[{report}]({report}) shows {what}." if report in manifest.files else "It was published without a report."


def _untrained(source: dict[str, Any]) -> str:
    return "" if source["epochs"] else "Its weights are random: it is for measuring speed, its answers mean nothing.\n\n"


def _epochs(source: dict[str, Any]) -> str:
    kept = source.get("kept_epoch") or source["epochs"]
    more = "" if kept == source["epochs"] else f" (the weights of epoch {kept} are kept)"
    return f"{source['epochs']} epochs{more}"


def _interval(evaluation: Evaluation) -> str:
    """In which chance leaves top-1."""
    low, high = statistics.wilson(evaluation.top1, evaluation.samples)
    return f"{100 * low:.1f} to {100 * high:.1f}, 95 %"


def _top5(manifest: Manifest) -> str:
    """Nothing where it would be 100 % by itself."""
    few = len(manifest.labels) <= manifests.ALWAYS_TOP5
    return "" if few else f"| top-5 | {100 * manifest.evaluation.top5:.2f} % |\n"


def _choices(manifest: Manifest, measured: dict[str, Any]) -> str:
    precisions = {figure.precision for figure in manifest.evaluation.providers}
    return choices.told(measured, manifest.provenance["recipe"], precisions)


def _class_rows(rows: list[dict[str, Any]]) -> str:
    """The table of the classes, of many those of the lowest F1."""
    many = len(rows) > MOST_ROWS
    shown = sorted(rows, key=lambda row: (row["f1"] is None, row["f1"]))[:MOST_ROWS] if many else rows
    told = f"\n\nOf {len(rows):,} classes, these {MOST_ROWS} have the lowest F1; `{manifests.FILE}` has the recall of all."
    return "\n".join(map(_class_row, shown)) + told * many


def _names(labels: list[str]) -> str:
    more = len(labels) - MOST_NAMES
    told = f" and {more:,} more, which `{manifests.FILE}` lists" if more > 0 else ""
    return ", ".join(labels[:MOST_NAMES]) + told


def _class_row(figures: dict[str, Any]) -> str:
    shares = " | ".join(_percent(figures[key]) for key in ("precision", "f1"))
    return f"| {figures['label'].replace('|', chr(92) + '|')} | {figures['support']} | {_recall(figures)} | {shares} |"


def _recall(figures: dict[str, Any]) -> str:
    """With the interval that chance leaves."""
    if figures["recall"] is None:
        return _percent(None)
    low, high = statistics.wilson(figures["recall"], figures["support"])
    return f"{_percent(figures['recall'])} ({100 * low:.0f} to {100 * high:.0f})"


def _bins(evaluation: Evaluation) -> int:
    return evaluation.calibration_bins or BINS


def _floor(evaluation: Evaluation) -> str:
    floor, high = evaluation.calibration_floor, evaluation.calibration_floor_high
    if floor is None or high is None:
        return ""
    return f"| of a perfectly calibrated model, on as many images | {floor:.4f} on average, 95 % below {high:.4f} |\n"


def _remarks(measured: dict[str, Any]) -> str:
    """What is to be said of temperature and threshold; each a paragraph."""
    found = [measured.get(key, "") for key in ("temperature_reason", "threshold_reason")]
    return "".join(f"{text[:1].upper()}{text[1:]}.\n\n" for text in found if text)


def _sure(manifest: Manifest) -> str:
    limit, enough = manifest.novelty_threshold, f"probability at least {manifest.threshold}"
    share = _percent(manifest.evaluation.coverage)
    if limit is None:
        return f'| answers not "unsure" ({enough}) | {share} |\n'
    novel = f"| novelty above {limit} | {_percent(manifest.evaluation.novel)} |\n"
    return f'{novel}| answers not "unsure" ({enough}, novelty at most {limit}) | {share} |\n'


def _retrieval(evaluation: Evaluation) -> str:
    """What the features are worth."""
    if evaluation.recall_at_1 is None:
        return ""
    return (
        f"| features: the nearest other image is of the class (recall@1) | {_percent(evaluation.recall_at_1)} |\n"
        f"| features: mean average precision | {_percent(evaluation.mean_average_precision)} |\n"
    )


def _explanations(measured: dict[str, Any]) -> str:
    """How far class activation maps can be believed."""
    if (found := measured.get("explanations")) is None:
        return ""
    scores = {name: f"{found[name]['score']:.3f} ± {found[name]['error']:.3f}" for name in ("map", "centre", "random")}
    return (
        f"| maps of places (ROAD, {found['images']} images) | {scores['map']} |\n"
        f"| of the centre of the image, and of random maps | {scores['centre']}, {scores['random']} |\n"
    )


def _others(manifest: Manifest) -> str:
    limit, novel = manifest.novelty_threshold, _percent(manifest.evaluation.novel)
    if limit is None:
        return (
            'It is sure or "unsure": the threshold was chosen on images of these\nclasses and promises nothing about others, and '
            "this package has no score of novelty."
        )
    return (
        f'It is "unsure" where its novelty is above {limit}, as\nthat of {novel} of the images above is; how many others that '
        "finds depends on how unlike they are."
    )


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{100 * share:.1f} %"


def card(manifest: Manifest, measured: dict[str, Any], opset: int | None = None) -> str:
    """A page in Markdown for people who decide whether to use the model; ``measured`` is what evaluate.py found, ``opset`` is of
    the graph."""
    evaluation, source = manifest.evaluation, manifest.provenance
    data, recipe = source["data"], source["recipe"]
    written = "" if opset is None else f"; ONNX opset {opset}"
    classes = _class_rows(measured["classes"])
    return f"""# {manifest.name}

{manifest.architecture}, {len(manifest.labels)} classes, {manifest.input.height}x{manifest.input.width} pixels RGB
(shorter side resized to {manifest.input.resize}, centre cut out, {manifest.input.interpolation}){written}.

## Figures

Measured on the {evaluation.samples} {evaluation.split} images of `{evaluation.dataset}`
(SHA-256 {evaluation.dataset_sha256[:16]}). {_choices(manifest, measured)}

| | |
| --- | --- |
| top-1 | {100 * evaluation.top1:.2f} % ({_interval(evaluation)}) |
{_top5(manifest)}| mean F1 of the classes | {100 * measured["macro_f1"]:.2f} % |
| calibration error ({_bins(evaluation)} bins), temperature {measured["temperature"]} in the graph | \
{evaluation.calibration_error:.4f} |
| without the temperature | {measured["calibration_error_before"]:.4f} |
{_floor(evaluation)}{_sure(manifest)}| of these right | {_percent(evaluation.accuracy_kept)} |
{_retrieval(evaluation)}{_explanations(measured)}\
| ONNX Runtime against torch, worst logit | {evaluation.parity_max_difference:.1e} |
{"".join(f"| top-1 on {a.provider}, {a.precision} | {100 * a.top1:.2f} % |{chr(10)}" for a in evaluation.providers)}
{_remarks(measured)}| class | images | right (recall; 95 %) | precision | F1 |
| --- | --- | --- | --- | --- |
{classes}

## Training

`{source["command"]}`

{data["training_images"]} training and {data["validation_images"]} validation images, {data["files_left_out"]} files left
out; seed {recipe["seed"]}; {_epochs(source)} in {source["training_seconds"]} s on {source["hardware"]};
commit {source["git_commit"]}; {", ".join(f"{k} {v}" for k, v in source["libraries"].items())}.

{_started_from(source)}{_taught(source)}{_despite(data)}{_more(manifest)}

## Limits

{_untrained(source)}It knows these classes alone and gives every image one of them: {_names(manifest.labels)}. An image
of something else gets one of them too. {_others(manifest)}
"""

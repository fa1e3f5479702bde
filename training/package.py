"""An exported run -> a model package in the store: graph, golden inputs, card, manifest.

Neighbours: evaluate.py and export.py must have run on the same checkpoint; models/registry.py publishes.
"""

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import manifest as manifests
from models import registry
from models.fingerprint import fingerprint
from models.input import InputSpec
from models.manifest import Accuracy, Evaluation, Manifest
from models.precision import GRAPHS
from training import checkpoint as checkpoints
from training import evaluate, export
from training.checkpoint import Checkpoint
from training.errors import CheckpointError

GOLDEN_IMAGES = 4


def publish(run: Path, store: Path, name: str, with_weights: bool = False) -> Manifest:
    """Publish the exported checkpoint in ``run`` as the next version of ``name``, ``with_weights`` to begin other runs with.

    Raises:
        CheckpointError: the run was not evaluated and exported since its last epoch.
        PackageError: the package would not verify, or the name is not one.
    """
    checkpoint, model, _ = checkpoints.load(run)
    evaluation = _read(run / evaluate.FILE, "evaluate", checkpoint)
    parity = _read(run / export.FILE, "export", checkpoint)
    if not (run / manifests.MODEL).is_file():
        raise CheckpointError(f"{run / manifests.MODEL} does not exist: run 'python -m training export' again")
    if evaluation["dataset_sha256"] != parity["dataset_sha256"]:
        raise CheckpointError(f"{run} was evaluated and exported on different images; run both on the same folder")
    draft = _draft(name, checkpoint, evaluation, parity)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        for graph in {name for name in GRAPHS.values() if (run / name).is_file()}:
            shutil.copyfile(run / graph, files / graph)
        write_golden(files / manifests.MODEL, draft.input, files / manifests.GOLDEN)
        (files / manifests.CARD).write_text(card(draft))
        if with_weights:
            checkpoints.save(files, _passed_on(checkpoint), model.state_dict(), training={})
        return registry.publish(store, files, draft)


def _passed_on(checkpoint: Checkpoint) -> Checkpoint:
    """What a package says of its checkpoint: all but the names of the files that were left out."""
    return msgspec.structs.replace(checkpoint, data=checkpoint.data | {"skipped": []}, weights="")


def _read(path: Path, command: str, checkpoint: Checkpoint) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: run 'python -m training {command}' first")
    result = json.loads(path.read_text())
    if result.pop("epoch") != checkpoint.epoch:
        raise CheckpointError(f"{path} is of another epoch than the checkpoint: run 'python -m training {command}' again")
    return result


def _draft(name: str, checkpoint: Checkpoint, evaluation: dict[str, Any], parity: dict[str, Any]) -> Manifest:
    """The manifest without version, date and hashes, which the registry sets."""
    temperature, threshold = evaluation.pop("temperature"), evaluation.pop("threshold")
    parities = {"parity_max_difference": parity["max_difference"], "parity_same_top1": parity["same_top1"]}
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
        temperature=temperature,
        threshold=threshold,
        evaluation=Evaluation(**evaluation, **parities, providers=[Accuracy(**figure) for figure in parity["providers"]]),
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
        files=dict.fromkeys((manifests.MODEL, manifests.GOLDEN, manifests.CARD), none),
    )


def golden_images(spec: InputSpec, n: int = GOLDEN_IMAGES) -> NDArray[np.uint8]:
    """Smooth random colour fields, (n, height, width, 3) uint8: made, not taken, so that a package passes on nobody's
    pictures. They only have to make every layer work; two runtimes that agree on them compute the same."""
    random = np.random.default_rng(1962)  # Hubel and Wiesel's paper on the cat's visual cortex
    fields = random.integers(0, 256, (n, 6, 6, 3)).astype(np.uint8)
    size = (spec.width, spec.height)
    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in fields])


def write_golden(model: Path, spec: InputSpec, path: Path) -> None:
    """Golden inputs with the logits that the exported graph gives for them."""
    images = golden_images(spec)
    np.savez_compressed(path, images=images, logits=export.logits_of(export.open_session(model), images))


def _started_from(source: dict[str, Any]) -> str:
    before = source.get("started_from")
    if before is None:
        return ""
    if "weights" in before:
        return f"It started from torchvision's weights {before['weights']} (SHA-256 {before['weights_sha256'][:16]}).\n\n"
    return (
        f"It started from the weights of `{before['command']}` ({before['epochs']} epochs in {before['training_seconds']} s, "
        f"commit {before['git_commit']}).\n\n"
    )


def _untrained(source: dict[str, Any]) -> str:
    return "" if source["epochs"] else "Its weights are random: it is for measuring speed, its answers mean nothing.\n\n"


def card(manifest: Manifest) -> str:
    """A page in Markdown for people who decide whether to use the model."""
    evaluation, source = manifest.evaluation, manifest.provenance
    data, recipe = source["data"], source["recipe"]
    classes = "\n".join(f"| {label} | {100 * share:.1f} % |" for label, share in evaluation.per_class.items())
    return f"""# {manifest.name}

{manifest.architecture}, {len(manifest.labels)} classes, {manifest.input.height}x{manifest.input.width} pixels RGB
(shorter side resized to {manifest.input.resize}, centre cut out, {manifest.input.interpolation}).

## Figures

Measured on the {evaluation.samples} {evaluation.split} images of `{evaluation.dataset}`
(SHA-256 {evaluation.dataset_sha256[:16]}).

| | |
| --- | --- |
| top-1 | {100 * evaluation.top1:.2f} % |
| top-5 | {100 * evaluation.top5:.2f} % |
| calibration error (15 bins, temperature {manifest.temperature}) | {evaluation.calibration_error:.4f} |
| answers not "unsure" (probability at least {manifest.threshold}) | {100 * evaluation.coverage:.1f} % |
| ONNX Runtime against torch, worst logit | {evaluation.parity_max_difference:.1e} |
{"".join(f"| top-1 on {a.provider}, {a.precision} | {100 * a.top1:.2f} % |{chr(10)}" for a in evaluation.providers)}
| class | right |
| --- | --- |
{classes}

## Training

`{source["command"]}`

{data["training_images"]} training and {data["validation_images"]} validation images, {data["files_left_out"]} files left
out; seed {recipe["seed"]}; {source["epochs"]} epochs in {source["training_seconds"]} s on {source["hardware"]};
commit {source["git_commit"]}; {", ".join(f"{k} {v}" for k, v in source["libraries"].items())}.

{_started_from(source)}## Limits

{_untrained(source)}It knows these classes alone and gives every image one of them: {", ".join(manifest.labels)}. An image
of something else gets a wrong answer, though often an "unsure" one.
"""

"""Checkpoint -> model.onnx: one file, preprocessing of pixel values inside, compared with torch on real images.

Neighbours: evaluate.py measured the checkpoint, package.py publishes what this writes.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from models.manifest import MODEL, OUTPUTS
from training import checkpoint as checkpoints
from training import data, evaluate
from training.architectures.classifier import Classifier
from training.checkpoint import Checkpoint
from training.errors import ExportError
from training.train import normalise

FILE = "parity.json"
TOLERANCE = 1e-3  # |logits of ONNX Runtime - logits of torch|
PROVIDER = "CPUExecutionProvider"
BATCH = 64


class Servable(nn.Module):
    """images (batch, height, width, 3) uint8 RGB -> logits, features, feature_map, all float32."""

    def __init__(self, classifier: Classifier, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.classifier = classifier
        self.checkpoint = checkpoint

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.classifier.outputs(normalise(images, self.checkpoint))


def export(run: Path, source: Path) -> dict[str, Any]:
    """Write run/model.onnx and run/parity.json, comparing both on the evaluation images of ``source``.

    Raises:
        ExportError: a logit differs by more than the tolerance; model.onnx is removed.
        CheckpointError, DataError: see those.
    """
    checkpoint, model, _ = checkpoints.load(run)
    images, _ = evaluate.evaluation_images(source, checkpoint)
    write_onnx(model, checkpoint, run / MODEL)
    session = open_session(run / MODEL)
    exported = logits_of(session, images.pixels)
    expected = evaluate.logits_of(model, checkpoint, images)
    difference = float(np.abs(exported - expected).max())
    if not difference <= TOLERANCE:  # NaN too
        (run / MODEL).unlink()
        (run / FILE).unlink(missing_ok=True)
        raise ExportError(
            f"the exported graph differs from the checkpoint by {difference:.2g} in a logit, the limit is {TOLERANCE:g}; "
            "nothing was exported"
        )
    result = {
        "epoch": checkpoint.epoch,
        "samples": len(images),
        "dataset_sha256": data.fingerprint(images),
        "max_difference": difference,
        "same_top1": float((exported.argmax(1) == expected.argmax(1)).mean()),
        "provider": PROVIDER,
        "precision": "fp32",
        "top1": round(float((exported.argmax(1) == images.targets).mean()), 4),
        "outputs": {output.name: output.shape[1:] for output in session.get_outputs()},
    }
    (run / FILE).write_text(json.dumps(result, indent=1))
    return result


def write_onnx(model: Classifier, checkpoint: Checkpoint, path: Path) -> None:
    """Trace the network with a batch of free size and write one file without external data."""
    spec = checkpoint.recipe.input
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)  # sizes 0 and 1 would be fixed in the graph
    servable = Servable(checkpoint.answering(model).cpu(), checkpoint).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(
            servable,
            (example,),
            path,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """The exported graph on the provider whose answers are the reference."""
    return onnxruntime.InferenceSession(path, providers=[PROVIDER])


def logits_of(session: onnxruntime.InferenceSession, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, classes) float32 by ONNX Runtime of pixels (n, height, width, 3) uint8."""
    begins = tqdm(range(0, len(pixels), BATCH), "compare", unit=" batches", leave=False)
    return np.concatenate([np.asarray(session.run(["logits"], {"images": pixels[b : b + BATCH]})[0]) for b in begins])

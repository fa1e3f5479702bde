"""Checkpoint -> ONNX graphs: one file each, preprocessing of pixel values and temperature inside, measured on real images."""

import json
import logging
import os
import shutil
import warnings
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from models.package import held_out_answers
from models.package import precision as precisions
from models.package.manifest import ANSWERS, MODEL, NOVELTY, OUTPUTS, Accuracy
from models.package.precision import CPU, GRAPHS, OPENVINO, Precision
from training import files
from training.data import dataset, decoded
from training.data.dataset import ImageSet
from training.data.pixels import Pixels
from training.errors import ExportError, RecipeError
from training.evaluation import evaluate
from training.evaluation.calibration import slices
from training.evaluation.novelty import Reference
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint
from training.loop.normalisation import normalise
from training.networks.classifier import Classifier
from training.publishing import drift_reference, golden
from training.publishing.novelty import attach
from training.publishing.quantize import quantize

FILE = "parity.json"
TOLERANCE = 1e-3  # |logits of ONNX Runtime - logits of torch|
RELATIVE = 1e-4  # of the largest logit, where that is more: single precision keeps 7 digits, of which a deep network loses some
NOVELTY_TOLERANCE = 0.02
log = logging.getLogger(__name__)
CALIBRATION_IMAGES = 512
OPSETS = range(18, 24)  # that torch's exporter writes and ONNX Runtime reads; 18 is read since ONNX Runtime 1.14
BATCH = 64
SMALL = 64  # pixels, of the shorter side of images that are no photographs


class Servable(nn.Module):
    """images (batch, height, width, 3) uint8 RGB -> logits, features, feature_map, all float32."""

    def __init__(self, classifier: Classifier, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.classifier = classifier
        self.checkpoint = checkpoint

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = normalise(images, self.checkpoint).to(self.classifier.head.weight.dtype)
        logits, features, feature_map = self.classifier.outputs(pixels)
        return logits.float(), features.float(), feature_map.float()


def export(run: Path, source: str | Path, fp16: bool | None = None, opset: int | None = None) -> dict[str, Any]:
    """Write the graphs of the checkpoint in ``run`` and run/parity.json, measured on the evaluation images of ``source``;
    answers.npz holds what model.onnx answered for each.

    Their logits are those of the checkpoint divided by the temperature that evaluate.py fitted, so that their softmax is
    calibrated. model.onnx is compared with torch. model.int8.onnx takes its ranges from training images and stays only where
    it answers as model.onnx does but for what chance explains (precision.losses); so does model.fp16.onnx, for GPUs,
    which is written with ``fp16``, or as ``wants_fp16`` says where that is None. reference.npz says what these images are like.
    ``opset``: of OPSETS, for runtimes that read no later one. Where evaluate.py learnt what is novel, every graph has that output
    too.

    Raises:
        RecipeError: no such opset.
        ExportError: a logit differs by more than TOLERANCE, and than RELATIVE of the largest one; model.onnx is removed.
        CheckpointError: the run was not evaluated since its last epoch; and see there.
        DataError: see there.
    """
    check_opset(opset)
    checkpoint, model, _ = checkpoints.load(run)
    evaluation = evaluate.read(run, checkpoint)
    reference = evaluate.read_novelty(run, evaluation)
    with decoded.beside(run):
        trained, held_out = evaluate.training_images(source, checkpoint)
        test = dataset.load_test(source, checkpoint.recipe.input, checkpoint.classes)
    images = held_out if test is None else test
    half = wants_fp16(checkpoint) if fp16 is None else fp16
    result = write_graphs(run, checkpoint, model, images, trained.pixels, evaluation["temperature"], half, opset, reference)
    try:
        drift_reference.write(run, images, source)
    except BaseException:
        with suppress(OSError):
            (run / FILE).unlink()  # so that export is known not to have ended
        raise
    return result


def wants_fp16(checkpoint: Checkpoint) -> bool:
    """Whether a graph in fp16 is written without being asked for: of networks for photographs, which a GPU may serve one day, and
    of all on a machine that has one."""
    return min(checkpoint.recipe.input.height, checkpoint.recipe.input.width) > SMALL or torch.cuda.is_available()


def write_graphs(
    run: Path,
    checkpoint: Checkpoint,
    model: Classifier,
    images: ImageSet,
    calibration: Pixels,
    temperature: float = 1.0,
    fp16: bool = False,
    opset: int | None = None,
    reference: Reference | None = None,
) -> dict[str, Any]:
    """As ``export``, with the images to measure on and those to calibrate with, (n, height, width, 3) uint8."""
    try:
        with files.staged(run, (*GRAPHS.values(), ANSWERS), FILE) as folder:
            return _write_graphs(folder, checkpoint, model, images, calibration, temperature, fp16, opset, reference)
    except ExportError:  # what is there was made of an earlier network
        for name in (*GRAPHS.values(), ANSWERS, FILE):
            (run / name).unlink(missing_ok=True)
        raise


def _write_graphs(
    run: Path,
    checkpoint: Checkpoint,
    model: Classifier,
    images: ImageSet,
    calibration: Pixels,
    temperature: float,
    fp16: bool,
    opset: int | None,
    reference: Reference | None,
) -> dict[str, Any]:
    write_onnx(model, checkpoint, run / MODEL, temperature, opset=opset)
    session = open_session(run / MODEL)
    exported = logits_of(session, images.pixels)
    expected, features = evaluate.outputs_of(model, checkpoint, images, device="cpu")
    expected /= temperature
    difference = float(np.max([np.abs(exported[rows] - expected[rows]).max() for rows in slices(exported)]))
    limit = max(TOLERANCE, RELATIVE * float(np.abs(expected).max()))
    if not difference <= limit:  # NaN too
        raise ExportError(
            f"the exported graph differs from the checkpoint by {difference:.2g} in a logit, the limit is {limit:.2g}; "
            "nothing was exported"
        )
    quantize(run / MODEL, run / GRAPHS["int8"], calibration[:: max(1, len(calibration) // CALIBRATION_IMAGES)])
    if fp16:
        write_onnx(model, checkpoint, run / GRAPHS["fp16"], temperature, half=True, opset=opset)
    if reference is not None and _novelty_is_exact(run, reference, images, features):
        for path in [run / name for name in set(GRAPHS.values()) if (run / name).is_file()]:
            attach(path, reference)
        session = open_session(run / MODEL)
    if len(images.identities):
        held_out_answers.write(run / ANSWERS, held_out_answers.of_logits(images.identities, images.targets, exported))
    providers = measure(run, images, exported)
    result = {
        "epoch": checkpoint.epoch,
        "samples": len(images),
        "dataset_sha256": dataset.fingerprint(images),
        "temperature": temperature,
        "opset": opset_of(run / MODEL),
        "max_difference": difference,
        "same_top1": float((exported.argmax(1) == expected.argmax(1)).mean()),
        "providers": providers,
        "left_out": _leave_out(run, providers, len(images)),
        "outputs": {output.name: output.shape[1:] for output in session.get_outputs()},
    }
    (run / FILE).write_text(json.dumps(result, indent=1))
    return result


def _novelty_is_exact(run: Path, reference: Reference, images: ImageSet, features: NDArray[np.float32]) -> bool:
    """Whether a graph gives the novelty that the features (n, dimensions) have; else the log says that it goes without.

    Features that hardly differ from image to image, as of a network that has learnt next to nothing, have distances that lie
    closer together than what rounding moves them.
    """
    trial = run / f".{NOVELTY}-{MODEL}"
    try:
        shutil.copyfile(run / MODEL, trial)
        attach(trial, reference)
        given = values_of(open_session(trial), images.pixels, NOVELTY)[:, 0]
    finally:
        trial.unlink(missing_ok=True)
    difference = float(np.abs(given - reference.novelty(features)).max())
    if exact := difference <= NOVELTY_TOLERANCE:  # NaN is not
        return exact
    log.warning(
        "the graphs have no output %s: it differs from the checkpoint's by %.2g, the limit is %g; train for longer",
        *(NOVELTY, difference, NOVELTY_TOLERANCE),
    )
    return False


def measure(run: Path, images: ImageSet, reference: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Top-1 of the graphs in ``run`` on every provider and in every precision that this machine computes in, each compared
    with the reference.

    reference: logits (n, classes) of the CPU provider in fp32, which are there already.
    """
    ways: list[tuple[str, Precision]] = [(provider, p) for provider in installed() for p in precisions.computable(provider)]
    ways.append((CPU, "fp16"))  # slow there, but rounded as on a GPU
    inputs = golden.made(*images.pixels.shape[1:3])
    promised = logits_of(open_session(run / MODEL), inputs, say=False)
    found: list[dict[str, Any]] = []
    for provider, precision in ways:
        if (run / GRAPHS[precision]).is_file():
            session = open_session(run / GRAPHS[precision], provider, precision)
            logits = reference if (provider, precision) == (CPU, "fp32") else logits_of(session, images.pixels)
            figures = _against(reference, logits, images.targets)
            figures["golden"] = round(min(1.0, golden.difference(logits_of(session, inputs, say=False), promised)), 4)
            found.append({"provider": provider, "precision": precision, **figures})
    return found


def _against(reference: NDArray[np.float32], logits: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Any]:
    """Top-1, and how the answers differ from those of the reference, as models.package.manifest.Accuracy has it."""
    expected, answered = reference.argmax(1), logits.argmax(1)
    before, now = expected == targets, answered == targets
    return {
        "top1": round(float(now.mean()), 4),
        "agreement": round(float((answered == expected).mean()), 4),
        "lost": int((before & ~now).sum()),
        "gained": int((now & ~before).sum()),
    }


def installed() -> list[str]:
    """The ONNX Runtime providers that are measured here, the quicker first."""
    return [p for p in (OPENVINO, CPU) if p in onnxruntime.get_available_providers()]


def _leave_out(run: Path, providers: list[dict[str, Any]], samples: int) -> dict[str, str]:
    """Remove graphs that surely lose too much; why, by precision."""
    measured = [Accuracy(**figure) for figure in providers]
    reasons: dict[str, str] = {}
    graphs: tuple[Precision, ...] = ("int8", "fp16")
    for precision in graphs:
        if lost := precisions.losses(measured, precision, samples):
            (run / GRAPHS[precision]).unlink()
            reasons[precision] = lost[0][1]
    return reasons


def check_opset(opset: int | None) -> None:
    """Raises RecipeError for an opset that no graph is written in."""
    if opset is not None and opset not in OPSETS:
        raise RecipeError(
            f"the opset is {opset}, graphs are written in {OPSETS[0]} to {OPSETS[-1]}; choose one of these, or none"
        )


def opset_of(path: Path) -> int:
    """The opset of ONNX that a graph is written in."""
    found = onnx.load(path, load_external_data=False).opset_import
    return next(entry.version for entry in found if entry.domain in ("", "ai.onnx"))


def write_onnx(
    model: Classifier,
    checkpoint: Checkpoint,
    path: Path,
    temperature: float = 1.0,
    half: bool = False,
    opset: int | None = None,
) -> None:
    """Trace the network, its logits divided by ``temperature``, with a batch of free size and write one file without
    external data; ``half``: in fp16. Raises ExportError where it cannot be written in ``opset``."""
    spec = checkpoint.recipe.input
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)  # sizes 0 and 1 would be fixed in the graph
    network = deepcopy(checkpoint.answering(model).cpu())
    with torch.no_grad():  # in the head it costs nothing
        network.head.weight.div_(temperature)
        network.head.bias.div_(temperature)
    servable = Servable(network.half() if half else network, checkpoint).eval()
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
            opset_version=opset,
        )
    _forget_sources(path)
    if opset is not None and (made := opset_of(path)) != opset:
        raise ExportError(f"{checkpoint.recipe.architecture} cannot be written in opset {opset}, only in {made}: choose that")


def _forget_sources(path: Path) -> None:
    """Remove what the exporter notes of the code it traced, the folders of this machine among it."""
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))  # the runtimes of that time read no later
    onnx.save(model, path)


def open_session(path: Path, provider: str = CPU, precision: Precision = "fp32") -> onnxruntime.InferenceSession:
    """The graph on one provider; as it is called by default, the one whose answers are the reference."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(*precisions.EXACT_INT8)
    if provider == OPENVINO:  # as the service opens it
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    threads = len(os.sched_getaffinity(0))
    return onnxruntime.InferenceSession(
        path, options, providers=[(provider, precisions.provider_options(provider, precision, threads))]
    )


def logits_of(session: onnxruntime.InferenceSession, pixels: Pixels, say: bool = True) -> NDArray[np.float32]:
    """Logits (n, classes) float32 by ONNX Runtime of pixels (n, height, width, 3) uint8."""
    return values_of(session, pixels, "logits", say)


def values_of(session: onnxruntime.InferenceSession, pixels: Pixels, output: str, say: bool = True) -> NDArray[np.float32]:
    """The same of another output (n, size)."""
    size = next(found.shape[1] for found in session.get_outputs() if found.name == output)
    values = np.empty((len(pixels), size), np.float32)
    for begin in tqdm(range(0, len(pixels), BATCH), "compare", unit=" batches", leave=False, disable=not say):
        values[begin : begin + BATCH] = np.asarray(session.run([output], {"images": pixels[begin : begin + BATCH]})[0])
    return values

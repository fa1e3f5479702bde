"""What a model package says of itself: read, validate, write. docs/model-package.md describes every field.

Neighbours: registry.py keeps packages, training/package.py writes them, service/runtime.py serves them.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from models import file
from models.errors import PackageError
from models.input import InputSpec

SCHEMA = 1
FILE = "manifest.json"
MODEL, GOLDEN, CARD = "model.onnx", "golden.npz", "card.md"
REPORT, ANSWERS = "report.html", "answers.npz"  # not in every package
ALWAYS_TOP5 = 5  # classes, of which the right one is always among the first five
OUTPUTS = ("logits", "features", "feature_map")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises for bytes that do not fit

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Name = Annotated[str, Meta(pattern=NAME)]
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Meta(pattern=FILE_NAME)]


class Accuracy(Struct, frozen=True, forbid_unknown_fields=True):
    """Top-1 of the exported graph on the evaluation images, on one ONNX Runtime provider in one precision.

    The rest compares with model.onnx in fp32 on the CPU, image by image; packages published before it was there lack it.
    """

    provider: str
    precision: str
    top1: Share
    agreement: Share | None = None  # share of the images with the same answer
    lost: Natural | None = None  # images that only the other answers right, and
    gained: Natural | None = None  # that only this one does


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured, on which images. ``split`` is "test", or "validation" where the data have no test images.

    calibration_error is the expected calibration error over ``calibration_bins`` equal bins of confidence, after temperature
    scaling (Guo et al. 2017, arXiv 1706.04599); coverage is the share of answers that are not "unsure". What has a default
    came later: packages published before it lack it, and have 15 bins.
    """

    dataset: str
    split: str
    dataset_sha256: Sha256
    samples: Count
    top1: Share
    top5: Share
    per_class: dict[str, Share]
    calibration_error: Share
    coverage: Share
    parity_max_difference: Annotated[float, Meta(ge=0)]  # |logits of ONNX Runtime - logits of torch|, worst of all
    parity_same_top1: Share
    providers: Annotated[list[Accuracy], Meta(min_length=1)]
    fitted_temperature: Positive | None = None  # what the graph divides its logits by; None: nothing
    calibration_error_before: Share | None = None  # without that
    accuracy_kept: Share | None = None  # of the answers that are not "unsure"
    calibration_bins: Count | None = None
    calibration_floor: Share | None = None  # calibration error of a perfect model on so many images: the mean, and
    calibration_floor_high: Share | None = None  # the 95th percentile
    negative_log_likelihood: Annotated[float, Meta(ge=0)] | None = None
    brier: Annotated[float, Meta(ge=0, le=2)] | None = None


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """A package's own description. Lengths in pixels; ``outputs`` holds shapes without the batch dimension."""

    schema: int
    name: Name
    version: Count
    created: datetime
    architecture: str
    labels: Annotated[list[str], Meta(min_length=2)]
    input: InputSpec
    preprocessing: Sha256  # models.fingerprint of the code and libraries that the figures were measured with
    outputs: dict[str, list[Count]]
    temperature: Positive  # logits are divided by it before softmax; 1 where the graph has done so
    threshold: Share  # an answer with a lower probability is "unsure"
    evaluation: Evaluation
    provenance: dict[str, Any]
    files: dict[FileName, Sha256]

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema is {self.schema}, this version reads {SCHEMA}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a label twice")
        if set(self.outputs) != set(OUTPUTS):
            raise ValueError(f"outputs must be {', '.join(OUTPUTS)}; it has {', '.join(self.outputs)}")
        if self.outputs["logits"] != [len(self.labels)]:
            raise ValueError(f"outputs.logits is {self.outputs['logits']} for {len(self.labels)} labels")
        if missing := {MODEL, GOLDEN, CARD} - set(self.files):
            raise ValueError(f"files lacks {', '.join(sorted(missing))}")

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"


def read(folder: Path) -> Manifest:
    """Manifest of the package in ``folder``; raises PackageError."""
    return decode(folder, read_bytes(folder))


def read_bytes(folder: Path) -> bytes:
    """The manifest as it stands on the disk; raises PackageError."""
    try:
        return file.read(folder / FILE, file.MAX_TEXT_BYTES)
    except OSError as err:
        raise PackageError(f"{folder} holds no readable {FILE}: {err.strerror}") from err


def decode(folder: Path, data: bytes) -> Manifest:
    """What the bytes of the manifest in ``folder`` say; raises PackageError."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except UNREADABLE as err:
        raise PackageError(f"{folder / FILE} is not a manifest that can be served: {err}") from err


def write(folder: Path, manifest: Manifest) -> None:
    """Write ``folder``/manifest.json, indented for people."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / FILE).write_bytes(text + b"\n")

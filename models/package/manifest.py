"""What a model package says of itself: read, validate, write. docs/model-package.md describes every field."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from models import files
from models.errors import PackageError
from models.image.spec import InputSpec
from models.terminal import table

SCHEMA = 1
FILE = "manifest.json"
MODEL, GOLDEN, CARD = "model.onnx", "golden.npz", "card.md"
REPORT, ANSWERS = "report.html", "answers.npz"  # not in every package
ALWAYS_TOP5 = 5  # classes, of which the right one is always among the first five
OUTPUTS = ("logits", "features", "feature_map")
NOVELTY = "novelty"  # an output that not every package has
PART = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")  # of where something is, as msgspec says it
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises for bytes that do not fit

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
VERSION = r"[1-9][0-9]{0,8}"
YEARS = range(1970, 3000)  # of a time: beyond, not every zone can tell it
MOST = 2**53  # of what is counted: up to there a float holds every whole number
MAX_FILES = 100  # of a package
MAX_LABELS = 100_000
MAX_BYTES = 2**24  # of a manifest: the names of 20,000 classes of 255 bytes stand in it twice, in 10 million
MAX_QUOTES = 2**20  # in a manifest, so that what it holds is bounded too: two for each name, and those within names
LABEL_BYTES = 40  # of a manifest for each class besides its name: quotes, indentation, a share
MAX_LINE = 2000  # characters of a text that is told, such as a reason or a label

Name = Annotated[str, Meta(pattern=rf"\A{NAME}\Z")]
Version = Annotated[int, Meta(ge=1, le=10**9 - 1)]
Count = Annotated[int, Meta(ge=1, le=MOST)]
Natural = Annotated[int, Meta(ge=0, le=MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Size = Annotated[float, Meta(ge=0, le=1e12)]  # of what is measured: no infinity comes of reckoning with it
Positive = Annotated[float, Meta(ge=1e-6, le=1e6)]
Line = Annotated[str, Meta(max_length=MAX_LINE)]
Time = Annotated[datetime, Meta(tz=True)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
FileName = Annotated[str, Meta(pattern=rf"\A{FILE_NAME}\Z")]
Dimension = Annotated[int, Meta(ge=1, le=2**24)]  # of an output


def check_times(**times: datetime) -> None:
    """Raises ValueError for a time that no clock of ours has told, by the name of its field."""
    for field, time in times.items():
        if time.year not in YEARS:
            raise ValueError(f"{field} is in the year {time.year}, a time is in the years {YEARS[0]} to {YEARS[-1]}")


class Accuracy(Struct, frozen=True, forbid_unknown_fields=True):
    """Top-1 of the exported graph on the evaluation images, on one ONNX Runtime provider in one precision.

    The rest compares with model.onnx in fp32 on the CPU, image by image; packages published before it was there lack it.
    """

    provider: Line
    precision: Line
    top1: Share
    agreement: Share | None = None  # share of the images with the same answer
    lost: Natural | None = None  # images that only the other answers right, and
    gained: Natural | None = None  # that only this one does
    golden: Share | None = None  # largest difference of a golden logit, relative to the largest golden logit


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured, on which images. ``split`` is "test", or "validation" where the data have no test images.

    calibration_error is the expected calibration error over ``calibration_bins`` equal bins of confidence, after temperature
    scaling (Guo et al. 2017, arXiv 1706.04599); coverage is the share of answers that are not "unsure". What has a default
    came later: packages published before it lack it, and have 15 bins.
    """

    dataset: Line
    split: Line
    dataset_sha256: Sha256
    samples: Count
    top1: Share
    top5: Share
    per_class: Annotated[dict[Line, Share], Meta(max_length=MAX_LABELS)]
    calibration_error: Share
    coverage: Share
    parity_max_difference: Size  # |logits of ONNX Runtime - logits of torch|, worst of all
    parity_same_top1: Share
    providers: Annotated[list[Accuracy], Meta(min_length=1, max_length=MAX_FILES)]
    fitted_temperature: Positive | None = None  # what the graph divides its logits by; None: nothing
    calibration_error_before: Share | None = None  # without that
    accuracy_kept: Share | None = None  # of the answers that are not "unsure"
    calibration_bins: Count | None = None
    calibration_floor: Share | None = None  # calibration error of a perfect model on so many images: the mean, and
    calibration_floor_high: Share | None = None  # the 95th percentile
    negative_log_likelihood: Size | None = None
    brier: Annotated[float, Meta(ge=0, le=2)] | None = None
    novel: Share | None = None  # of the images, those whose novelty is above the threshold
    recall_at_1: Share | None = None  # of the features: share of the images whose nearest other one is of their class, and
    mean_average_precision: Share | None = None  # how far those of their class come before the rest


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """A package's own description. Lengths in pixels; ``outputs`` holds shapes without the batch dimension."""

    schema: int
    name: Name
    version: Version
    created: Time
    architecture: Line
    labels: Annotated[list[Line], Meta(min_length=2, max_length=MAX_LABELS)]
    input: InputSpec
    preprocessing: Sha256  # models.image.fingerprint of the code and libraries that the figures were measured with
    outputs: dict[str, Annotated[list[Dimension], Meta(min_length=1, max_length=8)]]
    temperature: Positive  # logits are divided by it before softmax; 1 where the graph has done so
    threshold: Share  # an answer with a lower probability is "unsure"
    evaluation: Evaluation
    provenance: dict[str, Any]
    files: Annotated[dict[FileName, Sha256], Meta(max_length=MAX_FILES)]
    novelty_threshold: Share | None = None  # an answer whose novelty is higher is "unsure"; None: the graph has no such output

    def __post_init__(self) -> None:
        check_times(created=self.created)
        if self.schema != SCHEMA:
            raise ValueError(f"schema is {self.schema}, this version reads {SCHEMA}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a label twice")
        if set(self.outputs) - {NOVELTY} != set(OUTPUTS):
            raise ValueError(f"outputs must be {', '.join(OUTPUTS)} and can be {NOVELTY}; it has {', '.join(self.outputs)}")
        if (NOVELTY in self.outputs) != (self.novelty_threshold is not None):
            raise ValueError(f"outputs.{NOVELTY} and novelty_threshold belong together; it has one of them")
        if self.outputs.get(NOVELTY, [1]) != [1]:
            raise ValueError(f"outputs.{NOVELTY} is {self.outputs[NOVELTY]}, it is one number for each image: [1]")
        if self.outputs["logits"] != [len(self.labels)]:
            raise ValueError(f"outputs.logits is {self.outputs['logits']} for {len(self.labels)} labels")
        if missing := {MODEL, GOLDEN, CARD} - set(self.files):
            raise ValueError(f"files lacks {', '.join(sorted(missing))}")

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def answer_outputs(self) -> tuple[str, ...]:
        """Of the graph, what an answer is made of that names classes."""
        return ("logits", NOVELTY) if NOVELTY in self.outputs else ("logits",)


def read(folder: Path) -> Manifest:
    """Manifest of the package in ``folder``; raises PackageError."""
    return decode(folder, read_bytes(folder))


def read_bytes(folder: Path) -> bytes:
    """The manifest as it stands on the disk; raises PackageError."""
    try:
        return files.read(folder / FILE, MAX_BYTES)
    except OSError as err:
        raise PackageError(f"{folder} holds no readable {FILE}: {err.strerror}") from err


def decode(folder: Path, data: bytes) -> Manifest:
    """What the bytes of the manifest in ``folder`` say; raises PackageError."""
    try:
        check_bytes(data)
        return msgspec.json.decode(data, type=Manifest)
    except UNREADABLE as err:
        raise PackageError(f"{folder / FILE} is not a manifest that can be served: {explain(err, data)}") from err


class _Measured(Struct, frozen=True):
    per_class: Raw = Raw(b"")


class _Outline(Struct):
    """The parts of a manifest that grow with the number of classes, as they stand there."""

    labels: Raw = Raw(b"")
    evaluation: _Measured = _Measured()


def check_bytes(data: bytes) -> None:
    """Raises msgspec.DecodeError where a manifest holds more than one of MAX_LABELS classes can, before all of it is read."""
    if len(data) <= files.MAX_TEXT_BYTES:
        return
    if len(data) > MAX_BYTES:
        raise msgspec.DecodeError(
            f"it has {len(data):,} bytes, at most {MAX_BYTES:,} are read: take fewer classes, or shorter names"
        )
    found = msgspec.json.decode(data, type=_Outline)
    rest = len(data) - len(bytes(found.labels)) - len(bytes(found.evaluation.per_class))
    if rest > files.MAX_TEXT_BYTES:
        raise msgspec.DecodeError(
            f"it has {rest:,} bytes besides the names of its classes, at most {files.MAX_TEXT_BYTES:,} are read: its provenance "
            "is no place for data"
        )
    if (quotes := data.count(b'"')) > MAX_QUOTES:
        raise msgspec.DecodeError(f"it holds {quotes:,} quotes, at most {MAX_QUOTES:,} are read")


def check_labels(labels: Sequence[str]) -> None:
    """Raises PackageError where no manifest can hold classes of these names."""
    if len(labels) > MAX_LABELS:
        raise PackageError(f"there are {len(labels):,} classes, at most {MAX_LABELS:,} can be served: merge some")
    if long := [label for label in labels if len(label) > MAX_LINE]:
        raise PackageError(
            f"a class has a name of {len(long[0]):,} letters ({long[0][:40]}…), at most {MAX_LINE:,} can be served: shorten it"
        )
    room = MAX_BYTES - files.MAX_TEXT_BYTES
    written = [msgspec.json.encode(label) for label in labels]
    if (needed := sum(2 * len(label) + LABEL_BYTES for label in written)) > room:
        raise PackageError(
            f"the names of {len(labels):,} classes take {needed:,} bytes of a manifest, at most {room:,} can be served: shorten "
            f"them to {(room // len(labels) - LABEL_BYTES) // 2:,} bytes on average, or take fewer classes"
        )
    if 2 * sum(label.count(b'"') for label in written) > MAX_QUOTES // 2:
        raise PackageError(f"the names of {len(labels):,} classes are full of quotes: at most {MAX_QUOTES // 4:,} can be served")


def explain(error: Exception, data: bytes) -> str:
    """What JSON does not fit a schema, with what was found there, where that can be told: one line.

    data: the JSON; error: of UNREADABLE.
    """
    text = table.printable(str(error) or type(error).__name__)[:MAX_LINE]
    if len(data) > files.MAX_TEXT_BYTES:  # all of it may be more than fits into memory
        return text
    where = PART.findall(text.rpartition(" - at `$")[2])
    try:
        value: Any = msgspec.json.decode(data)
        for key, index in where:
            value = value[key] if key else value[int(index)]
    except (*UNREADABLE, LookupError, TypeError, ValueError):
        return text
    found = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return f"{text}, which is {table.printable(found)[:60]}" if where else text


def write(folder: Path, manifest: Manifest) -> None:
    """Write ``folder``/manifest.json, indented for people; raises PackageError where it could not be read again."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    try:
        check_bytes(text)
    except msgspec.DecodeError as err:
        raise PackageError(f"the package cannot be published, for no version could read its manifest: {err}") from err
    (folder / FILE).write_bytes(text)

"""A linear probe: how well a linear layer tells new classes apart by the features that a network gives already.

The network is one that a service serves, a run, or a package.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from tqdm import tqdm

from hubel.client import Client, Refusal
from models.errors import ImageError
from models.image.preprocess import decode
from models.package import manifest as manifests
from models.package.held_out_answers import identity
from models.registry import registry
from training.data import dataset, decoded
from training.data.dataset import ImageSet
from training.data.lineage import Past
from training.data.near_duplicates import SIDE, small_copy
from training.data.sources.catalogue import open_source
from training.data.sources.source import Part
from training.data.split import Pool, held_out
from training.errors import DataError, RecipeError
from training.evaluation import evaluate
from training.inspection.facts import LOOK
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.loop.fit_head import logits_of
from training.loop.linear_head import fit_head
from training.publishing import export
from training.recipe import LINEAR_C, NO_WEIGHTS, UNTAUGHT


class Settings(Struct, frozen=True):
    """c: see fit_head. The share of each class is held out with the seed where there are no validation images."""

    c: Annotated[float, Meta(gt=0)] = LINEAR_C
    validation_share: Annotated[float, Meta(gt=0, le=0.9)] = 0.1
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0


def settle(**values: Any) -> Settings:
    """Raises RecipeError for a value that is not allowed."""
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as err:
        raise RecipeError(f"the probe cannot be made so: {err}") from err


@dataclass(frozen=True)
class Features:
    """vectors: (n, dimensions) float32; targets: (n,) int64; skipped: "name: reason" of each image that was left out."""

    vectors: NDArray[np.float32]
    targets: NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    def subset(self, indices: NDArray[np.int64]) -> "Features":
        return Features(self.vectors[indices], self.targets[indices], self.skipped)


def probe_service(service: Client, source: str | Path, settings: Settings) -> dict[str, Any]:
    """Probe the network of a running service on the images of ``source``, which it decodes itself.

    Raises:
        ServiceError, DataError: see those.
    """
    parts = open_source(source).parts
    classes = parts["train"].classes
    for split, part in parts.items():
        dataset.check_classes(part, None if split == "train" else classes)
    service.connect()
    served = {split: _served(service, part, classes) for split, part in parts.items()}
    found = {split: features for split, (features, _) in served.items()}
    if "val" not in found:
        features, pool = served["train"]
        held = held_out(pool, settings.validation_share, settings.seed, Past())
        rest = np.setdiff1d(np.arange(len(features.targets)), held)
        found |= {"train": features.subset(rest), "val": features.subset(held)}
    return _fit(found, classes, settings, service.model)


def _served(service: Client, part: Part, classes: tuple[str, ...]) -> tuple[Features, Pool]:
    """Features of the images of a part, and what says which of them are held out."""
    kept: list[NDArray[np.float32]] = []
    looks: list[tuple[int, NDArray[np.uint8]]] = []
    numbers: list[int] = []
    skipped: list[str] = []
    answers = service.features_all(_contents(part, looks), normalize=False)
    bar = tqdm(answers, f"features of {part.place}", len(part.items), unit=" images", leave=False)
    for i, (item, answer) in enumerate(zip(part.items, bar, strict=True)):
        if isinstance(answer, Refusal):
            skipped.append(f"{item.name}: {answer.reason}")
        else:
            kept.append(answer)
            numbers.append(i)
    targets = np.array([classes.index(part.items[i].label) for i in numbers], np.int64)
    if empty := sorted({classes.index(name) for name in part.classes} - set(targets.tolist())):
        raise DataError(f"no usable image of the class {', '.join(classes[c] for c in empty)} in {part.place}; add some")
    identities, small = np.array([looks[i][0] for i in numbers], np.uint64), np.stack([looks[i][1] for i in numbers])
    pool = Pool(classes, targets, identities, small, [part.items[i].group for i in numbers])
    return Features(np.stack(kept), targets, (*part.left_out, *skipped)), pool


def _contents(part: Part, looks: list[tuple[int, NDArray[np.uint8]]]) -> Iterator[bytes]:
    """The files of a part; of each that was read, identity and small copy are added to ``looks``."""
    for item in part.items:
        try:
            file = item.read()
        except OSError as err:
            raise DataError(f"{item.name} cannot be read: {err.strerror}") from err
        looks.append((identity(file), _small(file)))
        yield file


def _small(file: bytes) -> NDArray[np.uint8]:
    """Of one colour where the file is no image, which the service then says."""
    try:
        return small_copy(decode(file, spec=LOOK))
    except ImageError:
        return np.zeros((SIDE, SIDE), np.uint8)


def probe_run(folder: Path, source: str | Path, settings: Settings, out: Path | None = None) -> dict[str, Any]:
    """Probe the network of a run, or of a package with weights, by a training with fit = "linear", whose checkpoint stays
    in ``out``.

    Raises:
        CheckpointError, DataError: see those.
    """
    recipe = checkpoints.load(folder)[0].recipe
    facts = {"fit": "linear", "linear_c": settings.c, "validation_share": settings.validation_share, "seed": settings.seed}
    as_it_is = {"weights": NO_WEIGHTS, "freeze": 0, "unfreeze_every": 0, "precision": "fp32", **UNTAUGHT}
    with tempfile.TemporaryDirectory() as beside, decoded.beside(out or Path("runs") / "probe"):
        place = out or Path(beside) / "run"
        train.train(source, place, msgspec.structs.replace(recipe, **facts, **as_it_is), start_from=folder, anyway=True)
        checkpoint, model, _ = checkpoints.load(place)
    tops = {"train": checkpoint.history[0]["accuracy"], "val": checkpoint.history[0]["validation_accuracy"]}
    images = {"train": checkpoint.data["training_images"], "val": checkpoint.data["validation_images"]}
    if test := dataset.load_test(source, recipe.input, checkpoint.classes):
        answers = evaluate.logits_of(model, checkpoint, test).argmax(1)
        images["test"], tops["test"] = len(test), float((answers == test.targets).mean())
    skipped = [*checkpoint.data["skipped"], *(test.skipped if test else ())]
    return _result(str(folder), model.head.in_features, images, tops, settings, skipped) | ({"out": str(out)} if out else {})


def probe_package(folder: Path, source: str | Path, settings: Settings) -> dict[str, Any]:
    """Probe the network of a package, whose graph ONNX Runtime computes.

    Raises:
        PackageError: the package does not verify.
        DataError: see there.
    """
    manifest = registry.verify(folder)
    session = export.open_session(folder / manifests.MODEL)
    training, validation = dataset.load_training(source, manifest.input, settings.validation_share, settings.seed)
    test = dataset.load_test(source, manifest.input, training.classes)
    parts = {"train": training, "val": validation} | ({"test": test} if test else {})
    found = {split: _computed(session, images) for split, images in parts.items()}
    return _fit(found, training.classes, settings, manifest.id)


def _computed(session: Any, images: ImageSet) -> Features:
    begins = tqdm(range(0, len(images), export.BATCH), "features", unit=" batches", leave=False)
    vectors = [session.run(["features"], {"images": images.pixels[b : b + export.BATCH]})[0] for b in begins]
    return Features(np.concatenate(vectors), images.targets, images.skipped)


def _fit(found: dict[str, Features], classes: tuple[str, ...], settings: Settings, model: str) -> dict[str, Any]:
    """Fit a head on the training features; its accuracy on each split."""
    training = found["train"]
    layer = fit_head(training.vectors, training.targets, len(classes), settings.c)
    tops = {split: float((logits_of(p.vectors, layer).argmax(1) == p.targets).mean()) for split, p in found.items()}
    images = {split: len(part.targets) for split, part in found.items()}
    skipped = [line for part in found.values() for line in part.skipped]
    return _result(model, training.vectors.shape[1], images, tops, settings, skipped)


def _result(
    model: str, dimensions: int, images: dict[str, int], tops: dict[str, float], settings: Settings, skipped: list[str]
) -> dict[str, Any]:
    """What the command prints; files of both sides of a split were left out once."""
    figures = {key: value for s in tops for key, value in ((f"{s}_images", images[s]), (f"{s}_top1", round(tops[s], 4)))}
    return {"model": model, "dimensions": dimensions, "c": settings.c} | figures | {"left_out": list(dict.fromkeys(skipped))}

"""A published model that a network learns from: distillation (Hinton et al. 2015, arXiv 1503.02531), with the teacher's features
as a hint (Romero et al. 2014, arXiv 1412.6550). It sees the view of an image that the network sees, as fine as it is used to
(Beyer et al. 2022, arXiv 2106.05237: a teacher that sees another crop teaches less).
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional

from models.errors import PackageError
from models.image.spec import InputSpec
from models.imagenet import package
from models.package import manifest as manifests
from models.package import precision as precisions
from models.package.manifest import MODEL, Manifest
from models.package.precision import CPU, CUDA
from models.registry import registry
from training.data.crop import resize
from training.data.geometry import Pixels
from training.data.pixels import Pixels as Views
from training.errors import CheckpointError
from training.recipe import NONE, Recipe

VERSIONED = re.compile(rf"{manifests.NAME}:[0-9]+")
MOST, BATCH = 512, 32  # images that the features are standardised by; and that are computed together
LEAST_DEVIATION = 1e-3
NAMED = 5  # of classes that differ, so many are named


@dataclass(frozen=True)
class Teacher:
    """manifest: of its package. sha256: of its graph. session: computes that, in fp32. usual: mean and deviation of its features,
    (dimensions,) float32, that they are told in."""

    manifest: Manifest
    sha256: str
    session: onnxruntime.InferenceSession
    usual: tuple[Tensor, Tensor] | None = None

    @property
    def dimensions(self) -> int:
        """Of its features."""
        return self.manifest.outputs["features"][0]

    def finer(self, spec: InputSpec) -> float:
        """How much finer than at ``spec`` a view must be for neither network to see less than it is used to; 1 at least."""
        own = self.manifest.input
        return max(1.0, min(own.height, own.width) / min(spec.height, spec.width))

    def answers(self, views: Pixels) -> tuple[Tensor, Tensor]:
        """Calibrated logits (n, classes) and features (n, dimensions), float32, of views (n, any height, any width, 3)
        uint8, which are stretched where they have another shape than the teacher's input. Features are standardised where
        ``usual`` is known: what all images have in common says nothing of any."""
        spec = self.manifest.input
        pixels = np.ascontiguousarray(resize(views, spec.height, spec.width, spec.interpolation))
        logits, features = self.session.run(["logits", "features"], {"images": pixels})
        found = torch.from_numpy(np.asarray(features))
        if self.usual:
            found = (found - self.usual[0]) / self.usual[1]
        return torch.from_numpy(np.asarray(logits)) / self.manifest.temperature, found

    def used_to(self, images: Views) -> "Teacher":
        """With features that are standardised by those of at most MOST of the ``images``, evenly taken."""
        some = images[:: max(1, len(images) // MOST)]
        found = torch.cat([self.answers(some[begin : begin + BATCH])[1] for begin in range(0, len(some), BATCH)])
        return replace(self, usual=(found.mean(0), found.std(0, correction=0).clamp(min=LEAST_DEVIATION)))

    def noted(self, recipe: Recipe) -> dict[str, Any]:
        """What a run says of it."""
        facts = {"package": self.manifest.id, "model_sha256": self.sha256, "top1": self.manifest.evaluation.top1}
        how = {"temperature": recipe.teacher_temperature, "weight": recipe.teacher_weight, "hint": recipe.teacher_hint}
        return facts | how


def find(recipe: Recipe, store: Path) -> Teacher | None:
    """The teacher that the recipe names, a package of ``store`` or a folder; None where it names none.

    Raises:
        CheckpointError: there is no such package, or no version is named, which may become another one later.
        PackageError: it does not verify.
    """
    if recipe.teacher == NONE:
        return None
    folder = Path(recipe.teacher)
    if not (folder / manifests.FILE).is_file():
        if not VERSIONED.fullmatch(recipe.teacher):
            raise CheckpointError(
                f"teacher is {recipe.teacher!r}, which is no folder of a package and names no version: give NAME:VERSION of a "
                f"package in {store} (--store), or its folder"
            )
        try:
            folder = registry.resolve(package.store_of(recipe.teacher, store), recipe.teacher)
        except PackageError as err:
            raise CheckpointError(f"the teacher {recipe.teacher} is not there: {err}") from err
    manifest = registry.verify(folder)
    return Teacher(manifest, manifest.files[MODEL], _opened(folder / MODEL))


def _opened(graph: Path) -> onnxruntime.InferenceSession:
    """On a GPU where ONNX Runtime has one here. Threads do not spin: those that train need the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = CUDA if CUDA in onnxruntime.get_available_providers() else CPU
    return onnxruntime.InferenceSession(graph, options, providers=[(provider, precisions.provider_options(provider, "fp32", 1))])


def check_classes(teacher: Teacher, classes: tuple[str, ...], recipe: Recipe) -> None:
    """Raises CheckpointError where it answers with other classes, or in another order; its features need none."""
    own = teacher.manifest.labels
    if not recipe.teacher_weight or own == list(classes):
        return
    lacks, more = ([name for name in a if name not in b] for a, b in ((classes, own), (own, classes)))
    told = [f"it does not know {_some(lacks)}"] * bool(lacks) + [f"the data have no {_some(more)}"] * bool(more)
    i = next((i for i, (a, b) in enumerate(zip(own, classes, strict=False)) if a != b), 0)
    order = f"they stand in another order: its class {i} is {own[i]}, that of the data {classes[i]}"
    raise CheckpointError(
        f"the teacher {teacher.manifest.id} has other classes than the data: {' and '.join(told) or order}. Teach by a model of "
        "these classes, or by its features alone (--teacher-weight 0 --teacher-hint 30)"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def check_same(teacher: Teacher, before: dict[str, Any], folder: Path) -> None:
    """Raises CheckpointError where the run in ``folder`` was taught by another model until now."""
    if teacher.sha256 != before.get("model_sha256"):
        raise CheckpointError(
            f"the run in {folder} is taught by {before.get('package')} (SHA-256 {str(before.get('model_sha256'))[:16]}), and "
            f"{teacher.manifest.id} (SHA-256 {teacher.sha256[:16]}) is another: bring that back (--store), or train anew"
        )


def losses(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """(n,) of logits (n, classes) beside the teacher's: T squared times the divergence from the teacher's shares at the
    temperature T to the network's, so that its gradient does not fall with T."""
    given, own = (functional.log_softmax(part / temperature, 1) for part in (taught, logits))
    return temperature**2 * functional.kl_div(own, given, log_target=True, reduction="none").sum(1)


def unlike(features: Tensor, taught: Tensor) -> Tensor:
    """(n,) of features (n, dimensions): 0 where they point where the teacher's do, 2 where they point away from there."""
    return 1 - functional.cosine_similarity(features, taught)


def told(taught: dict[str, Any]) -> str:
    """What a run noted of its teacher, in words; code stands between backticks."""
    ways = []
    if taught["weight"]:
        ways.append(f"by its answers at temperature {taught['temperature']:g}, weight {taught['weight']:g}")
    if taught["hint"]:
        ways.append(f"by its features, weight {taught['hint']:g}")
    more = f", also on {n:,} unlabelled images" if (n := taught.get("unlabelled_images")) else ""
    sha256 = taught["model_sha256"][:16]
    return f"`{taught['package']}` (SHA-256 {sha256}, top-1 {100 * taught['top1']:.2f} %) {' and '.join(ways)}{more}"

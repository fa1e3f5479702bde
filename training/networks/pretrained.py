"""Networks as others trained them for ImageNet: the weights that torchvision publishes, those of EfficientNet-Lite0 in a Python
package, or a file of the same form."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import Tensor

from models.image.spec import InputSpec
from models.imagenet import packaged
from models.imagenet.packaged import Packaged
from training.errors import CheckpointError
from training.networks import download, efficientnet_lite, torchvision

Weights = dict[str, Tensor]  # by their names in a network

TORCHVISION = ("IMAGENET1K_V1", "IMAGENET1K_V2")
LITE0 = "imagenet-lite0"
NAMES = (*TORCHVISION, LITE0)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of ImageNet's training images, 0 to 255
GOOGLENET = [127.5] * 3  # both: its weights come from another library, torchvision changes the input (transform_input)
LITE0_FILE = packaged.LITE0


@dataclass(frozen=True)
class Published:
    """A file of weights: its address, or the package that holds it, and the geometry of the images that its network is measured
    with."""

    place: str | Packaged
    spec: InputSpec


def published(architecture: str) -> dict[str, Published]:
    """What is published for an architecture, by name."""
    if architecture == efficientnet_lite.NAME:
        return {LITE0: Published(LITE0_FILE, InputSpec(224, 224, 256, "bicubic"))}
    if architecture not in torchvision.CUTS:
        return {}
    from torchvision import models as networks  # here, because it takes seconds

    found: dict[str, Published] = {}
    for weights in networks.get_model_weights(architecture):
        if weights.name in TORCHVISION:
            preset: Any = weights.transforms()
            side, resize = preset.crop_size[0], preset.resize_size[0]
            found[weights.name] = Published(weights.url, InputSpec(side, side, resize, preset.interpolation.value))
    return found


def normalisation(architecture: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel that published weights expect, on the 0 to 255 scale."""
    if architecture == efficientnet_lite.NAME:
        return [127.0] * 3, [128.0] * 3
    return (GOOGLENET, GOOGLENET) if architecture == "googlenet" else (MEAN, STD)


def origin(weights: str) -> str:
    """Whose a recipe's ``weights`` are, in words that a file's name can follow."""
    if weights == LITE0:
        source = "ML Illustrated derived from TensorFlow's EfficientNet-Lite (2020, Apache-2.0"
        return f"the weights {LITE0} that {source}, in the Python package {LITE0_FILE.package}),"
    return f"torchvision's weights {weights}," if weights in TORCHVISION else "the weights of a file,"


def check(architecture: str, weights: str) -> None:
    """Raises ValueError when ``weights``, a name or a file, cannot be of ``architecture``."""
    known = published(architecture)
    if not known:
        raise ValueError(f"weights is {weights!r}, but nobody publishes weights of {architecture}; leave it out")
    if weights in NAMES and weights not in known:
        raise ValueError(f"there is no {weights} of {architecture}, only {', '.join(known)}")


def hint(architecture: str, weights: str, spec: InputSpec) -> str:
    """What is worth knowing where the images have another geometry than those that the weights were made for, else ""."""
    made_for = published(architecture).get(weights)
    if made_for is None or made_for.spec == spec:
        return ""
    return (
        f"{weights} was made for {_shown(made_for.spec)}, the recipe has {_shown(spec)}: what is shown has then another size "
        "than the weights were trained for, which can cost accuracy"
    )


def _shown(spec: InputSpec) -> str:
    return f"{spec.height}x{spec.width} pixels of a shorter side of {spec.resize}, {spec.interpolation}"


def find(architecture: str, weights: str) -> Path:
    """The file of published weights, downloaded where it is not there, or the file ``weights`` itself.

    Raises:
        CheckpointError: it is not there, cannot be downloaded, or is not what its name says.
    """
    known = published(architecture)
    if weights in known:
        place = known[weights].place
        return _installed(place) if isinstance(place, Packaged) else download.fetch(place)
    path = Path(weights)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; weights is a file, {', '.join(known)} or none")
    download.check_name(path)
    return path


def _installed(file: Packaged) -> Path:
    """Raises CheckpointError where the package is not installed, or its file is damaged."""
    try:
        return file.find()
    except packaged.Absent as err:
        raise CheckpointError(
            f"the Python package {file.package}, which holds the weights, is not installed or lacks its file: 'make setup' "
            "installs it"
        ) from err
    except packaged.Damaged as err:
        raise CheckpointError(
            f"{err.path} is damaged or another file: its SHA-256 begins with {err.digest[:8]}, not {file.sha256[:8]}; remove "
            ".venv, then 'make setup' installs it again"
        ) from err


def read(architecture: str, path: Path, classes: int | None = None) -> Weights:
    """Weights by their names in our network, from a state_dict of the network that others trained: of trunk and neck, and of a
    head for so many ``classes``.

    Without ``classes`` the head is left out, as it has other ones; auxiliary heads always, as they were not trained.

    Raises:
        CheckpointError: the file is damaged, holds more than tensors, or is of another network.
    """
    parts = ("trunk.", "neck.") if classes is None else ("trunk.", "neck.", "head.")
    names, wanted = _layout(architecture, classes or 2)
    found: Weights = {}
    for name, value in _tensors(path).items():
        ours = names.get(name, "")
        if ours.startswith(parts) or not ours:
            found[name] = value
    expected = {name: wanted[ours] for name, ours in names.items() if ours.startswith(parts)}
    if difference := _difference(found, expected):
        raise CheckpointError(f"{path} does not hold weights of {architecture}: {difference}")
    return {
        names[name]: found[name] if name in found else torch.zeros_like(value, device="cpu") for name, value in expected.items()
    }


def _layout(architecture: str, classes: int) -> tuple[dict[str, str], Weights]:
    """Our names of weights by those in published files, and shapes by our names."""
    with torch.device("meta"):
        if architecture == efficientnet_lite.NAME:
            return efficientnet_lite.published_names(), efficientnet_lite.efficientnet_lite0(classes).state_dict()
        net = torchvision.plain(architecture, classes)
    model = torchvision.CUTS[architecture](net)
    shapes = model.state_dict(keep_vars=True)  # the tensors themselves, which both networks share
    ours = {id(value): name for name, value in shapes.items()}
    theirs = cast(Weights, net.state_dict(keep_vars=True))
    return {name: ours[id(value)] for name, value in theirs.items()}, shapes


def _tensors(path: Path) -> Weights:
    try:
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as err:
        raise CheckpointError(f"{path} is damaged or holds more than tensors; nothing was loaded") from err
    except Exception as err:  # whatever a damaged file makes torch stumble over
        raise CheckpointError(f"{path} cannot be read as weights: {' '.join(str(err).split())}") from err
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no tensors by their names; give what torch.save wrote of a network's state_dict()")
    return {str(name): value for name, value in state.items()}


def _difference(given: Weights, wanted: Weights) -> str:
    """The first of what is not as wanted; counters of batches may lack, as in files from before torch 0.4.1."""
    for name in wanted.keys() - given.keys():
        if not name.endswith(".num_batches_tracked"):
            return f"it lacks {name}"
    for name, value in given.items():
        if name not in wanted:
            return f"it has {name}"
        if value.shape != wanted[name].shape:
            return f"{name} has the shape {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
    return ""

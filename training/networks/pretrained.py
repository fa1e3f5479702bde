"""torchvision's networks as others trained them: its published weights for ImageNet, or a file of the same form."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import Tensor
from torchvision import models as networks

from models.image.spec import InputSpec
from training.errors import CheckpointError
from training.networks import download, torchvision

Weights = dict[str, Tensor]  # by their names in a network

NAMES = ("IMAGENET1K_V1", "IMAGENET1K_V2")
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of ImageNet's training images, 0 to 255
GOOGLENET = [127.5] * 3  # both: its weights come from another library, torchvision changes the input (transform_input)


@dataclass(frozen=True)
class Published:
    """A file of weights: where it lies, and the geometry of the images that its network is measured with."""

    url: str
    spec: InputSpec


def published(architecture: str) -> dict[str, Published]:
    """What torchvision publishes for an architecture, by name; nothing where it is not one of torchvision's."""
    if architecture not in torchvision.CUTS:
        return {}
    found: dict[str, Published] = {}
    for weights in networks.get_model_weights(architecture):
        if weights.name in NAMES:
            preset: Any = weights.transforms()
            side, resize = preset.crop_size[0], preset.resize_size[0]
            found[weights.name] = Published(weights.url, InputSpec(side, side, resize, preset.interpolation.value))
    return found


def normalisation(architecture: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel that torchvision's weights expect, on the 0 to 255 scale."""
    return (GOOGLENET, GOOGLENET) if architecture == "googlenet" else (MEAN, STD)


def check(architecture: str, weights: str) -> None:
    """Raises ValueError when ``weights``, a name or a file, cannot be of ``architecture``."""
    if architecture not in torchvision.CUTS:
        raise ValueError(f"weights is {weights!r}, but {architecture} is no network of torchvision's; leave it out")
    known = published(architecture)
    if weights in NAMES and weights not in known:
        raise ValueError(f"torchvision publishes no {weights} for {architecture}, only {', '.join(known)}")


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
        return download.fetch(known[weights].url)
    path = Path(weights)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; weights is a file, {', '.join(known)} or none")
    download.check_name(path)
    return path


def read(architecture: str, path: Path) -> Weights:
    """Weights of trunk and neck by their names in our network, from a state_dict of torchvision's own network.

    Its head has other classes, and its auxiliary heads were not trained: both are left out, as is their number of classes.

    Raises:
        CheckpointError: the file is damaged, holds more than tensors, or is of another network.
    """
    given = _tensors(path)
    with torch.device("meta"):
        net = torchvision.plain(architecture, 2)
    model = torchvision.CUTS[architecture](net)
    anew = tuple(f"{name}." for name, module in net.named_modules() if module in (model.head, *model.auxiliary.values()))
    given = {name: value for name, value in given.items() if not name.startswith(anew)}
    wanted = {name: value for name, value in cast(Weights, net.state_dict()).items() if not name.startswith(anew)}
    if difference := _difference(given, wanted):
        raise CheckpointError(f"{path} does not hold weights of torchvision's {architecture}: {difference}")
    net.load_state_dict(given, strict=False, assign=True)
    return {name: value for name, value in model.state_dict().items() if name.startswith(("trunk.", "neck."))}


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

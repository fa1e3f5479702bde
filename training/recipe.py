"""A recipe: everything that decides how a network is trained, read from a TOML file.

Each key stands with its type, its limits, its meaning and its default; recipe_flags.py makes a flag of it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from models.image.spec import InputSpec
from training.errors import RecipeError

NONE = "none"  # no weights to begin with, no teacher, no unlabelled images
NO_WEIGHTS = NONE
UNTAUGHT = {"teacher": NONE, "unlabelled": NONE}
LINEAR_C = 0.1
FOLDER = Path(__file__).parent / "recipes"
Optimizer = Literal["sgd", "rmsprop", "adamw", "muon"]
Schedule = Literal["linear", "steps", "cosine", "onecycle", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Fit = Literal["gradient", "linear", "both"]
Balance = Literal["none", "weights", "sampler"]
Count = Annotated[int, Meta(ge=1)]
Pixels = Annotated[int, Meta(ge=0)]
Stages = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Amount = Annotated[float, Meta(ge=0)]


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """docs/training.md says more of each key. Lengths in pixels, shares between 0 and 1."""

    architecture: Annotated[str, "network to train, such as resnet18"]
    input: Annotated[InputSpec, "size and geometry of the images"]
    epochs: Annotated[Count, "passes over the training images"]
    weights: Annotated[str, "to begin with: imagenet-lite0, IMAGENET1K_V1, IMAGENET1K_V2 or a file"] = NO_WEIGHTS
    batch_size: Annotated[Count, "images in a batch"] = 128
    fit: Annotated[Fit, "by steps; linear: the head alone, at once; both: that first, then by steps, and the better"] = "gradient"
    linear_c: Annotated[float, Meta(gt=0), "of a head fitted at once: weight of losses beside the penalty on weights"] = LINEAR_C
    freeze: Annotated[Stages | Literal["features"], "stages from the input that do not learn; features: all but the head"] = 0
    unfreeze_every: Annotated[int, Meta(ge=0), "epochs after which one more frozen stage learns, the last first; 0 is never"] = 0
    layer_decay: Annotated[float, Meta(gt=0, le=1), "learning rate of a stage as a share of the next one's"] = 1.0
    optimizer: Annotated[Optimizer, "what moves the weights"] = "sgd"
    learning_rate: Annotated[float, Meta(gt=0), "highest learning rate"] = 0.1
    muon_rate: Annotated[float, Meta(gt=0, le=1), "of optimizer muon: highest rate of convolutions behind the first"] = 0.1
    schedule: Annotated[Schedule, "how the rate goes on after the warm-up"] = "linear"
    warmup_share: Annotated[Share, "share of all steps in which the rate rises"] = 0.15
    steps: Annotated[tuple[Share, ...], "of schedule steps: the shares of the run at which the rate drops"] = (0.5, 0.75)
    step_factor: Annotated[float, Meta(gt=0, le=1), "of schedule steps: what the rate is multiplied by there"] = 0.1
    momentum: Annotated[Share, "of SGD and RMSprop; the first beta of AdamW"] = 0.9
    nesterov: Annotated[bool, "SGD's momentum looks ahead"] = True
    weight_decay: Annotated[Amount, "of kernels and matrices"] = 5e-4
    decay_norms: Annotated[bool, "weight decay also on biases and norms"] = False
    accumulate: Annotated[Count, "batches whose gradients are added up for one step of the optimizer"] = 1
    clip_norm: Annotated[Amount, "longest gradient: a longer one is shortened; 0 is no limit"] = 0.0
    ema: Annotated[Share, "decay of an average of the weights, which then answers; 0 is none"] = 0.0
    patience: Annotated[int, Meta(ge=0), "epochs without a better one before the run stops and keeps the best; 0 is never"] = 0
    label_smoothing: Annotated[Share, "share of the target that is spread over all classes"] = 0.1
    crop_padding: Annotated[Pixels, "greatest random shift, in pixels"] = 4
    flip: Annotated[bool, "random mirror image"] = True
    cutout: Annotated[Pixels, "side of a random grey square, in pixels"] = 0
    cutmix: Annotated[float, Meta(ge=0, le=1), "share of the images that get a box of another one pasted in"] = 0.0
    mixup: Annotated[float, Meta(ge=0, le=10), "alpha of mixing two images, for those that cutmix leaves"] = 0.0
    trivial_augment: Annotated[bool, "one random change of shape or colour on each image"] = False
    erasing: Annotated[float, Meta(ge=0, le=1), "share of the images that get a box of noise"] = 0.0
    teacher: Annotated[str, "published package to learn from too: NAME:VERSION or its folder"] = NONE
    teacher_weight: Annotated[float, Meta(ge=0, le=1), "of the teacher's answers in the loss; the labels have the rest"] = 0.9
    teacher_temperature: Annotated[float, Meta(gt=0, le=100), "at which answers are compared with the teacher's"] = 4.0
    teacher_hint: Annotated[Amount, "weight of features being like the teacher's; 0 is none"] = 0.0
    unlabelled: Annotated[str, "folder of images, or other data, to learn from the teacher alone on"] = NONE
    scale: Annotated[float, Meta(ge=0.05, le=1), "least share of the area that a random crop shows; 1 is off"] = 1.0
    sizes: Annotated[tuple[Count, ...], "shorter sides to train at, one after the other, in pixels"] = ()
    balance: Annotated[Balance, "of classes with unequal numbers of images: weights in the loss, or drawn equally often"] = "none"
    mirror: Annotated[bool, "answer from the image and its mirror image together, at twice the work"] = False
    validation_share: Annotated[float, Meta(gt=0, le=0.9), "held out of the training images without a val/ folder"] = 0.1
    precision: Annotated[Precision, "of multiplications; auto is bf16 where the hardware has it, else fp32"] = "auto"
    channels_last: Annotated[bool, "images and kernels lie in memory with the channels last"] = True
    compile: Annotated[bool, "compile the network by torch.compile"] = False
    seed: Annotated[int, Meta(ge=0, lt=2**32), "of weights, split, order, augmentation and dropout"] = 0

    def __post_init__(self) -> None:
        from training.networks import pretrained  # here, so that help needs no torch
        from training.networks.catalogue import ARCHITECTURES, check_size

        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {self.architecture!r}; known are {', '.join(ARCHITECTURES)}")
        check_size(self.architecture, self.input.height, self.input.width)
        if self.weights != NO_WEIGHTS:
            pretrained.check(self.architecture, self.weights)
        self._check_parts()
        if self.crop_padding >= (side := min(self.input.height, self.input.width)):
            raise ValueError(f"crop_padding is {self.crop_padding}, it must be below the shorter side of the input, {side}")
        if self.mixup and self.cutmix == 1:
            raise ValueError(f"cutmix is {self.cutmix}, which leaves no image to mixup; lower it, or leave mixup out")
        if self.sizes:
            self._check_sizes(side)
        if self.fit == "both":
            self._check_both()
        self._check_teacher()
        if self.batch_size == 1 and self.fit != "linear":
            self._check_batch_of_one()

    def _check_sizes(self, side: int) -> None:
        from training.networks.catalogue import check_size

        if max(self.sizes) > side:
            raise ValueError(f"sizes holds {max(self.sizes)}, it must not exceed the shorter side of the input, {side}")
        if len(self.sizes) > self.epochs:
            raise ValueError(f"sizes holds {len(self.sizes)} sides for {self.epochs} epochs; train longer, or with fewer sides")
        for shorter in self.sizes:
            check_size(self.architecture, *scaled(self.input, shorter))

    def _check_both(self) -> None:
        if self.scale < 1 or self.sizes:
            raise ValueError("fit is both, which looks at images whole and in one size: leave scale and sizes out")

    def _check_teacher(self) -> None:
        if self.teacher == NONE:
            if self.unlabelled != NONE:
                raise ValueError(f"unlabelled is {self.unlabelled!r}, of which only a teacher says anything; set teacher too")
            return
        if self.fit != "gradient":
            raise ValueError(f'fit is {self.fit}, which fits the head to labels alone; a teacher needs fit = "gradient"')
        if not self.teacher_weight and not self.teacher_hint:
            raise ValueError("teacher_weight and teacher_hint are both 0, so nothing is learnt of the teacher; raise one")

    def _check_batch_of_one(self) -> None:
        """Batch norm needs more than one value of a channel: an image whose maps shrink to one place gives one alone."""
        import torch

        from training.networks import freezing
        from training.networks.catalogue import build

        height, width = scaled(self.input, min(self.sizes)) if self.sizes else (self.input.height, self.input.width)
        with torch.device("meta"):  # shapes alone: nothing is computed
            model, image = build(self.architecture, 2).train(), torch.empty(1, 3, height, width)
        frozen = freezing.frozen_at(self.epochs - self.fits - 1, model, self.freeze, self.unfreeze_every)
        freezing.freeze(model, frozen, self.keeps_statistics)
        try:
            model.weighted_logits(image)
        except ValueError as err:
            raise ValueError(
                f"batch_size is {self.batch_size}, and an image of {height}x{width} pixels shrinks to one place within "
                f"{self.architecture}, where batch norm needs more than one: raise batch_size to 2 at least, or the size"
            ) from err

    @property
    def passes(self) -> int:
        """Epochs of a run: a head that is fitted at once takes one."""
        return 1 if self.fit == "linear" else self.epochs

    @property
    def fits(self) -> int:
        """How many of the epochs, the first, fit the head at once."""
        return 0 if self.fit == "gradient" else 1

    @property
    def keeps_statistics(self) -> bool:
        """Whether batch norms keep their statistics: a head was fitted to features that depend on them."""
        return self.fit == "both"

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept, by the validation images, not those of the last."""
        return self.patience > 0 or self.fit == "both"

    def _check_parts(self) -> None:
        import torch

        from training.networks import freezing
        from training.networks.catalogue import build

        with torch.device("meta"):
            model = build(self.architecture, 2)
        if isinstance(self.freeze, int):
            freezing.check(model, self.architecture, self.freeze)
        if self.mirror and not model.stages():
            raise ValueError(f"mirror is true, which averages feature maps; {self.architecture} has none of a convolution")
        if self.unfreeze_every and not self.freeze:
            raise ValueError(f"unfreeze_every is {self.unfreeze_every}, but nothing is frozen; set freeze too")


def load(name: str, size: int | None = None, **overrides: Any) -> Recipe:
    """Recipe by its name in recipes/ or by the path of a TOML file; an override that is None is ignored.

    ``size`` makes the input a square of that side, in pixels; what is cut off around it keeps its share.

    Raises:
        RecipeError: no such recipe, or a key or value that is not allowed.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise RecipeError(f"no recipe {name!r}; known are {names}, or give the path of a .toml file")
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        keys = msgspec.toml.decode(path.read_bytes()) | given
        if size is not None:
            keys["input"] = squared(msgspec.convert(keys.get("input"), InputSpec), size)
        return msgspec.convert(keys, Recipe)
    except (msgspec.DecodeError, ValueError) as err:  # tomllib's error is a ValueError
        raise RecipeError(f"{path}: {err}") from err


def of_architecture(architecture: str) -> list[str]:
    """Names of the recipes that train such a network, the shortest first."""
    found = {path.stem: msgspec.toml.decode(path.read_bytes()) for path in FOLDER.glob("*.toml")}
    names = [name for name, keys in found.items() if keys["architecture"] == architecture]
    return sorted(names, key=lambda name: (len(name), name))


def is_shipped(weights: str, spec: InputSpec) -> bool:
    """Whether a recipe in recipes/ begins with these weights on such images, so that nobody else chose their size."""
    found = (msgspec.toml.decode(path.read_bytes()) for path in FOLDER.glob("*.toml"))
    return any(keys.get("weights") == weights and msgspec.convert(keys["input"], InputSpec) == spec for keys in found)


def squared(spec: InputSpec, size: int) -> dict[str, Any]:
    """``spec`` with sides of ``size`` pixels; ``resize`` grows or shrinks with the shorter side."""
    resize = round(spec.resize * size / min(spec.height, spec.width))
    return msgspec.to_builtins(spec) | {"height": size, "width": size, "resize": resize}


def scaled(spec: InputSpec, side: int) -> tuple[int, int]:
    """Height and width with a shorter side of so many pixels."""
    shorter = min(spec.height, spec.width)
    return round(spec.height * side / shorter), round(spec.width * side / shorter)

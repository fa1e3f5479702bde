"""The training loop: set the rate, train, evaluate, save, log; one epoch after the other.

Order and augmentation of an epoch depend on (seed, epoch) alone, so a resumed run goes the way of an undisturbed one.
"""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.precision import cpu_has_bf16
from training import augmentation, data, provenance
from training import checkpoint as checkpoints
from training.architectures.classifier import Classifier
from training.checkpoint import Checkpoint
from training.data import ImageSet
from training.errors import CheckpointError, DivergenceError
from training.recipe import Recipe
from training.sources.catalogue import title
from training.sources.source import first_of_each


@dataclass(frozen=True)
class Device:
    """Where the network runs, and in which precision its multiplications are done."""

    name: str
    bf16: bool

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.name, torch.bfloat16, enabled=self.bf16)


def choose_device(precision: str) -> Device:
    """A GPU where there is one. "auto" is bf16 where the hardware multiplies it natively, else fp32."""
    if torch.cuda.is_available():
        return Device("cuda", precision != "fp32" and torch.cuda.is_bf16_supported(including_emulation=False))
    return Device("cpu", precision == "bf16" or (precision == "auto" and cpu_has_bf16()))


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate of a step (0 to steps - 1): a straight line up during the warm-up, then one down to 0."""
    warmup = max(1.0, recipe.warmup_share * steps)
    rising, falling = (step + 1) / warmup, (steps - step) / max(steps - warmup, 1.0)
    return recipe.learning_rate * min(rising, falling, 1.0)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Nesterov SGD; weight decay on kernels and matrices alone."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def normalise(images: Tensor, checkpoint: Checkpoint) -> Tensor:
    """(n, height, width, 3) uint8 -> (n, 3, height, width) float32 with the training images' mean 0 and deviation 1."""
    mean, std = (torch.tensor(v, device=images.device) for v in (checkpoint.mean, checkpoint.std))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)  # a permuted view is channels_last already


def start(
    folder: Path,
    source: str | Path,
    recipe: Recipe,
    train_images: ImageSet,
    validation: ImageSet,
    start_from: Path | None = None,
) -> tuple[Checkpoint, Classifier]:
    """Checkpoint and network of a run that has not begun: random weights, or those of the checkpoint ``start_from``,
    whose head stays when the classes are the same.

    Raises:
        CheckpointError: ``folder`` holds a checkpoint already, or ``start_from`` holds none of this architecture.
    """
    if (folder / checkpoints.SIDECAR).exists():
        raise CheckpointError(f"{folder} holds a checkpoint already: add --resume to go on with it, or choose another --out")
    mean, std = data.channel_statistics(train_images)
    facts = {
        "folder": title(source),
        "training_images": len(train_images),
        "validation_images": len(validation),
        "training_sha256": data.fingerprint(train_images),
        "validation_sha256": data.fingerprint(validation),
        "skipped": [*train_images.skipped, *(s for s in validation.skipped if s not in train_images.skipped)],
    }
    checkpoint = Checkpoint(recipe, train_images.classes, mean, std, data=facts, provenance=provenance.describe())
    model = checkpoint.build()
    if start_from is not None:
        _take_over(checkpoint, model, start_from)
    return checkpoint, model


def _take_over(checkpoint: Checkpoint, model: Classifier, start_from: Path) -> None:
    """Copy weights and normalisation of another checkpoint, and note where they come from."""
    before, trained, _ = checkpoints.load(start_from)
    if before.recipe.architecture != checkpoint.recipe.architecture:
        raise CheckpointError(
            f"{start_from} is a {before.recipe.architecture}, the recipe asks for a {checkpoint.recipe.architecture}; "
            "choose a recipe or a checkpoint of the same architecture"
        )
    weights = trained.state_dict()
    if before.classes != checkpoint.classes:
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
    model.load_state_dict(weights, strict=False)
    checkpoint.mean, checkpoint.std = before.mean, before.std
    checkpoint.provenance["started_from"] = {
        "command": before.provenance["command"],
        "git_commit": before.provenance["git_commit"],
        "epochs": before.epoch,
        "training_seconds": round(before.seconds),
        "training_sha256": before.data["training_sha256"],
    }


def check_images(checkpoint: Checkpoint, folder: Path, train_images: ImageSet) -> None:
    """Raises CheckpointError when the checkpoint in ``folder`` was trained on other images."""
    if checkpoint.data["training_sha256"] != data.fingerprint(train_images):
        raise CheckpointError(
            f"{folder} was trained on other images or classes than {checkpoint.data['folder']} holds now; "
            "bring the data back, or start again with another --out"
        )


def train(
    source: str | Path, folder: Path, recipe: Recipe | None, say: bool = True, start_from: Path | None = None
) -> Checkpoint:
    """Train on the images of ``source`` by ``recipe``, or go on with the checkpoint in ``folder`` when it is None.

    A new run begins with random weights, or with those of the checkpoint ``start_from``. Saves a checkpoint after
    every epoch; returns the last one.

    Raises:
        DataError, CheckpointError, DivergenceError: see those.
    """
    saved = None if recipe else checkpoints.load(folder)
    settled = saved[0].recipe if saved else cast(Recipe, recipe)
    train_images, validation = data.load_training(source, settled.input, settled.validation_share, settled.seed)
    torch.manual_seed(settled.seed)
    if saved:
        checkpoint, model, state = saved
        check_images(checkpoint, folder, train_images)
    else:
        (checkpoint, model), state = start(folder, source, settled, train_images, validation, start_from), None
    for line in first_of_each(checkpoint.data["skipped"]):
        _log(f"left out: {line}", say)
    _log(
        f"{settled.architecture}: {sum(p.numel() for p in model.parameters())} parameters, {len(train_images)} training and "
        f"{len(validation)} validation images of {len(checkpoint.classes)} classes",
        say,
    )

    device = choose_device(settled.precision)
    model.to(device.name, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, settled)
    if state:
        optimizer.load_state_dict(state)

    per_epoch = max(1, len(train_images) // settled.batch_size)
    while checkpoint.epoch < settled.epochs:
        began = time.monotonic()
        loss, accuracy = _train_epoch(model, optimizer, checkpoint, train_images, device, per_epoch, say)
        validation_loss, validation_accuracy = evaluate(model, checkpoint, validation, device)
        checkpoint.epoch += 1
        if not math.isfinite(loss + validation_loss):
            raise DivergenceError(
                f"the loss is {loss} in epoch {checkpoint.epoch} and {validation_loss} on the validation images: "
                f"train again with a lower learning rate than {settled.learning_rate:g}"
            )
        checkpoint.seconds += time.monotonic() - began
        checkpoint.history.append(
            {
                "epoch": checkpoint.epoch,
                "loss": round(loss, 4),
                "accuracy": round(accuracy, 4),
                "validation_loss": round(validation_loss, 4),
                "validation_accuracy": round(validation_accuracy, 4),
                "seconds": round(time.monotonic() - began, 1),
            }
        )
        checkpoints.save(folder, checkpoint, model, optimizer)
        _log("  ".join(f"{key} {value:g}" for key, value in checkpoint.history[-1].items()), say)
    return checkpoint


def _train_epoch(
    model: Classifier,
    optimizer: torch.optim.SGD,
    checkpoint: Checkpoint,
    images: ImageSet,
    device: Device,
    per_epoch: int,
    say: bool,
) -> tuple[float, float]:
    """One pass over the images; mean loss and accuracy on what was trained on."""
    recipe = checkpoint.recipe
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + checkpoint.epoch)
    model.train()
    losses, right, seen = 0.0, 0, 0
    label = f"epoch {checkpoint.epoch + 1}/{recipe.epochs}"
    epoch = augmentation.batches(images, recipe.batch_size, generator, recipe.crop_padding, recipe.flip, recipe.cutout)
    with tqdm(total=len(images), desc=label, unit=" images", leave=False, disable=not say) as bar:
        for i, (pixels, targets) in enumerate(epoch):
            rate = rate_at(checkpoint.epoch * per_epoch + i, recipe.epochs * per_epoch, recipe)
            for group in optimizer.param_groups:
                group["lr"] = rate
            pixels, shares = augmentation.cutmix(pixels, targets, len(images.classes), recipe.cutmix, generator)
            with device.autocast():
                logits = model(normalise(pixels.to(device.name), checkpoint))
            loss = functional.cross_entropy(logits.float(), shares.to(device.name), label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(targets)
            right += int((logits.argmax(1).cpu() == targets).sum())
            seen += len(targets)
            bar.update(len(targets))
            bar.set_postfix_str(f"loss {losses / seen:.3f}, accuracy {right / seen:.3f}", refresh=False)
    return losses / seen, right / seen


@torch.inference_mode()
def evaluate(model: Classifier, checkpoint: Checkpoint, images: ImageSet, device: Device) -> tuple[float, float]:
    """Mean cross-entropy and top-1 accuracy on images as they are."""
    model = checkpoint.answering(model).eval()
    loss, right = 0.0, 0
    for pixels, targets in _in_order(images, max(checkpoint.recipe.batch_size, 64)):
        targets = targets.to(device.name)
        with device.autocast():
            logits = model(normalise(pixels.to(device.name), checkpoint)).float()
        loss += functional.cross_entropy(logits, targets, reduction="sum").item()
        right += int((logits.argmax(1) == targets).sum())
    return loss / len(images), right / len(images)


def _in_order(images: ImageSet, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for begin in range(0, len(images), size):
        yield torch.from_numpy(images.pixels[begin : begin + size]), torch.from_numpy(images.targets[begin : begin + size])


def _log(line: str, say: bool) -> None:
    if say:
        tqdm.write(line, file=sys.stderr)

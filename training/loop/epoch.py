"""One pass over images: to learn from them, or to see how well they are answered."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training.data import augmentation, balance, progressive_resizing
from training.data.crop import resize
from training.data.dataset import ImageSet
from training.data.prefetch import prefetched
from training.loop.checkpoint import Checkpoint
from training.loop.device import Device
from training.loop.distributed import ALONE, Processes
from training.loop.eta import Pace
from training.loop.normalisation import constants, scaled
from training.loop.optimizer import set_rate
from training.loop.schedule import momentum_at, rate_at
from training.loop.state import State, layout
from training.loop.teacher import Teacher, losses, unlike
from training.networks import freezing
from training.networks.classifier import Classifier
from training.recipe import Recipe

LEAST_BATCH = 64  # images that are evaluated together


@dataclass(frozen=True)
class Learnt:
    """Mean loss and accuracy on what was trained on, the learning rate of the last step, and how many images there were."""

    loss: float
    accuracy: float
    rate: float
    images: int


class Batch(NamedTuple):
    """This process's part of a batch.

    pixels: (m, height, width, 3) uint8. shares: of the classes, (m, classes) float32. targets: (m,) int64, -1 of no class.
    whole: images of all processes. taught: logits (m, classes) and features (m, dimensions) of a teacher, float32.
    """

    pixels: Tensor
    shares: Tensor
    targets: Tensor
    whole: int
    taught: tuple[Tensor, Tensor] | None = None

    def pinned(self) -> "Batch":
        """In memory that a GPU reads while the CPU goes on."""
        taught = None if self.taught is None else (self.taught[0].pin_memory(), self.taught[1].pin_memory())
        return Batch(self.pixels.pin_memory(), self.shares.pin_memory(), self.targets.pin_memory(), self.whole, taught)


class Lessons(NamedTuple):
    """What is learnt beside labels. images: those to train on, and as the last so many that are unlabelled."""

    teacher: Teacher
    images: ImageSet
    unlabelled: int = 0


def learn(
    state: State,
    checkpoint: Checkpoint,
    images: ImageSet,
    device: Device,
    pace: Pace,
    say: bool,
    processes: Processes = ALONE,
    lessons: Lessons | None = None,
) -> Learnt:
    """Train on every image once, but for those of a last, smaller batch; of each batch, on the part of this process."""
    weights = balance.class_weights(images.targets, len(images.classes), checkpoint.recipe.balance)
    images = lessons.images if lessons else images
    recipe, batches = checkpoint.recipe, max(1, len(images) // checkpoint.recipe.batch_size)
    steps = math.ceil(batches / recipe.accumulate)
    torch.manual_seed(seed_of_dropout(recipe.seed, checkpoint.epoch, processes.rank))
    state.model.train()
    weights = weights if weights is None else weights.to(device.name)
    passed, epochs = checkpoint.epoch - recipe.fits, recipe.epochs - recipe.fits  # of those that go by steps
    frozen = freezing.frozen_at(passed, state.model, recipe.freeze, recipe.unfreeze_every)
    freezing.freeze(state.model, frozen, recipe.keeps_statistics)
    prepared = preparation(checkpoint, device)
    sums = torch.zeros(4, dtype=torch.float64, device=device.name)  # of losses, right answers, images, those with a label
    rate = 0.0
    label = f"epoch {checkpoint.epoch + 1}/{recipe.epochs}"
    with (
        tqdm(total=len(images), desc=label, unit=" images", leave=False, disable=not say) as bar,
        closing(prefetched(_batches(images, checkpoint, device, processes, lessons), device.of_this_thread())) as ahead,
    ):
        for i, batch in enumerate(ahead):
            added = min(recipe.accumulate, batches - i + i % recipe.accumulate)  # batches of this step
            loss, right = _loss(state, recipe, batch, weights, prepared, device)
            state.scaler.scale(loss / batch.whole / added).backward()
            if (i + 1) % recipe.accumulate == 0 or i + 1 == batches:
                processes.add([p.grad for p in state.learning() if p.grad is not None])
                rate = _step(state, recipe, passed * steps + i // recipe.accumulate, epochs * steps)
            seen = [torch.full_like(right, count) for count in (len(batch.targets), int((batch.targets >= 0).sum()))]
            sums += torch.stack((loss.detach().double(), right, *seen))
            if bar.update(batch.whole):  # it was drawn: now and then, because to read the sums is to wait for the device
                means = "loss {:.3f}, accuracy {:.3f}".format(*(sums[:2] / sums[2:].clamp(min=1)).tolist())
                bar.set_postfix_str(f"{means}, {pace.left(checkpoint.epoch + (i + 1) / batches)}", refresh=False)
    processes.average(state.statistics())  # on CPUs each process has seen its own part
    processes.add([sums])
    total, right, looked_at, known = sums.tolist()
    return Learnt(total / looked_at, right / max(1, known), rate, int(looked_at))


def _batches(
    images: ImageSet, checkpoint: Checkpoint, device: Device, processes: Processes, lessons: Lessons | None
) -> Iterator[Batch]:
    """The batches of one epoch, which depend on seed and epoch alone; ``images`` with those that are unlabelled as the last."""
    recipe, epoch = checkpoint.recipe, checkpoint.epoch
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    finer = lessons.teacher.finer(recipe.input) if lessons else 1.0
    unlabelled = lessons.unlabelled if lessons else 0
    for views, shares, targets in augmentation.batches(images, recipe, epoch, generator, unlabelled, finer):
        part = processes.part(len(targets))
        batch = Batch(views[part], shares[part], targets[part], len(targets))
        if lessons:
            seen, sides = batch.pixels.numpy(), progressive_resizing.at(recipe.input, recipe.sizes, epoch, recipe.epochs)
            pixels = torch.from_numpy(resize(seen, *sides, recipe.input.interpolation))
            batch = batch._replace(pixels=pixels, taught=lessons.teacher.answers(seen))
        yield batch.pinned() if device.is_gpu else batch


def _loss(
    state: State, recipe: Recipe, batch: Batch, weights: Tensor | None, prepared: Callable[[Tensor], Tensor], device: Device
) -> tuple[Tensor, Tensor]:
    """Sum of the losses of a batch, and how many of its targets have the highest logit. Of what a teacher's weight leaves, the
    labels have the loss."""
    shares, targets = (part.to(device.name, non_blocking=True) for part in (batch.shares, batch.targets))
    with device.autocast():
        parts, features = state.parts(prepared(batch.pixels))
        hint = state.hint(features) if state.hint else None
    right = (parts[0][1].argmax(1) == targets).sum().double()
    found = [weight * balance.losses(logits.float(), shares, weights, recipe.label_smoothing).sum() for weight, logits in parts]
    if batch.taught is None:
        return torch.stack(found).sum(), right
    share, (answers, embedding) = recipe.teacher_weight, (part.to(device.name, non_blocking=True) for part in batch.taught)
    found = [(1 - share) * loss for loss in found]
    if share:
        found += [weight * share * losses(y.float(), answers, recipe.teacher_temperature).sum() for weight, y in parts]
    if hint is not None:
        found.append(recipe.teacher_hint * unlike(hint.float(), embedding).sum())
    return torch.stack(found).sum(), right


def _step(state: State, recipe: Recipe, step: int, steps: int) -> float:
    """Move the weights by the gradients that were added up; the learning rate of this step of so many."""
    rate = rate_at(step, steps, recipe)
    set_rate(state.optimizer, rate, momentum_at(step, steps, recipe))
    if recipe.clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.learning(), recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.average:
        state.average.update(step)
    return rate


@torch.inference_mode()
def evaluate(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet, device: Device, processes: Processes = ALONE
) -> tuple[float, float]:
    """Mean cross-entropy and top-1 accuracy on images as they are; each process looks at its part of them."""
    model = checkpoint.answering(model).eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device.name)
    part, prepared = processes.part(len(images)), preparation(checkpoint, device)
    for pixels, targets in _in_order(images, part, max(checkpoint.recipe.batch_size, LEAST_BATCH)):
        targets = targets.to(device.name)
        with device.autocast():
            logits = model(prepared(pixels)).float()
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        sums += torch.stack((loss.double(), (logits.argmax(1) == targets).sum().double()))
    processes.add([sums])
    loss, right = (sums / len(images)).tolist()
    return loss, right


def preparation(checkpoint: Checkpoint, device: Device) -> Callable[[Tensor], Tensor]:
    """What makes pixels what the network takes: on the device, normalised, in the layout of the recipe."""
    mean, std = constants(checkpoint, torch.device(device.name))
    in_memory = layout(checkpoint.recipe)

    def prepared(pixels: Tensor) -> Tensor:
        return scaled(pixels.to(device.name, non_blocking=True), mean, std).contiguous(memory_format=in_memory)

    return prepared


def seed_of_dropout(seed: int, epoch: int, rank: int) -> int:
    """Of torch's own generator: another for each epoch, so that an epoch does not depend on those before."""
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def _in_order(images: ImageSet, part: slice, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for begin in range(part.start, part.stop, size):
        some = slice(begin, min(begin + size, part.stop))
        yield torch.from_numpy(images.pixels[some]), torch.from_numpy(images.targets[some])

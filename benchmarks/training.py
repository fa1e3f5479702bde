"""How fast training is: the loop of training/ beside a plain loop of torchvision's kind, with the same network, batch, optimizer,
precision and augmentation, in turns.

    .venv/bin/python -m benchmarks.training --rounds 5

The plain loop is a DataLoader over single images with torchvision's transforms, and reads its loss and accuracy after each
step, as the training references of torchvision do. Both take decoded images from memory. The first turn of each is not
counted. "waiting" is the share of an epoch in which the loop has no batch to work on.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks import machine
from models.image.spec import InputSpec
from training.data import prefetch
from training.data.dataset import ImageSet
from training.loop import epoch
from training.loop.checkpoint import Checkpoint
from training.loop.device import Device, choose_device
from training.loop.eta import Pace
from training.loop.state import begin
from training.networks import catalogue
from training.recipe import Recipe

CLASSES = 10
MEAN, STD = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]  # of CIFAR-10


@dataclass(frozen=True)
class Turn:
    """One epoch."""

    images: int
    seconds: float
    waiting: float  # seconds


class Waiting:
    """How long whoever goes through ``batches`` waits for them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, batches: Iterable[object]) -> Generator[object]:
        source = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield batch


class Pictures(Dataset):
    """Single images for the plain loop."""

    def __init__(self, images: ImageSet, recipe: Recipe) -> None:
        self.images = images
        pad, cut = recipe.crop_padding, recipe.cutout
        size = (recipe.input.height, recipe.input.width)
        self.transform = v2.Compose(
            [
                *([v2.RandomCrop(size, padding=pad, padding_mode="reflect")] if pad else []),
                *([v2.RandomHorizontalFlip()] if recipe.flip else []),
                v2.ToDtype(torch.float32),
                v2.Normalize(MEAN, STD),
                *([v2.RandomErasing(1.0, (cut * cut / size[0] / size[1],) * 2, (1.0, 1.0))] if cut else []),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(self.images.pixels[i]).permute(2, 0, 1)
        return self.transform(image), int(self.images.targets[i])


def settle(device: Device) -> None:
    """Until the device has done all it was given."""
    if device.is_gpu:
        torch.cuda.synchronize()


def ours(images: ImageSet, recipe: Recipe, device: Device, ahead: bool) -> Callable[[], Turn]:
    """An epoch of this project's loop at each call; without ``ahead``, batches are made when they are asked for."""
    checkpoint = Checkpoint(recipe, images.classes, MEAN, STD)
    state = begin(checkpoint.build(), recipe, device)
    pace = Pace(0, recipe.epochs)

    def turn() -> Turn:
        waiting = Waiting()
        source = prefetch.prefetched if ahead else lambda batches, _: iter(batches)
        epoch.prefetched = lambda batches, begin: waiting.watch(source(batches, begin))
        began = time.perf_counter()
        learnt = epoch.learn(state, checkpoint, images, device, pace, say=False)
        settle(device)
        return Turn(learnt.images, time.perf_counter() - began, waiting.seconds)

    return turn


def plain(images: ImageSet, recipe: Recipe, device: Device, workers: int) -> Callable[[], Turn]:
    """An epoch of a loop of torchvision's kind at each call."""
    model = catalogue.build(recipe.architecture, CLASSES)
    model.to(device.name, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    loader = DataLoader(
        Pictures(images, recipe),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.is_gpu,
    )

    def turn() -> Turn:
        model.train()
        waiting, losses, right, seen = Waiting(), 0.0, 0.0, 0
        began = time.perf_counter()
        for pixels, targets in waiting.watch(loader):
            pixels = pixels.to(device.name, memory_format=torch.channels_last, non_blocking=True)
            targets = targets.to(device.name, non_blocking=True)
            with device.autocast():
                logits = model(pixels)
                loss = criterion(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(targets)
            right += (logits.argmax(1) == targets).sum().item()
            seen += len(targets)
        settle(device)
        return Turn(seen, time.perf_counter() - began, waiting.seconds)

    return turn


def noise(n: int, size: int) -> ImageSet:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (n, size, size, 3)).astype(np.uint8)
    targets = random.integers(0, CLASSES, n)
    return ImageSet(pixels, targets, tuple(map(str, range(CLASSES))), tuple(map(str, range(n))), ())


def make_recipe(args: argparse.Namespace) -> Recipe:
    spec = InputSpec(args.size, args.size, args.size)
    cutout = args.size // 4
    return Recipe(
        args.architecture, spec, 1000, batch_size=args.batch_size, learning_rate=0.01, cutout=cutout, precision=args.precision
    )


def measure(args: argparse.Namespace) -> dict[str, list[Turn]]:
    """Turns of each loop, one after the other, round after round."""
    recipe, images, device = make_recipe(args), noise(args.images, args.size), choose_device(args.precision)
    loops = {
        "training, one batch ahead": ours(images, recipe, device, ahead=True),
        "training, batches made in turn": ours(images, recipe, device, ahead=False),
        f"plain, {args.workers} workers": plain(images, recipe, device, args.workers),
    }
    turns: dict[str, list[Turn]] = {name: [] for name in loops}
    for number in range(args.rounds + 1):
        for name, loop in loops.items():
            turn = loop()
            if number:
                turns[name].append(turn)
    return turns


def summary(turns: list[Turn]) -> dict[str, object]:
    speeds = sorted(turn.images / turn.seconds for turn in turns)
    waiting = statistics.median(turn.waiting / turn.seconds for turn in turns)
    return {
        "n": len(turns),
        "images_per_second": round(statistics.median(speeds), 1),
        "lowest": round(speeds[0], 1),
        "highest": round(speeds[-1], 1),
        "waiting": round(waiting, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", default="resnet10-small", help="of both loops (default: %(default)s)")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--images", type=int, default=2048, help="in an epoch, which is a turn (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loop that count (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the plain loop's DataLoader (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's)")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    busy = machine.others()
    results = {name: summary(turns) for name, turns in measure(args).items()}
    if args.json:
        about = {"machine": machine.describe(), "cores_of_others": round(busy, 2), "settings": vars(args)}
        print(json.dumps(about | {"results": results}, indent=1))
        return
    print(f"{args.architecture}, {args.size} pixels, batches of {args.batch_size}, {torch.get_num_threads()} threads on")
    print(f"{machine.processor()}, of which others used {busy:.1f} cores before")
    for name, row in results.items():
        print(
            f"{name:32} {row['images_per_second']:9} images/s ({row['lowest']} to {row['highest']}, n = {row['n']}), "
            f"waiting for data {100 * row['waiting']:.1f} %"
        )


if __name__ == "__main__":
    main()

"""python -m service.dry_run FOLDER: load a package as the service would, and say as JSON how it did.

HUBEL_DEVICE, HUBEL_PRECISION, HUBEL_THREADS, HUBEL_MAX_BATCH, HUBEL_GPU_MEMORY_MB and HUBEL_REQUIRE_SIGNATURE count as they do
for the service.
"""

import argparse
import json
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import ImageError, PackageError
from models.image.clutter import is_clutter, is_hidden
from models.image.preprocess import Pixels
from models.lifecycle.dry_run import SECONDS, DryRun, Speed
from models.package import held_out_answers
from models.package.held_out_answers import UNKNOWN, Answers, identity
from models.package.manifest import Manifest
from service import settings
from service.errors import OutOfMemory
from service.inference.classifier import Classifier
from service.inference.session import DeviceError, OnnxSession
from service.settings import Settings, SettingsError

PARTS = ("test", "val", "validation", "valid")  # where a folder holds parts, the first of these is measured
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
ONE_SECONDS, LARGEST_SECONDS = 0.5, 2.0
LEAST_RUNS, MOST_RUNS = 5, 50
FAILED = 1


def try_out(folder: Path, config: Settings, images: Path | None = None, target: Path | None = None) -> DryRun:
    """Load and warm the package in ``folder``, try pictures on it that no photograph is like, and time it.

    Raises:
        PackageError, DeviceError: it would not be served; the reason.
    """
    began = time.perf_counter()
    how = (config.device, config.precision, config.inference_threads(), config.signature_key(), config.gpu_memory())
    classifier = Classifier.load(folder, *how)
    runtime = classifier.session
    _check_extremes(runtime, config.max_batch)
    loaded, size = time.perf_counter() - began, runtime.sizes[-1]
    one = _time(runtime, 1, ONE_SECONDS)
    largest = _time(runtime, size, LARGEST_SECONDS)
    given, left_out = (0, 0) if images is None or target is None else _answer(classifier, images, target, size)
    return DryRun(
        runtime.manifest.id,
        runtime.provider,
        runtime.precision,
        runtime.skipped_backends,
        loaded,
        one,
        largest,
        _peak_memory(),
        given,
        left_out,
    )


def _check_extremes(runtime: OnnxSession, max_batch: int) -> None:
    """Every size of batch works, and black, white and noise give numbers."""
    spec, name = runtime.manifest.input, runtime.manifest.id
    noise = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3)).astype(np.uint8)
    images = np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise])
    try:
        runtime.warm(max_batch)
        found = runtime.run(images, ("features", *runtime.manifest.answer_outputs))
    except Exception as err:  # ONNX Runtime's own classes share no base
        raise PackageError(f"{name} fails when it is warmed with black, white and noise: {_first_line(err)}") from err
    if strange := [output for output, values in found.items() if not np.isfinite(values).all()]:
        raise PackageError(f"{name} gives values that are no numbers (NaN or infinite) in its {' and '.join(strange)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _time(runtime: OnnxSession, size: int, budget: float) -> Speed:
    """Median over as many batches as fit into ``budget`` seconds."""
    spec = runtime.manifest.input
    batch = np.random.default_rng(1).integers(0, 256, (size, spec.height, spec.width, 3)).astype(np.uint8)
    taken: list[float] = []
    while len(taken) < LEAST_RUNS or (sum(taken) < budget and len(taken) < MOST_RUNS):
        began = time.perf_counter()
        runtime.run(batch, runtime.manifest.answer_outputs)
        taken.append(time.perf_counter() - began)
    return Speed(size, statistics.median(taken), len(taken))


def _answer(classifier: Classifier, folder: Path, target: Path, size: int) -> tuple[int, int]:
    """Answer the images of ``folder`` and write them; how many, and how many cannot be decoded."""
    parts: list[Answers] = []
    left_out = 0
    manifest = classifier.manifest
    for pixels, images, targets, failed in _batches(folder, classifier, size):
        left_out += failed
        if pixels:
            parts.append(held_out_answers.of_logits(images, targets, classifier.compute(pixels), manifest.temperature))
    if not parts:
        raise PackageError(f"{folder} holds no image of a class of {manifest.id} that can be decoded; name another --data")
    held_out_answers.write(target, Answers(*(np.concatenate(column) for column in zip(*parts, strict=True))))
    return sum(len(part.image) for part in parts), left_out


def _batches(
    folder: Path, classifier: Classifier, size: int
) -> Iterator[tuple[list[Pixels], NDArray[np.uint64], NDArray[np.int32], int]]:
    """Pixels, identities and targets of up to ``size`` files, and how many of these files are left out."""
    files = _list(folder, classifier.manifest)
    for begin in range(0, len(files), size):
        part = files[begin : begin + size]
        pixels, images, targets = list[Pixels](), list[int](), list[int]()
        for path, label in part:
            try:
                data = path.read_bytes()
                pixels.append(classifier.decode(data))
            except (ImageError, OSError):
                continue
            images.append(identity(data))
            targets.append(label)
        yield pixels, np.array(images, np.uint64), np.array(targets, np.int32), len(part) - len(pixels)


def _list(folder: Path, manifest: Manifest) -> list[tuple[Path, int]]:
    """Image files below the class folders, with the number of their class in this package."""
    part = next((folder / name for name in PARTS if (folder / name).is_dir() and name not in manifest.labels), folder)
    if not part.is_dir():
        raise PackageError(f"--data {folder} is not a folder; give one with a folder of images for each class")
    number = {label: i for i, label in enumerate(manifest.labels)}
    folders = sorted(path for path in part.iterdir() if path.is_dir() and not _is_skipped(path.name))
    if not any(path.name in number for path in folders):
        raise PackageError(f"{part} has no folder that is called as a class of {manifest.id}: {', '.join(manifest.labels[:10])}")
    return [
        (path, number.get(place.name, UNKNOWN))
        for place in folders
        for path in sorted(place.rglob("*"))
        if path.suffix.lower() in ENDINGS and path.is_file() and not any(map(_is_skipped, path.relative_to(place).parts))
    ]


def _is_skipped(name: str) -> bool:
    """As training passes them over."""
    return is_hidden(name) or is_clutter(name)


def _peak_memory() -> int:
    """Most bytes of memory that this program held. getrusage would count those of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.dry_run", description="Try a package as the service would run it.")
    parser.add_argument("folder", type=Path, help="STORE/NAME/VERSION")
    parser.add_argument("--data", type=Path, help="folder of images to answer, with a folder for each class")
    parser.add_argument("--answers", type=Path, help="where to write the answers (.npz)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which it ends itself (default: %(default)g)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    signal.setitimer(signal.ITIMER_REAL, args.seconds)  # ends the process whatever a graph is busy with
    try:
        found = try_out(args.folder, settings.read(), args.data, args.answers)
    except (PackageError, DeviceError, SettingsError) as err:
        return _refuse(str(err))
    except (MemoryError, OutOfMemory):
        return _refuse(f"{args.folder} needs more memory than is free")
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0


def _refuse(reason: str) -> int:
    sys.stdout.write(json.dumps({"refused": reason}) + "\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())

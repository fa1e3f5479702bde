"""How far the figures of drift rise when traffic changes, with the bundled package's graph and real images.

``python -m benchmarks.drift --data CIFAR10/test --other MNIST/test`` makes a reference of every second image of --data and
compares windows of the others with it: as they are, blurred, darkened, of half the classes alone, and those of --other; 20
windows each. It prints the least, the median and the greatest of each figure, as a table, and what a sample costs.
Folders of class folders.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from models.image.preprocess import preprocess
from models.package import manifest as manifests
from models.package.manifest import MODEL, Manifest
from models.package.precision import GRAPHS
from models.package.probability import softmax
from models.registry import registry
from service.monitoring.drift import SAMPLES, WINDOW, Sample, Window, figures
from training.data import dataset
from training.data.dataset import ImageSet
from training.data.sources.catalogue import open_source
from training.publishing import drift_reference
from training.publishing.export import open_session

WINDOWS = 20
FIGURES = ("classes", "confidence", "brightness", "sharpness", "size", "features")
Pixels = NDArray[np.uint8]
Noted = tuple[int, float, NDArray[np.float32]]
BATCH = 64


def blurred(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))


def darkened(pixels: Pixels) -> Pixels:
    return (pixels * 0.4).astype(np.uint8)


def noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(int(pixels.sum())).normal(0, 20, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda pixels: pixels,
    "blurred (radius 1 pixel)": blurred,
    "darkened (to 0.4)": darkened,
    "with noise (deviation 20)": noisy,
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="test images of the model's kind, a folder for each class")
    parser.add_argument("--other", type=Path, required=True, help="images of another kind")
    parser.add_argument("--model", default="cifar10", help="package (default: %(default)s)")
    parser.add_argument("--store", type=Path, default=registry.STORE)
    parser.add_argument("--limit", type=int, default=10_000, help="images of each kind (default: %(default)s)")
    return parser


def noted(
    session: onnxruntime.InferenceSession,
    manifest: Manifest,
    images: Pixels,
    window: Window,
    files: list[bytes],
) -> list[Noted]:
    """What the service would note of images: label, probability, figures of a sample. files: theirs, as they came."""
    found: list[Noted] = []
    assert window.reference is not None
    for begin in range(0, len(images), BATCH):
        batch = images[begin : begin + BATCH]
        logits, features = map(np.asarray, session.run(["logits", "features"], {"images": batch}))
        shares = softmax(logits, manifest.temperature)
        for i, (pixels, row, share) in enumerate(zip(batch, features, shares, strict=True), begin):
            sample = Sample(files[i], pixels, row)
            found.append((int(share.argmax()), float(share.max()), figures(window.reference, sample)))
    return found


def windows(seen: list[Noted], window: Window) -> list[dict[str, float]]:
    """The figures of WINDOWS windows, each of images drawn out of all, as many as the service compares."""
    rng, found = np.random.default_rng(0), list[dict[str, float]]()
    for _ in range(WINDOWS):
        one = Window(window.reference, 0.0)
        order = rng.permutation(len(seen))
        one.answers.extend(seen[i][:2] for i in order[:WINDOW])
        one.samples.extend(seen[i][2] for i in order[:SAMPLES])
        distance = one.distance()
        found.append(one.stability() | {"features": np.nan if distance is None else distance})
    return found


def row(name: str, found: list[dict[str, float]]) -> str:
    cells = [f"{min(v):.2f} / {median(v):.2f} / {max(v):.2f}" for v in ([one[key] for one in found] for key in FIGURES)]
    return f"| {name} | {' | '.join(cells)} |"


def microseconds_of_a_sample(window: Window, sample: Sample) -> float:
    """Median of 1000, without the network."""
    assert window.reference is not None
    times: list[float] = []
    for _ in range(1000):
        began = time.perf_counter()
        figures(window.reference, sample)
        times.append(time.perf_counter() - began)
    return 1e6 * median(times)


def kinds_of_traffic(
    args: argparse.Namespace, folder: Path, manifest: Manifest, traffic: ImageSet, files: list[bytes], window: Window
) -> Iterator[tuple[str, list[Noted]]]:
    """Each kind with what the service would note of it."""
    session = open_session(folder / MODEL)
    for name, change in CHANGES.items():
        changed = np.stack([change(pixels) for pixels in tqdm(traffic.pixels, name, leave=False)])
        yield name, noted(session, manifest, changed, window, files)
    if (folder / GRAPHS["int8"]).is_file():
        quantized = open_session(folder / GRAPHS["int8"], precision="int8")
        yield "as they are, computed in int8", noted(quantized, manifest, traffic.pixels, window, files)
    some = np.flatnonzero(traffic.targets < len(traffic.classes) // 2)
    yield "half of the classes alone", noted(session, manifest, traffic.pixels[some], window, [files[i] for i in some])
    items = open_source(args.other).train.items
    chosen = np.random.default_rng(0).permutation(len(items))[: args.limit // 2]
    others = [items[i].read() for i in chosen]
    pixels = np.stack([preprocess(file, manifest.input) for file in others])
    yield title_of(args.other), noted(session, manifest, pixels, window, others)


def title_of(folder: Path) -> str:
    return folder.parent.name if folder.name == "test" else folder.name


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    folder = registry.resolve(args.store, args.model)
    manifest = manifests.read(folder)
    part = open_source(args.data).train
    images = dataset.decode(part, manifest.input, tuple(manifest.labels))
    images = images.subset(np.random.default_rng(0).permutation(len(images))[: args.limit])
    half, traffic = (images.subset(np.arange(i, len(images), 2)) for i in (0, 1))
    sizes = drift_reference.sizes_of(half, [part])
    window = Window(drift_reference.measure(open_session(folder / MODEL), half, sizes, manifest.temperature), 0.0)
    print(f"{len(half)} images in the reference, windows out of {len(traffic)}: least / median / greatest of {WINDOWS} windows\n")
    print(f"| traffic | {' | '.join(FIGURES)} |\n|{' --- |' * (1 + len(FIGURES))}")
    items = {item.path: item for item in part.items}
    files = [items[path].read() for path in traffic.paths]
    for name, seen in kinds_of_traffic(args, folder, manifest, traffic, files, window):
        print(row(name, windows(seen, window)), flush=True)
    sample = Sample(files[0], traffic.pixels[0], np.zeros(manifest.outputs["features"], np.float32))
    print(f"\na sample costs {microseconds_of_a_sample(window, sample):.0f} us (n = 1000, median)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

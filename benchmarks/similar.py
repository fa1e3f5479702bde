"""Similar images: what a search takes, and whether copies of pictures find them, as docs/similar.md has it.

``python -m benchmarks.similar search INDEX`` takes the vectors of an index (DIR/NAME/VERSION), mixes them at random up to
100,000 (two at a time, with noise), and searches those for such mixtures in four ways: by stand-ins as the service does; all
vectors in single precision; all in half precision, which have to be converted; and by stand-ins for vectors that nothing in the
set is like. ``python -m benchmarks.similar copies FOLDER`` makes the index of a folder with the model ``imagenet``, asks it for
mirrored, cropped and recompressed copies, and says how often each found its picture first, and which cosines they have.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageOps

from models.image.limits import LIMITS
from models.image.preprocess import decode, upright
from models.imagenet import package
from models.registry import registry
from service.inference.classifier import Classifier
from service.settings import available_cores
from service.similar import bounds
from service.similar.bounds import Floats
from service.similar.build import build
from service.similar.index import Index
from service.similar.near_copies import THRESHOLD
from service.similar.search import nearest, promising
from service.similar.walk import walk

K = 10
NOISE = 0.3  # of the logarithm of each number
BLOCK = 4096  # vectors that are converted at a time


def unit(vectors: Floats | bounds.Doubles) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def mixtures(vectors: Floats, n: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    made = np.empty((n, vectors.shape[1]), np.float32)
    for b in range(0, n, BLOCK):
        some = made[b : b + BLOCK]
        first, second = (vectors[random.integers(0, len(vectors), len(some))] for _ in range(2))
        share = random.random((len(some), 1), np.float32)
        noise = np.exp(NOISE * random.standard_normal(some.shape, np.float32))
        some[:] = unit((share * first + (1 - share) * second) * noise)
    return made


def timed(queries: Floats, find: Callable[[Floats], object]) -> str:
    """Milliseconds of a query: median, and the 95th percentile."""
    taken: list[float] = []
    for query in queries:
        began = time.perf_counter()
        find(query)
        taken.append(1000 * (time.perf_counter() - began))
    return f"{median(taken):7.1f} ms, p95 {np.percentile(taken, 95):7.1f} ms, n = {len(taken)}"


def by_half(half: np.ndarray, query: Floats) -> None:
    """All compared in half precision, converted a block at a time."""
    blocks = [half[b : b + BLOCK].astype(np.float32) @ query for b in range(0, len(half), BLOCK)]
    found = np.concatenate(blocks)
    found[np.argpartition(found, len(found) - K)[-K:]].sort()


def measure_search(place: Path, n: int, turns: int) -> None:
    index = Index(place)
    print(f"{index.manifest.id}: {index.manifest.images:,} vectors, mixed to {n:,} of {index.manifest.dimensions} numbers")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors"
        mixtures(index.vectors, n, 0).tofile(file)
        vectors: Floats = np.asarray(np.memmap(file, np.float32, "r", shape=(n, index.manifest.dimensions)))
        began = time.perf_counter()
        basis = bounds.basis_of(vectors)
        parts = [bounds.stand_in(vectors[b : b + BLOCK], basis) for b in range(0, n, BLOCK)]
        stand_ins = np.concatenate(parts)
        sizes = f"{stand_ins.nbytes / 1e6:.0f} MB beside {vectors.nbytes / 1e6:.0f}"
        print(f"stand-ins: {time.perf_counter() - began:.1f} s to make, {sizes}")
        queries = mixtures(index.vectors, turns, 1)
        far = unit(np.abs(np.random.default_rng(2).standard_normal(queries.shape)).astype(np.float32))
        agree = sum(nearest(vectors, q, K, stand_ins, basis)[0].tolist() == nearest(vectors, q, K)[0].tolist() for q in queries)
        read = [len(promising(vectors, query, K, stand_ins, basis, 1e-4)) for query in queries]
        half = vectors.astype(np.float16)
        rounded = half.astype(np.float32)
        other = sum(set(nearest(rounded, q, K)[0]) != set(nearest(vectors, q, K)[0]) for q in queries)
        del rounded
        print(f"same {K} in the same order: {agree} of {len(queries)}")
        print(f"vectors left by stand-ins: median {median(read):.0f}, most {max(read)}")
        print(f"other {K} from half precision: {other} of {len(queries)}")
        print(f"by stand-ins:              {timed(queries, lambda q: nearest(vectors, q, K, stand_ins, basis))}")
        print(f"by stand-ins, like none:   {timed(far, lambda q: nearest(vectors, q, K, stand_ins, basis))}")
        print(f"all, single precision:     {timed(queries, lambda q: nearest(vectors, q, K))}")
        print(f"all, half precision:       {timed(queries[:20], lambda q: by_half(half, q))}")


COPIES: dict[str, Callable[[Image.Image], tuple[Image.Image, int]]] = {
    "mirrored": lambda image: (ImageOps.mirror(image), 95),
    "cropped to 80 % of each side": lambda image: (cropped(image, 0.8), 95),
    "cropped to 60 % of each side": lambda image: (cropped(image, 0.6), 95),
    "recompressed, quality 30": lambda image: (image, 30),
    "halved, recompressed, quality 50": lambda image: (image.resize((image.width // 2, image.height // 2)), 50),
    "mirrored, cropped to 80 %, quality 50": lambda image: (ImageOps.mirror(cropped(image, 0.8)), 50),
}


def cropped(image: Image.Image, share: float) -> Image.Image:
    """The middle."""
    across, down = image.width * (1 - share) / 2, image.height * (1 - share) / 2
    return image.crop((round(across), round(down), round(image.width - across), round(image.height - down)))


def saved(image: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def measure_copies(folder: Path) -> None:
    place = registry.resolve(package.store_of(package.NAME, registry.STORE), package.NAME)
    classifier = Classifier.load(place, threads=available_cores())
    classifier.session.warm()
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        built = build(walk(folder), Path(root), classifier, LIMITS, available_cores(), lambda _: None)
        how = f"{classifier.session.provider} in {classifier.session.precision}"
        print(f"{built.images} images indexed in {time.perf_counter() - began:.1f} s by {how}")
        index = Index(Path(built.place))
        between = np.sort((index.vectors @ index.vectors.T)[np.triu_indices(len(index.vectors), 1)])[::-1]
        print(f"cosine of two pictures: highest {', '.join(f'{x:.3f}' for x in between[:5])}, median {median(between):.3f}")
        for what, copy in COPIES.items():
            first, cosines = 0, list[float]()
            for number in range(index.manifest.images):
                stored = decode((folder / index.name(number)).read_bytes())
                data = saved(*copy(upright(stored.image, stored.orientation)))
                vector = classifier.features([data])[0]
                first += int(index.nearest(vector, 1)[0][0]) == number
                cosines.append(float(index.vectors[number] @ vector))
            shown = ", ".join(f"{np.percentile(cosines, p):.3f}" for p in (0, 5, 50))
            print(f"{what}: {first} of {len(cosines)} find their picture first; cosine: least, 5th percentile, median {shown}")
            print(f"    of at least {THRESHOLD}: {np.mean(np.asarray(cosines) >= THRESHOLD):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("search")
    command.add_argument("index", type=Path)
    command.add_argument("--vectors", type=int, default=100_000)
    command.add_argument("--turns", type=int, default=100)
    command.set_defaults(run=lambda args: measure_search(args.index, args.vectors, args.turns))
    command = commands.add_parser("copies")
    command.add_argument("folder", type=Path)
    command.set_defaults(run=lambda args: measure_copies(args.folder))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

"""Ways from JPEG bytes to a network's input, against the plain one: milliseconds, pixels and labels.

``HUBEL_BENCH_PHOTOS=FOLDER python -m benchmarks.decode [PACKAGE ...]`` writes DECODE.md beside this file. The packages
are folders such as models/store/cifar10/2; their networks say whether a faster way changes an answer.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import onnxruntime
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import others, processor
from models.image import preprocess as hubel
from models.image.header import ORIENTATION_TAG
from models.image.preprocess import RESAMPLING, Header, Pixels, read_header
from models.image.spec import InputSpec
from models.package import manifest

RESULT = Path(__file__).with_name("DECODE.md")
HEADING = "## Photographs of about 500x375 pixels"  # of the section that benchmarks/decode_small.py writes
BUNDLED = Path(__file__).parents[1] / "models" / "store" / "cifar10" / "2"
TIMED = InputSpec(height=224, width=224, resize=256)  # the geometry of most networks trained on ImageNet
TIMED_SIZE, TIMED_SMALL, TIMED_LARGE = (500, 375), 32, 8  # how many photographs are timed as they are and at 12 MP
LARGE, MIDDLE = 4000, 1600  # long side in pixels of photographs enlarged to about 12 and 2 megapixels
QUALITY = 90  # of the enlarged ones
THREADS = 2
MARGINS = (1.0, 1.5, 2.0, 3.0, 4.0)
REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}

Decode = Callable[[bytes, int], Any]  # file and denominator of the size to decode at -> whatever the resize takes
Resize = Callable[[Any, Header, InputSpec, int], Pixels]


@dataclass(frozen=True)
class Way:
    """One way. margin: it decodes at 1/2, 1/4 or 1/8 where that leaves so many times what the resize asks for."""

    decode: Decode
    resize: Resize
    margin: float | None = None

    def denominator(self, header: Header, spec: InputSpec) -> int:
        side = min(header.width, header.height)
        return next((n for n in (8, 4, 2) if self.margin is not None and side >= self.margin * spec.resize * n), 1)

    def __call__(self, data: bytes, spec: InputSpec) -> Pixels:
        header = read_header(data)
        n = self.denominator(header, spec)
        return self.resize(self.decode(data, n), header, spec, n)


def copied(data: bytes, n: int) -> Image.Image:
    return Image.fromarray(simplejpeg.decode_jpeg(data))


def uncopied(data: bytes, n: int) -> Image.Image:
    width, height = least_of(data, n)
    return padded(simplejpeg.decode_jpeg(data, "RGBX", min_width=width, min_height=height))


def fast_dct(data: bytes, n: int) -> Image.Image:
    return padded(simplejpeg.decode_jpeg(data, "RGBX", fastdct=True))


def fast_upsampling(data: bytes, n: int) -> Image.Image:
    return padded(simplejpeg.decode_jpeg(data, "RGBX", fastupsample=True))


def least_of(data: bytes, n: int) -> tuple[int, int]:
    """What to ask of simplejpeg so that it decodes at 1/n; 0 stands for all."""
    header = read_header(data)
    return (-(-header.width // n), -(-header.height // n)) if n > 1 else (0, 0)


def padded(array: Pixels) -> Image.Image:
    """The four bytes a pixel that Pillow works with: it takes the buffer over instead of copying it."""
    return Image.frombuffer("RGBX", (array.shape[1], array.shape[0]), array, "raw", "RGBX", 0, 1)


def pillow(data: bytes, n: int) -> Image.Image:
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        if n > 1:
            image.draft(None, (image.width // n, image.height // n))
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")


def opencv(data: bytes, n: int) -> Pixels:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[n] | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def opencv_for_pillow(data: bytes, n: int) -> Image.Image:
    return Image.fromarray(opencv(data, n))


def bare(data: bytes, n: int) -> bytes:
    return data


def box_of(header: Header, spec: InputSpec, n: int) -> tuple[float, float, float, float]:
    """What ``models.image.preprocess.fit`` cuts out, in pixels of the image decoded at 1/n."""
    side = min(header.width, header.height)
    across, down = spec.width * side / spec.resize, spec.height * side / spec.resize
    left, top = (header.width - across) / 2, (header.height - down) / 2
    return left / n, top / n, (left + across) / n, (top + down) / n


def pillow_resize(image: Image.Image, header: Header, spec: InputSpec, n: int, gap: float | None = None) -> Pixels:
    """What ``models.image.preprocess.fit`` does."""
    size = (spec.width, spec.height)
    box = box_of(header, spec, n)
    if box != (0.0, 0.0, *map(float, size)) or image.size != size:
        image = image.resize(size, RESAMPLING[spec.interpolation], box, gap)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def pillow_resize_in_two_steps(image: Image.Image, header: Header, spec: InputSpec, n: int) -> Pixels:
    return pillow_resize(image, header, spec, n, gap=2.0)


def opencv_resize(array: Pixels, header: Header, spec: InputSpec, n: int) -> Pixels:
    """Crop to whole pixels, then average over areas: OpenCV has no antialiased bilinear."""
    left, top, right, bottom = (round(edge) for edge in box_of(header, spec, n))
    return cv2.resize(array[top:bottom, left:right], (spec.width, spec.height), interpolation=cv2.INTER_AREA)


def own(data: bytes, header: Header, spec: InputSpec, n: int) -> Pixels:
    return hubel.preprocess(data, spec)


PLAIN = "simplejpeg whole, copied to Pillow: the plain way"
OWN = "Hubel (`models/image/preprocess.py`)"
WAYS: dict[str, Way] = {
    PLAIN: Way(copied, pillow_resize),
    OWN: Way(bare, own),
    "simplejpeg whole, not copied": Way(uncopied, pillow_resize),
    **{f"simplejpeg scaled, {margin:g}x": Way(uncopied, pillow_resize, margin) for margin in MARGINS},
    "simplejpeg `fastdct`": Way(fast_dct, pillow_resize),
    "simplejpeg `fastupsample`": Way(fast_upsampling, pillow_resize),
    "Pillow whole": Way(pillow, pillow_resize),
    "Pillow whole, `reducing_gap=2`": Way(pillow, pillow_resize_in_two_steps),
    "Pillow `draft`, 3x": Way(pillow, pillow_resize, 3.0),
    "OpenCV whole, Pillow resizes": Way(opencv_for_pillow, pillow_resize),
    "OpenCV reduced, 3x, Pillow resizes": Way(opencv_for_pillow, pillow_resize, 3.0),
    "OpenCV whole, `INTER_AREA`": Way(opencv, opencv_resize),
    "OpenCV reduced, 3x, `INTER_AREA`": Way(opencv, opencv_resize, 3.0),
}


@dataclass
class Network:
    """A package's graph, and the labels it gave so far, by the hash of the pixels."""

    folder: Path
    known: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest = manifest.read(self.folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(self.folder / manifest.MODEL, options, providers=["CPUExecutionProvider"])

    @property
    def title(self) -> str:
        return f"{self.manifest.name}, {self.manifest.input.height} px"

    @property
    def name(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    def label(self, pixels: Pixels) -> int:
        key = sha256(pixels).digest()
        if key not in self.known:
            logits: NDArray[np.float32] = self.session.run(["logits"], {"images": pixels[None]})[0]
            self.known[key] = int(logits.argmax())
        return self.known[key]


@dataclass
class Agreement:
    """One way against the plain one, at one geometry. changed: images whose pixels are not all the same."""

    images: int = 0
    changed: int = 0
    other_label: int = 0
    difference: float = 0.0  # sum over the changed images of the mean |difference|
    largest: int = 0

    def add(self, one: Pixels, other: Pixels, other_label: bool) -> None:
        apart = np.abs(one.astype(np.int16) - other)
        self.images += 1
        self.changed += bool(apart.any())
        self.other_label += other_label
        self.difference += float(apart.mean())
        self.largest = max(self.largest, int(apart.max()))

    def labels(self) -> str:
        return f"{100 * (1 - self.other_label / self.images):.2f} % ({self.other_label} of {self.changed})"

    def pixels(self) -> str:
        return f"{self.difference / self.changed:.2f} ({self.largest})" if self.changed else "0"


Agreements = dict[tuple[str, str], Agreement]  # by the titles of the geometry and of the way


def compare(photos: Sequence[bytes], networks: Sequence[Network]) -> Agreements:
    """Each photograph as it is and enlarged to 2 MP, each sixteenth to 12 MP too."""
    found: Agreements = {}
    for number, photo in enumerate(photos):
        print(f"\r{number}/{len(photos)} photographs compared", end="", file=sys.stderr, flush=True)
        sizes = [size for size, every in ((MIDDLE, 1), (LARGE, 16)) if number % every == 0]
        for data in (photo, *(enlarged(photo, size) for size in sizes)):
            compare_one(data, networks, found)
    print(file=sys.stderr)
    return found


def compare_one(data: bytes, networks: Sequence[Network], found: Agreements) -> None:
    decoded: dict[tuple[Decode, int], Any] = {}
    timed = all_ways(data, TIMED, decoded)
    for name, pixels in timed.items():
        found.setdefault(("", name), Agreement()).add(timed[PLAIN], pixels, False)
    for network in networks:
        spec = network.manifest.input
        made = timed if spec == TIMED else all_ways(data, spec, decoded)
        label = network.label(made[PLAIN])
        for name, pixels in made.items():
            entry = found.setdefault((network.title, name), Agreement())
            entry.add(made[PLAIN], pixels, network.label(pixels) != label)


def all_ways(data: bytes, spec: InputSpec, decoded: dict[tuple[Decode, int], Any]) -> dict[str, Pixels]:
    """What each way makes of a file; what two of them do alike is done once, and kept in ``decoded``."""
    header = read_header(data)
    resized: dict[tuple[Decode, Resize, int], Pixels] = {}
    made: dict[str, Pixels] = {}
    for name, way in WAYS.items():
        n = way.denominator(header, spec)
        if (way.decode, n) not in decoded:
            decoded[way.decode, n] = way.decode(data, n)
        if (way.decode, way.resize, n) not in resized:
            resized[way.decode, way.resize, n] = way.resize(decoded[way.decode, n], header, spec, n)
        made[name] = resized[way.decode, way.resize, n]
    return made


def milliseconds(photos: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Median of each way, all of them in turns on each photograph, in an order that changes."""
    order = random.Random(0)
    names = list(WAYS)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(rounds + 1):
        for photo in photos:
            order.shuffle(names)
            for name in names:
                start = time.perf_counter()
                WAYS[name](photo, TIMED)
                if turn:  # the first round warms up
                    times[name].append((time.perf_counter() - start) * 1000)
    return {name: median(values) for name, values in times.items()}


def scaling(photos: Sequence[bytes], way: Way, turns: int) -> float:
    """Images a second of two threads over those of one, in turns."""

    def rate(pool: ThreadPoolExecutor) -> float:
        start = time.perf_counter()
        list(pool.map(lambda photo: way(photo, TIMED), photos))
        return len(photos) / (time.perf_counter() - start)

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(THREADS) as two:
        ratios = [rate(two) / rate(one) for _ in range(turns + 1)]
    return median(ratios[1:])


def enlarged(data: bytes, long_side: int) -> bytes:
    image = Image.open(BytesIO(data)).convert("RGB")
    scale = long_side / max(image.size)
    file = BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def photographs(folder: Path) -> list[bytes]:
    """Every upright JPEG file below the folder that libjpeg decodes without a warning."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return [data for data in (path.read_bytes() for path in files) if usable(data)]


def usable(data: bytes) -> bool:
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            upright = image.getexif().get(ORIENTATION_TAG, 1) == 1
        simplejpeg.decode_jpeg(data)
    except (ValueError, OSError):
        return False
    return upright


@dataclass(frozen=True)
class Times:
    """Milliseconds of each way on photographs of one size."""

    photos: int
    rounds: int
    ways: dict[str, float]

    def cells(self, name: str) -> list[str]:
        return [f"{self.ways[name]:.2f}", f"{self.ways[PLAIN] / self.ways[name]:.2f}"]


@dataclass(frozen=True)
class Measured:
    """threads: how two scale, in the plain way and in Hubel's. busy: most cores that other processes used meanwhile."""

    small: Times
    large: Times
    threads: tuple[float, float]
    busy: float


def measure(photos: Sequence[bytes], rounds: int) -> Measured:
    large = [enlarged(photo, LARGE) for photo in photos[:TIMED_LARGE]]
    busy = [others()]
    threads = scaling(photos, WAYS[PLAIN], rounds), scaling(photos, WAYS[OWN], rounds)
    busy.append(others())
    small_times = Times(len(photos), rounds, milliseconds(photos, rounds))
    busy.append(others())
    large_times = Times(len(large), rounds, milliseconds(large, rounds))
    busy.append(others())
    return Measured(small_times, large_times, threads, max(busy))


def render(photos: int, networks: Sequence[Network], found: Agreements, measured: Measured, about: str) -> str:
    small, large = measured.small, measured.large
    titles = [network.title for network in networks]
    lines = [["way", "500x375, ms", "times as fast", "12 MP, ms", "times as fast", "pixels apart", *titles]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for name in WAYS:
        labels = [found[title, name].labels() for title in titles]
        shown = f"**{name}**" if name == OWN else name
        lines.append([shown, *small.cells(name), *large.cells(name), found["", name].pixels(), *labels])
    return TEXT.format(
        command=" ".join(["HUBEL_BENCH_PHOTOS=FOLDER python -m benchmarks.decode", *(network.name for network in networks)]),
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
        photos=photos,
        images=found["", PLAIN].images,
        margin=f"{hubel.MARGIN:g}",
        scaled_from=hubel.SCALED_FROM,
        uncopied_from=f"{hubel.UNCOPIED_FROM / 1e6:g}",
        small=small,
        large=large,
        threads=measured.threads,
        busy=f"{measured.busy:.1f}",
        about=f" {about}" if about else "",
        machine=f"{processor()}, {os.process_cpu_count() if hasattr(os, 'process_cpu_count') else os.cpu_count()} cores",
        python=platform.python_version(),
        versions=f"simplejpeg {simplejpeg.__version__}, Pillow {PIL.__version__}, OpenCV {cv2.__version__}",
    )


TEXT = """# Ways to decode a JPEG

Made by `{command}`; do not edit.
A package is a folder of a store, as models/store/cifar10/2.{about}

{table}

- Milliseconds: from the bytes of a file to 224x224 pixels, the shorter side resized to 256; median of
  {small.photos} photographs of 500x375 pixels and {large.photos} of them enlarged to 4000x3000 (bicubic, quality 90),
  {small.rounds} times each; the ways took turns on each photograph.
- "3x": decoded at 1/2, 1/4 or 1/8 where that leaves 3 times the pixels that the resize asks for; else whole.
- Pixels apart: mean |difference| from the plain way at 224 px, of 256, over the images that differ; the largest in brackets.
- Labels: share of {images} images ({photos} photographs as they are and enlarged to 2 MP, each sixteenth also to 12 MP)
  whose label is the plain way's; in brackets: other labels, of images whose pixels differ at all.
- Two threads decode {threads[0]:.2f} times as many 500x375 photographs as one in the plain way, {threads[1]:.2f} times in
  Hubel's.
- {machine}; Python {python}, {versions}. Other processes used up to {busy}
  cores before, between and after the measurements.

What follows: Hubel takes simplejpeg at {margin}x, the fastest way whose labels agree in at least 99.9 % with every network
of 48 pixels and more. For a resize below {scaled_from} pixels it decodes whole: with the network of 32 pixels, which often
wavers between labels on these photographs, no fraction reaches 99.9 %. From {uncopied_from} MP on the pixels are not copied;
below, copying them costs less than resizing the fourth channel that Pillow asks for otherwise. Enlarged photographs have
less fine detail than a camera's of that size, which favours the fractions. None of the three libraries decodes a part of an
image: simplejpeg and OpenCV have no crop region, Pillow crops after decoding. OpenCV alone is faster at 500x375, but its
`INTER_AREA` is another filter.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("packages", nargs="*", type=Path, default=[BUNDLED], help="folders whose networks' labels are compared")
    parser.add_argument("--rounds", type=int, default=7, help="times that each way decodes each photograph")
    parser.add_argument("--about", default="", help="a sentence on the packages, for DECODE.md")
    arguments = parser.parse_args()
    folder = os.environ.get("HUBEL_BENCH_PHOTOS")
    if not folder:
        parser.error("HUBEL_BENCH_PHOTOS must name a folder of photographs, *.jpg or *.jpeg")
    photos = photographs(Path(folder))
    timed = [photo for photo in photos if (read_header(photo).width, read_header(photo).height) == TIMED_SIZE][:TIMED_SMALL]
    if not timed:
        parser.error(f"{folder} holds no photograph of {TIMED_SIZE[0]}x{TIMED_SIZE[1]} pixels to time")
    networks = [Network(package) for package in arguments.packages]
    measured = measure(timed, arguments.rounds)
    found = compare(photos, networks)
    _, heading, small = RESULT.read_text().partition(HEADING)
    text = render(len(photos), networks, found, measured, arguments.about)
    RESULT.write_text(f"{text}\n{heading}{small}" if heading else text)


if __name__ == "__main__":
    main()

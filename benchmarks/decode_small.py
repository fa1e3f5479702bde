"""Ways from the bytes of a photograph of about 500x375 pixels to a network's input, which is decoded whole.

``HUBEL_BENCH_PHOTOS=FOLDER python -m benchmarks.decode_small [PACKAGE ...]`` writes the last section of DECODE.md. Each package
is measured at its own geometry, and its network says whether a way changes an answer.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import cykooz_resizer
import imagecodecs
import numpy as np
import PIL
import pyvips
import simplejpeg
from PIL import Image

from benchmarks.decode import BUNDLED, HEADING, OWN, RESULT, Agreement, Network, box_of, photographs
from benchmarks.machine import others, processor
from models.image import preprocess as hubel
from models.image.preprocess import RESAMPLING, Pixels, read_header
from models.image.spec import InputSpec

SHORT, LONG = (300, 400), (450, 550)  # sides, in pixels, of the photographs that are timed
TIMED, ROUNDS = 40, 7
EIGHTHS = 8
SUPPORT = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos": 3}  # pixels on each side that a filter reaches
RESIZER = cykooz_resizer.Resizer()
FILTERS = {
    "bilinear": cykooz_resizer.FilterType.bilinear,
    "bicubic": cykooz_resizer.FilterType.catmull_rom,
    "lanczos": cykooz_resizer.FilterType.lanczos3,
}
KERNELS = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos3"}
cv2.setNumThreads(1)
Way = Callable[[bytes, InputSpec], Pixels]


def resized(image: Image.Image, spec: InputSpec, box: Sequence[float]) -> Pixels:
    return np.asarray(image.resize((spec.width, spec.height), RESAMPLING[spec.interpolation], tuple(box)))


def whole(decode: Callable[[bytes], Pixels], data: bytes, spec: InputSpec) -> Pixels:
    """All pixels decoded and given to Pillow."""
    return resized(Image.fromarray(decode(data)), spec, box_of(read_header(data), spec, 1))


def region(data: bytes, spec: InputSpec) -> Pixels:
    """Only those pixels are given to Pillow that the crop can see."""
    header = read_header(data)
    left, top, right, bottom = box_of(header, spec, 1)
    reach = math.ceil(SUPPORT[spec.interpolation] * max(1.0, (right - left) / spec.width)) + 1
    x, y = max(0, math.floor(left) - reach), max(0, math.floor(top) - reach)
    width, height = min(header.width, math.ceil(right) + reach) - x, min(header.height, math.ceil(bottom) + reach) - y
    pixels = simplejpeg.decode_jpeg(data)
    part = memoryview(pixels.reshape(-1)[3 * (y * header.width + x) :])
    image = Image.frombytes("RGB", (width, height), part, "raw", "RGB", 3 * header.width, 1)
    return resized(image, spec, (left - x, top - y, right - x, bottom - y))


def scaled(margin: float, data: bytes, spec: InputSpec) -> Pixels:
    """Decoded at the least n/8 that leaves ``margin`` times what the resize asks for."""
    header = read_header(data)
    side = min(header.width, header.height)
    n = next((n for n in range(1, EIGHTHS) if math.ceil(side * n / EIGHTHS) >= margin * spec.resize), EIGHTHS)
    least = [math.ceil(length * n / EIGHTHS) for length in (header.height, header.width)] if n < EIGHTHS else [0, 0]
    image = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1]))
    left, top, right, bottom = (edge * n / EIGHTHS for edge in box_of(header, spec, 1))
    return resized(image, spec, (left, top, min(right, image.width), min(bottom, image.height)))


def fast_image_resize(data: bytes, spec: InputSpec) -> Pixels:
    source, target = Image.fromarray(simplejpeg.decode_jpeg(data)), Image.new("RGB", (spec.width, spec.height))
    left, top, right, bottom = box_of(read_header(data), spec, 1)
    options = cykooz_resizer.ResizeOptions(
        resize_alg=cykooz_resizer.ResizeAlg.convolution(FILTERS[spec.interpolation]),
        crop_box=cykooz_resizer.CropBox(left, top, right - left, bottom - top),
        use_alpha=False,
    )
    RESIZER.resize_pil(source, target, options)
    return np.asarray(target)


def opencv(data: bytes) -> Pixels:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def inter_area(data: bytes, spec: InputSpec) -> Pixels:
    left, top, right, bottom = (round(edge) for edge in box_of(read_header(data), spec, 1))
    part = simplejpeg.decode_jpeg(data)[top:bottom, left:right]
    return cv2.resize(part, (spec.width, spec.height), interpolation=cv2.INTER_AREA)


def libvips(data: bytes, spec: InputSpec) -> Pixels:
    header = read_header(data)
    image = pyvips.Image.new_from_buffer(data, "", access="sequential")
    image = image.resize(spec.resize / min(header.width, header.height), kernel=KERNELS[spec.interpolation])
    left, top = (image.width - spec.width) // 2, (image.height - spec.height) // 2
    pixels = image.crop(left, top, spec.width, spec.height).numpy()
    return pixels if pixels.ndim == 3 and pixels.shape[2] == 3 else np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)


WAYS: dict[str, Way] = {
    OWN: hubel.preprocess,
    "simplejpeg whole, Pillow resizes": partial(whole, simplejpeg.decode_jpeg),
    "the same, of the part that the crop sees": region,
    "simplejpeg at the least n/8, 1x": partial(scaled, 1.0),
    "simplejpeg at the least n/8, 1.25x": partial(scaled, 1.25),
    "imagecodecs, Pillow resizes": partial(whole, partial(imagecodecs.jpeg8_decode, outcolorspace="RGB")),
    "OpenCV, Pillow resizes": partial(whole, opencv),
    "simplejpeg, OpenCV's `INTER_AREA`": inter_area,
    "simplejpeg, fast_image_resize": fast_image_resize,
    "libvips": libvips,
}


@dataclass
class Row:
    """What a way does at one geometry. least: seconds of CPU time for each photograph, the least of ROUNDS."""

    least: list[float]
    agreement: Agreement


def measure(photos: Sequence[bytes], timed: Sequence[bytes], network: Network) -> dict[str, Row]:
    spec = network.manifest.input
    rows = {name: Row([math.inf] * len(timed), Agreement()) for name in WAYS}
    for _ in range(ROUNDS):
        for number, data in enumerate(timed):
            for name, way in WAYS.items():
                began = time.thread_time()
                way(data, spec)
                rows[name].least[number] = min(rows[name].least[number], time.thread_time() - began)
    for data in photos:
        plain = hubel.preprocess(data, spec)
        for name, way in WAYS.items():
            pixels = way(data, spec)
            rows[name].agreement.add(pixels, plain, network.label(pixels) != network.label(plain))
    return rows


def is_timed(data: bytes) -> bool:
    header = read_header(data)
    short, long = sorted((header.width, header.height))
    return SHORT[0] <= short < SHORT[1] and LONG[0] <= long < LONG[1]


def render(network: Network, rows: dict[str, Row]) -> str:
    spec, own = network.manifest.input, rows[OWN]
    lines = [["way", "ms", "times as fast", "other pixels", "pixels apart", "labels"], ["---", *["---:"] * 5]]
    for name, row in rows.items():
        ratio = median(a / b for a, b in zip(own.least, row.least, strict=True))
        changed = f"{row.agreement.changed} of {row.agreement.images}"
        cells = [f"{1000 * median(row.least):.2f}", f"{ratio:.2f}", changed, row.agreement.pixels(), row.agreement.labels()]
        lines.append([f"**{name}**" if name == OWN else name, *cells])
    what = f"{network.name}: {spec.height}x{spec.width} pixels of {spec.resize}, {spec.interpolation}"
    return "\n".join([f"### {what}", "", *(f"| {' | '.join(line)} |" for line in lines)])


TEXT = """{heading}

Made by `{command}`; do not edit.

{tables}

- Milliseconds of CPU time, header to pixels: median of {timed} photographs, of each the least of {rounds}; the ways took turns
  on each photograph. "Times as fast": median over the photographs of Hubel's over the way's. Hubel's alone has its checks for
  damage, limits and orientation in it: what a way saves is seen beside the second row.
- Other pixels, apart, labels: of {images} photographs against Hubel's, as above. Hubel decodes the larger ones at 1/2 or less.
- {machine}, shared with others who used up to {busy:.1f} of them; {versions}.

Measured beside it, as neither is installed by the group: pillow-simd 12.1.1 (compiled here with AVX2) takes 3.50 ms where
Pillow takes 4.60 (bicubic, 40 photographs, n = 3 turns of either; 122 of 125 photographs get other pixels, by at most 8, all
125 the same label). libjpeg with a crop region before the inverse transform (`jpeg_crop_scanline`, with a margin of 16 pixels)
takes 1.50 ms where it takes 1.86 for all (n = 3; the pixels that the crop sees are the same in all of 82 photographs).

What follows: nothing is taken.

- With the same pixels there is little to gain: decoders all build on libjpeg-turbo, and not to copy what the crop leaves out
  saves 0.05 ms. The crop region would save a fifth of the decoding, but no package of the index offers it:
  simplejpeg, Pillow, OpenCV, imagecodecs and libvips decode whole images, and PyTurboJPEG needs a libturbojpeg of version 3,
  which no package brings.
- A resize in vectors saves a quarter to a third where it is bicubic to 224 pixels, and an eighth at 32. With
  fast_image_resize `imagenet` gives 1 of 522 photographs (these and 397 of insects) another label, which is 99.81 %, and
  `cifar10` 1 of 125: less than the 99.9 % that a way needs. It would change the fingerprint too, so that every package would
  have to be evaluated, exported and published again. pillow-simd has to be compiled where it is installed, and takes Pillow's
  place.
- A fraction that is not 1/2, 1/4 or 1/8 saves nothing at 224 pixels, and at 32 it changes labels.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode_small", description=__doc__)
    parser.add_argument("packages", nargs="*", type=Path, default=[BUNDLED], help="folders of packages")
    arguments = parser.parse_args()
    folder = os.environ.get("HUBEL_BENCH_PHOTOS")
    if not folder:
        parser.error("HUBEL_BENCH_PHOTOS must name a folder of photographs, *.jpg or *.jpeg")
    photos = photographs(Path(folder))
    timed = [photo for photo in photos if is_timed(photo)][:TIMED]
    if not timed:
        parser.error(f"{folder} holds no photograph of about 500x375 pixels to time")
    busy, parts = [others()], list[str]()
    networks = [Network(package) for package in arguments.packages]
    for network in networks:
        parts.append(render(network, measure(photos, timed, network)))
        busy.append(others())
    section = TEXT.format(
        heading=HEADING,
        command=" ".join(["HUBEL_BENCH_PHOTOS=FOLDER python -m benchmarks.decode_small", *(each.name for each in networks)]),
        tables="\n\n".join(parts),
        timed=len(timed),
        rounds=ROUNDS,
        images=len(photos),
        machine=f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        busy=max(busy),
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
    )
    RESULT.write_text(RESULT.read_text().partition(HEADING)[0].rstrip() + "\n\n" + section)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "simplejpeg": simplejpeg.__version__,
        "Pillow": PIL.__version__,
        "OpenCV": cv2.__version__,
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        "cykooz-resizer (fast_image_resize)": version("cykooz-resizer"),
        "imagecodecs": version("imagecodecs"),
    }


if __name__ == "__main__":
    main()

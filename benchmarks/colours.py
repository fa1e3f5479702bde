"""What it changes that colour profiles are not read: the same images in other colour spaces, answered by the bundled package.

``python -m benchmarks.colours FOLDER`` writes the images of a folder of class folders, whose classes the package knows, as
cameras would in Display P3 and Adobe RGB, looks at them as if they were sRGB, and prints the mean difference of the pixels,
top-1 and the share of other labels.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.package import manifest as manifests
from models.package.manifest import MODEL
from models.registry import registry
from training.data import dataset
from training.publishing.export import open_session

BATCH = 64
# Linear RGB to CIE XYZ at D65: IEC 61966-2-1, SMPTE EG 432-1, Adobe RGB (1998)
TO_XYZ = {
    "sRGB": np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]),
    "Display P3": np.array([[0.4866, 0.2657, 0.1982], [0.2290, 0.6917, 0.0793], [0.0000, 0.0451, 1.0439]]),
    "Adobe RGB": np.array([[0.5767, 0.1856, 0.1882], [0.2973, 0.6274, 0.0753], [0.0270, 0.0707, 0.9911]]),
}
ADOBE_GAMMA = 2.19921875

Pixels = NDArray[np.uint8]


def written_in(space: str, pixels: Pixels) -> Pixels:
    """The numbers that a file in ``space`` has for what ``pixels`` show in sRGB."""
    if space == "sRGB":
        return pixels
    values = pixels / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    there = (linear @ (np.linalg.inv(TO_XYZ[space]) @ TO_XYZ["sRGB"]).T).clip(0, 1)
    curved = np.where(there <= 0.0031308, 12.92 * there, 1.055 * there ** (1 / 2.4) - 0.055)
    encoded = there ** (1 / ADOBE_GAMMA) if space == "Adobe RGB" else curved
    return (255 * encoded).round().astype(np.uint8)


def main(folder: Path) -> None:
    package = registry.STORE / "cifar10" / "2"
    manifest = manifests.read(package)
    images = dataset.load_folder(folder, manifest.input, tuple(manifest.labels))
    session = open_session(package / MODEL)
    usual: NDArray[np.int64] | None = None
    print(f"{len(images)} images\n\n| written in | mean difference, of 255 | top-1 | other label |\n| --- | ---: | ---: | ---: |")
    for space in TO_XYZ:
        written = written_in(space, images.pixels)
        batches = (written[at : at + BATCH] for at in range(0, len(written), BATCH))
        labels = np.concatenate([np.asarray(session.run(["logits"], {"images": batch})[0]).argmax(1) for batch in batches])
        usual = labels if usual is None else usual
        difference = np.abs(written.astype(np.int16) - images.pixels).mean()
        right, moved = (labels == images.targets).mean(), (labels != usual).mean()
        print(f"| {space} | {difference:.1f} | {100 * right:.2f} % | {100 * moved:.1f} % |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)

"""Whether the maps of a package say what its network goes by, and what a map costs beside the pass.

``python -m benchmarks.explanations PACKAGE FOLDER`` explains the answers to images of a folder and prints ROAD of the
maps and of the baselines (training/evaluation/faithfulness.py), how alike the maps of the two likeliest classes are, and the
processor's milliseconds for a map, for a PNG, and for the network's pass.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.photos import LIMIT, spaced
from models.image.picture import picture
from models.image.preprocess import Box, Pixels
from models.package import head as heads
from models.package.probability import softmax
from service.inference import heat
from service.inference.class_map import FEATURE_MAP, NEEDED, class_map
from service.inference.classifier import Classifier
from training.evaluation.faithfulness import likeness, road

PRECISIONS = ("auto", "fp32", "int8", "bf16")


def main(folder: Path, photos: Path, images: int, precision: str) -> None:
    classifier = Classifier.load(folder, "cpu", precision, threads=1)
    head = heads.read(folder, classifier.manifest)
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = [path.read_bytes() for path in spaced(found, images)]
    pixels = np.stack([classifier.decode(file) for file in files])
    classifier.session.run(pixels[:1], NEEDED)
    rows: list[dict[str, NDArray[np.float32]]] = []
    passes, maps, pictures = list[float](), list[float](), list[float]()
    for image in pixels:
        outputs = timed(passes, lambda image=image: classifier.session.run(image[None], NEEDED))
        rows.append({name: values[0] for name, values in outputs.items()})
    order = np.argsort([-row["logits"] for row in rows], axis=1, kind="stable")
    first = np.stack([timed(maps, lambda row=row: class_map(head, row)) for row in rows])
    second = np.stack([class_map(head, row, int(index)) for row, index in zip(rows, order[:, 1], strict=True)])
    for file, values in zip(files, first, strict=True):
        shown = picture(file)
        timed(pictures, lambda shown=shown, values=values: heat.png(shown, values, Box(0, 0, *shown.shape[1::-1])))

    def answer(images: Pixels) -> NDArray[np.floating[Any]]:
        return softmax(np.concatenate([classifier.compute([image]) for image in images]), classifier.manifest.temperature)

    said: dict[str, Any] = {
        "package": classifier.manifest.id,
        "precision": str(classifier.session.precision),
        "feature_map": list(rows[0][FEATURE_MAP].shape),
        "images": len(files),
        **road(answer, pixels, first, order[:, 0]).told(),
        "other_class_likeness": likeness(first, second),
        "milliseconds": {name: round(1000 * median(t), 3) for name, t in (("pass", passes), ("map", maps), ("png", pictures))},
    }
    print(json.dumps(said, indent=1))


def timed(into: list[float], work: Callable[[], Any]) -> Any:
    """Seconds of this process's processor."""
    began = time.process_time()
    made = work()
    into.append(time.process_time() - began)
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=LIMIT, help=f"at most, evenly out of all (default {LIMIT})")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    given = parser.parse_args()
    main(given.package, given.folder, given.images, given.precision)

"""Drift: the last answers of a version against the reference that its package holds, as a few gauges.

Answers are noted on the path of requests and compared in a thread of its own. Of few images more is looked at: features,
brightness, sharpness, size.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import PackageError
from models.image.preprocess import Pixels
from models.package import drift_reference as references
from models.package.drift_reference import CONFIDENCE_EDGES, Reference
from service.telemetry.metrics import DriftGauges

WINDOW, SAMPLES = 2000, 500  # answers, and images looked at more closely, that are compared
LEAST = 200  # of either, before anything is said
SAMPLE_SECONDS = 0.1  # between two images that are looked at more closely, at least
TURN_SECONDS = 1.0
WAITING = 20_000  # answers between two turns
FORGET_SECONDS = 120.0  # a version that does not answer for so long is no longer told of
MOST = 4  # versions at a time
SHAPES = ("brightness", "sharpness", "size")
log = logging.getLogger("hubel")


class Sample(NamedTuple):
    """An image that is looked at more closely: the bytes as they came, pixels (height, width, 3), features (d,)."""

    image: bytes
    pixels: Pixels
    features: NDArray[np.float32]


class Noted(NamedTuple):
    version: int
    label: int
    probability: float
    sample: Sample | None


@dataclass
class Window:
    """The last answers of a version; reference: None where its package has none."""

    reference: Reference | None
    last: float
    answers: deque[tuple[int, float]] = field(default_factory=lambda: deque[tuple[int, float]](maxlen=WINDOW))
    samples: deque[NDArray[np.float32]] = field(default_factory=lambda: deque[NDArray[np.float32]](maxlen=SAMPLES))

    def take(self, noted: Noted) -> None:
        if self.reference is None:
            return
        self.answers.append((noted.label, noted.probability))
        if noted.sample is not None:
            self.samples.append(figures(self.reference, noted.sample))

    def stability(self) -> dict[str, float]:
        """Population stability by what it is of, as far as there is enough to say."""
        found: dict[str, float] = {}
        if self.reference is None or len(self.answers) < LEAST:
            return found
        labels = Counter(label for label, _ in self.answers)
        classes = np.array([labels[i] for i in range(len(self.reference.classes))], np.int64)
        confidence = references.counts(np.array([share for _, share in self.answers]), CONFIDENCE_EDGES)
        found["classes"] = references.stability(self.reference.classes, classes)
        found["confidence"] = references.stability(self.reference.confidence, confidence)
        if len(self.samples) >= LEAST:
            for name, values in zip(SHAPES, np.stack(self.samples)[:, : len(SHAPES)].T, strict=True):
                edges = getattr(self.reference, f"{name}_edges")
                found[name] = references.stability(getattr(self.reference, name), references.counts(values, edges))
        return found

    def distance(self) -> float | None:
        """Of the features; None while there is not enough to say."""
        if self.reference is None or len(self.samples) < LEAST:
            return None
        return references.distance(self.reference, np.stack(self.samples)[:, len(SHAPES) :])


def figures(reference: Reference, sample: Sample) -> NDArray[np.float32]:
    """Brightness, sharpness and size of an image, then the coordinates of its features, (3 + k + 1,)."""
    shape = (references.brightness(sample.pixels), references.sharpness(sample.pixels), references.size(sample.image))
    return np.concatenate([np.array(shape, np.float32), references.project(reference, sample.features)])


class Drift:
    """read: the reference of a version, None where it has none; called once for each, off the path of requests."""

    def __init__(self, read: Callable[[int], Reference | None], gauges: DriftGauges) -> None:
        self.read = read
        self.gauges = gauges
        self.noted: deque[Noted] = deque(maxlen=WAITING)
        self.windows: dict[int, Window] = {}
        self.sampled = -SAMPLE_SECONDS
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._work, name="drift", daemon=True)
        self.thread.start()

    def wants(self, version: int) -> bool:
        """Whether the next image that this version answers should come with its features."""
        window = self.windows.get(version)
        if window is None or window.reference is None:
            return False
        now = time.monotonic()
        if now - self.sampled < SAMPLE_SECONDS:
            return False
        self.sampled = now
        return True

    def note(self, version: int, label: int, probability: float, sample: Sample | None = None) -> None:
        self.noted.append(Noted(version, label, probability, sample))

    def close(self) -> None:
        self.ending.set()
        self.thread.join(10)

    def _work(self) -> None:
        while not self.ending.wait(TURN_SECONDS):
            try:
                self.turn()
            except Exception:
                log.exception("drift is not measured this time")

    def turn(self) -> None:
        """Take what was noted, and set the gauges."""
        now = time.monotonic()
        for _ in range(len(self.noted)):
            noted = self.noted.popleft()
            if noted.version not in self.windows:
                self._open(noted.version, now)
            window = self.windows[noted.version]
            window.last = now
            window.take(noted)
        for version, window in list(self.windows.items()):
            if now - window.last > FORGET_SECONDS and len(self.windows) > 1:
                del self.windows[version]
                self._forget(version, window)
            elif window.last == now and window.reference is not None:
                self._tell(version, window)

    def _open(self, version: int, now: float) -> None:
        while len(self.windows) >= MOST:
            oldest = min(self.windows, key=lambda known: self.windows[known].last)
            self._forget(oldest, self.windows.pop(oldest))
        try:
            reference = self.read(version)
        except (OSError, PackageError) as err:
            log.warning("the drift of version %d is not measured: %s", version, err)
            reference = None
        self.windows[version] = Window(reference, now)
        self.gauges.known(version, reference is not None)

    def _tell(self, version: int, window: Window) -> None:
        self.gauges.compared(version, len(window.answers))
        for of, value in window.stability().items():
            self.gauges.stability(version, of, value)
        if (value := window.distance()) is not None:
            self.gauges.distance(version, value)

    def _forget(self, version: int, window: Window) -> None:
        """A version that no longer answers says nothing of the present."""
        if window.reference is not None:
            self.gauges.compared(version, 0)
            self.gauges.distance(version, 0.0)
            for of in ("classes", "confidence", *SHAPES):
                self.gauges.stability(version, of, 0.0)

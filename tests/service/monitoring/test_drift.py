"""service/monitoring/drift.py: which gauges a window of answers sets, and how many images are looked at more closely."""

from typing import Any

import numpy as np
import pytest

from models.errors import PackageError
from models.package import drift_reference as references
from models.package.drift_reference import Reference
from service.monitoring import drift
from service.monitoring.drift import Drift, Sample
from service.telemetry.metrics import DriftGauges
from tests.factories import make_image

CLASSES, DIMENSIONS, IMAGES = 4, 6, 1000


class Gauges(DriftGauges):
    """Remembers what was set."""

    def __init__(self) -> None:
        super().__init__("tiny")
        self.set: dict[tuple[Any, ...], float] = {}

    def stability(self, version: int, feature: str, value: float) -> None:
        self.set[version, feature] = value

    def distance(self, version: int, value: float) -> None:
        self.set[version, "distance"] = value

    def known(self, version: int, has_reference: bool) -> None:
        self.set[version, "reference"] = has_reference

    def compared(self, version: int, answers: int) -> None:
        self.set[version, "answers"] = answers


def pixels_of(rng: np.random.Generator, light: float = 1.0) -> Any:
    return (rng.integers(0, 256, (8, 8, 3)) * light).astype(np.uint8)


def reference() -> Reference:
    rng = np.random.default_rng(1)
    pictures = [pixels_of(rng) for _ in range(IMAGES)]
    return references.make(
        answers=rng.integers(0, CLASSES, IMAGES),
        confidence=rng.beta(9, 1, IMAGES),
        classes=CLASSES,
        features=rng.normal(size=(IMAGES, DIMENSIONS)).astype(np.float32),
        brightness=np.array([references.brightness(picture) for picture in pictures]),
        sharpness=np.array([references.sharpness(picture) for picture in pictures]),
        size=np.full(IMAGES, 24.0),
    )


@pytest.fixture
def gauges() -> Gauges:
    return Gauges()


@pytest.fixture
def watch(gauges: Gauges, monkeypatch: pytest.MonkeyPatch) -> Drift:
    """Without its thread; version 1 has a reference, version 2 none, version 3 a damaged one."""
    monkeypatch.setattr(drift, "TURN_SECONDS", 1000)

    def read(version: int) -> Reference | None:
        if version == 3:
            raise PackageError("damaged")
        return reference() if version == 1 else None

    return Drift(read, gauges)


def note(watch: Drift, n: int, classes: int = CLASSES, light: float = 1.0, off: float = 0.0, image: bytes | None = None) -> None:
    rng = np.random.default_rng(2)
    image = image or make_image("PNG", 24, 24)
    for _ in range(n):
        features = (rng.normal(size=DIMENSIONS) + off).astype(np.float32)
        watch.note(1, int(rng.integers(0, classes)), float(rng.beta(9, 1)), Sample(image, pixels_of(rng, light), features))
    watch.turn()


def test_answers_of_the_usual_kind_leave_all_gauges_low(watch: Drift, gauges: Gauges) -> None:
    note(watch, 500)
    assert gauges.set[1, "answers"] == 500
    found = {of: value for (_, of), value in gauges.set.items() if of not in ("answers", "reference")}
    assert set(found) == {"classes", "confidence", "brightness", "sharpness", "size", "distance"}
    assert max(found.values()) < 0.1


@pytest.mark.parametrize(
    ("of", "change"),
    [
        ("classes", {"classes": 2}),
        ("brightness", {"light": 0.5}),
        ("distance", {"off": 1.0}),
        ("size", {"image": make_image("PNG", 48, 30)}),
    ],
)
def test_what_changes_raises_its_gauge_and_leaves_those_of_classes_and_features_alone(
    watch: Drift, gauges: Gauges, of: str, change: dict[str, Any]
) -> None:
    note(watch, 500, **change)
    assert gauges.set[1, of] > 0.25
    assert all(gauges.set[1, other] < 0.1 for other in {"classes", "confidence", "distance"} - {of})


def test_the_window_slides_so_that_what_is_over_is_forgotten(watch: Drift, gauges: Gauges) -> None:
    note(watch, 500, light=0.5)
    assert gauges.set[1, "brightness"] > 0.25
    note(watch, drift.SAMPLES)
    assert gauges.set[1, "brightness"] < 0.1
    note(watch, drift.WINDOW)
    assert gauges.set[1, "answers"] == drift.WINDOW


def test_of_too_few_answers_nothing_is_said(watch: Drift, gauges: Gauges) -> None:
    note(watch, drift.LEAST - 1)
    assert gauges.set == {(1, "answers"): drift.LEAST - 1, (1, "reference"): True}


def test_a_version_without_a_reference_or_with_a_damaged_one_says_so_has_no_other_gauges_and_costs_no_features(
    watch: Drift, gauges: Gauges, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (2, 3):
        for _ in range(300):
            watch.note(version, 0, 0.9)
    watch.turn()
    assert gauges.set == {(2, "reference"): False, (3, "reference"): False}
    assert not watch.wants(2)
    assert not watch.wants(3)
    assert [record.message for record in caplog.records] == ["the drift of version 3 is not measured: damaged"]


def test_images_are_looked_at_more_closely_so_often_and_no_more(watch: Drift, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(drift.time, "monotonic", lambda: now)
    assert not watch.wants(1)  # not known yet
    watch.note(1, 0, 0.9)
    watch.turn()
    found = 0
    for _ in range(1000):  # one a millisecond
        now += 0.001
        found += watch.wants(1)
    assert 9 <= found <= 11


def test_a_version_that_answers_no_more_is_told_of_no_more(watch: Drift, gauges: Gauges, monkeypatch: pytest.MonkeyPatch) -> None:
    note(watch, 500, off=1.0)
    assert gauges.set[1, "distance"] > 0.5
    later = drift.time.monotonic() + drift.FORGET_SECONDS + 1
    monkeypatch.setattr(drift.time, "monotonic", lambda: later)
    watch.note(2, 0, 0.9)
    watch.turn()
    assert {value for (_, of), value in gauges.set.items() if of != "reference"} == {0}


def test_more_versions_than_can_be_watched_push_out_the_one_that_was_silent_longest(watch: Drift) -> None:
    for version in range(10, 10 + 3 * drift.MOST):
        watch.note(version, 0, 0.9)
        watch.turn()
    assert set(watch.windows) == set(range(10 + 2 * drift.MOST, 10 + 3 * drift.MOST))

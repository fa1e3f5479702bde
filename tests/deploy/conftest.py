"""A store whose models tell drift and have a shadow."""

from pathlib import Path

import numpy as np
import pytest

from models.lifecycle import candidate
from models.lifecycle.candidate import Bounds, Candidate
from models.package import drift_reference
from models.registry import registry
from tests.factories import make_files, make_manifest

LOOSE = Bounds(errors=1, latency=1000, disagreement=1, unsure=1)


@pytest.fixture(scope="session")
def reference_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny:1 with a reference of drift, and tiny:2, the same once more, as its shadow."""
    folder = tmp_path_factory.mktemp("panels")
    random = np.random.default_rng(0)
    reference = drift_reference.make(
        answers=random.integers(0, 3, 1000),
        confidence=random.uniform(0.4, 1, 1000),
        classes=3,
        features=random.normal(size=(1000, 4)).astype(np.float32),
        brightness=random.normal(100, 10, 1000),
        sharpness=random.normal(1, 0.1, 1000),
        size=np.full(1000, 40.0),
    )
    draft = make_manifest()
    for version in (1, 2):
        (files := folder / str(version)).mkdir()
        make_files(files, draft)
        drift_reference.write(files / drift_reference.FILE, reference)
        registry.publish(folder / "store", files, draft)
    candidate.start(folder / "store", "tiny", Candidate(2, "shadow", requests=10**9, bounds=LOOSE))
    return folder / "store"

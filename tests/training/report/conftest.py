"""What the tests of the report share: what was gathered of the small run and drawn of it."""

from typing import Any

import pytest

from tests.training.conftest import Journey
from training.report import page


@pytest.fixture(scope="session")
def content(journey: Journey) -> dict[str, Any]:
    """Read only: change a copy."""
    return journey.content


@pytest.fixture
def drawn_before(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have the drawings of ``content``, whatever they are made of: drawing takes most of the time."""
    drawn = journey.drawn
    monkeypatch.setattr(page, "drawn", lambda content: drawn if content["history"] else drawn | {"curves": []})  # pyright: ignore

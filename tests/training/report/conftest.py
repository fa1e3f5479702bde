"""What the tests of the report share: everything that is gathered of the small run, and drawn of it, once."""

from typing import Any

import pytest

from models.package.precision import CPU
from tests.training.conftest import Journey
from training.publishing import export
from training.report import document, page, speed


@pytest.fixture(scope="session")
def content(journey: Journey) -> dict[str, Any]:
    """Read only: change a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SECONDS", 0.01)
        patch.setattr(export, "installed", lambda: [CPU])
        return document.gather(journey.run, journey.data)


@pytest.fixture(scope="session")
def drawn(content: dict[str, Any]) -> dict[str, Any]:
    return page.drawn(content)


@pytest.fixture
def drawn_before(drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have the drawings of ``content``, whatever they are made of: drawing takes most of the time."""
    monkeypatch.setattr(page, "drawn", lambda content: drawn if content["history"] else drawn | {"curves": []})  # pyright: ignore

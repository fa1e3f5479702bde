"""Fixtures of the tests of engines."""

from collections.abc import Iterator

import pytest

from tests.service.engine.fakes import Engines


@pytest.fixture
def engines() -> Iterator[Engines]:
    engines = Engines()
    engines.start()
    yield engines
    engines.close()

"""What answers the images of a run: a package in this process, or a service."""

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from models.package.prediction import Classification
from service.bulk.errors import Failure
from service.bulk.item import Item

Pair = tuple[Item, Classification | Failure]


class Model(Protocol):
    @property
    def facts(self) -> Mapping[str, str]:
        """What an output depends on beside the images."""
        ...

    @property
    def novel_above(self) -> float | None:
        """The threshold of novelty; None where it is not known, or the package has none."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """The classes; none where they are not known."""
        ...

    def classify_all(self, items: Sequence[Item]) -> Generator[list[Pair]]:
        """All of them in order, some at a time. Raises BulkError where it cannot go on."""
        ...

"""A run without a network: every item is answered by its number, and which of them fail can be chosen."""

from collections.abc import Collection, Generator, Sequence
from pathlib import Path

from models.package.prediction import Classification
from service.bulk import ordered_pass
from service.bulk.errors import Failure
from service.bulk.item import Item
from service.bulk.journal import facts_of
from service.bulk.model import Pair
from service.bulk.output import Table
from service.bulk.progress import Progress
from service.bulk.row import Row
from service.bulk.run import Run
from tests.service.bulk.bytes_items import items

LABELS = ("red", "green", "blue")
FACTS = {"model": "fake:1"}


class Fake:
    """Answers each item by its path, a number. computed: how many it was asked for."""

    def __init__(self, bad: Collection[int] = (), code: str = "undecodable_image") -> None:
        self.facts, self.novel_above, self.labels = dict(FACTS), 0.5, LABELS
        self.bad, self.code, self.computed = bad, code, 0

    def classify_all(self, items: Sequence[Item]) -> Generator[list[Pair]]:
        return ordered_pass.run(items, self._prepare, list[Classification | Failure].copy, size=4, threads=1)

    def _prepare(self, items: Sequence[Item]) -> list[Classification | Failure]:
        self.computed += len(items)
        return [self._answer(int(item.path)) for item in items]

    def _answer(self, number: int) -> Classification | Failure:
        if number in self.bad:
            return Failure(self.code, f"number {number}")
        return Classification(LABELS[number % 3], 0.5 + number / 1000, number % 10 == 0, number % 7 / 7)


def numbered(n: int) -> list[Item]:
    return items(*(str(number).encode() for number in range(n)))


def run_to(out: Path, n: int, model: Fake | None = None, most_failures: int = 1000, overwrite: bool = False) -> Run:
    """The images 0 to n - 1 into a file; the run, at its end."""
    model, listed = model or Fake(), numbered(n)
    table = Table(out, facts_of(model.facts, listed), listed, overwrite, copies=False)
    run = Run(listed, model, table, Progress(n, table.done), most_failures, None)
    try:
        run.go()
    finally:
        table.close()
    return run


def row(number: int) -> Row:
    return Row(str(number), LABELS[number % 3], 0.5, False)

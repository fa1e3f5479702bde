"""One run: the images that are not answered yet, through a model, into an output."""

import time
from collections.abc import Sequence
from contextlib import closing

from service.bulk.copies import Copies
from service.bulk.errors import BulkError
from service.bulk.item import Item
from service.bulk.model import Model, Pair
from service.bulk.output import Output
from service.bulk.progress import Progress
from service.bulk.row import Row, row_of
from service.bulk.summary import Summary


class Run:
    """most_failures: after more images than that have failed it ends. copies: None where none are made."""

    def __init__(
        self, items: Sequence[Item], model: Model, output: Output, progress: Progress, most_failures: int, copies: Copies | None
    ) -> None:
        self.items = items
        self.model = model
        self.output = output
        self.progress = progress
        self.most_failures = most_failures
        self.copies = copies
        self.summary = Summary(model.novel_above)
        self.computed, self.seconds = 0, 0.0

    def go(self) -> None:
        """To its end. Raises BulkError; what was answered till then is kept, where the output keeps it."""
        for row in self.output.earlier():
            self.summary.add([row])
            if self.copies:
                self.copies.note(row)
        began = time.monotonic()
        try:
            self._check_failures()
            with closing(self.model.classify_all(self.items[self.output.done :])) as parts:
                for part in parts:
                    self._take(part)
        finally:
            self.seconds = time.monotonic() - began
            self.progress.clear()
        self.output.finish()

    def _take(self, part: Sequence[Pair]) -> None:
        rows: list[Row] = []
        for item, result in part:
            row = row_of(item.path, result)
            if self.copies:
                self.copies.add(item, row)
            rows.append(row)
        self.output.add(rows)
        self.computed += len(rows)
        self.summary.add(rows)
        self.progress.tell(self.summary.images)
        self._check_failures()

    def _check_failures(self) -> None:
        if self.summary.failed > self.most_failures:
            raise BulkError(
                f"{self.summary.failed:,} of {self.summary.images:,} images failed, at most {self.most_failures:,} may "
                f"(--max-failures); {self.output.kept}"
            )

    def text(self) -> str:
        return self.summary.text(self.computed, self.seconds)

"""What came of a run, in figures."""

from collections import Counter
from collections.abc import Iterable

from models.terminal.table import printable, table
from service.bulk.row import Row

MOST_CLASSES = 20  # that are listed


class Summary:
    """novel_above: the threshold of novelty; None where it is not known, or the package has none."""

    def __init__(self, novel_above: float | None = None) -> None:
        self.novel_above = novel_above
        self.classes, self.failures = Counter[str](), Counter[str]()
        self.unsure = self.novel = 0

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.label is None:
                self.failures[row.error or ""] += 1
                continue
            self.classes[row.label] += 1
            self.unsure += bool(row.unsure)
            self.novel += None not in (row.novelty, self.novel_above) and (row.novelty or 0) > (self.novel_above or 0)

    @property
    def images(self) -> int:
        return self.answered + self.failed

    @property
    def answered(self) -> int:
        return self.classes.total()

    @property
    def failed(self) -> int:
        return self.failures.total()

    def text(self, computed: int, seconds: float) -> str:
        """computed: images of this run, within so many seconds."""
        listed = self.classes.most_common(MOST_CLASSES)
        rows: list[dict[str, object]] = [{"class": label, "images": f"{n:,}"} for label, n in listed]
        if (rest := self.answered - sum(n for _, n in listed)) > 0:
            rows.append({"class": f"({len(self.classes) - MOST_CLASSES:,} other classes)", "images": f"{rest:,}"})
        novel = f", {self.novel:,} of them novel" if self.novel_above is not None else ""
        failed = ", ".join(f"{n:,} {printable(code)}" for code, n in self.failures.most_common())
        lines = [
            *([table(rows)] if rows else []),
            f"{self.images:,} images: {self.answered:,} answered, {self.unsure:,} unsure{novel}",
            *([f"{self.failed:,} failed: {failed}"] if failed else []),
            f"{computed:,} images in {seconds:.1f} s, {computed / max(seconds, 1e-9):.1f} images/s",
        ]
        return "\n".join(lines)

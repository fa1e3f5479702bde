"""Rows as text for a terminal."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # moves the cursor, or turns the line
WIDEST = 88  # characters of a cell; longer ones go on below


def printable(text: str, keep: str = "") -> str:
    """A text that others may have written, for a terminal or one line of a log: what would command the terminal, break the
    line or turn it round is escaped as Python does, but for the characters to ``keep``."""
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text)


def lines(rows: Sequence[Mapping[str, object]]) -> str:
    """Each row as one line of keys and values."""
    return "\n".join("  ".join(printable(f"{key} {value}") for key, value in row.items()) for row in rows)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Columns under the keys of the first row; empty where there are no rows."""
    if not rows:
        return ""
    cells = [[*map(printable, rows[0])], *([printable(_text(value)) for value in row.values()] for row in rows)]
    wrapped = [[textwrap.wrap(cell, WIDEST) or [""] for cell in row] for row in cells]
    widths = [max(len(part) for row in wrapped for part in row[column]) for column in range(len(cells[0]))]
    physical = [line for row in wrapped for line in zip_longest(*row, fillvalue="")]
    return "\n".join("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in physical)


def _text(value: object) -> str:
    return "" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

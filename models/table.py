"""Rows as text for a terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

WIDEST = 88  # characters of a cell; longer ones go on below


def lines(rows: Sequence[Mapping[str, object]]) -> str:
    """Each row as one line of keys and values."""
    return "\n".join("  ".join(f"{key} {value}" for key, value in row.items()) for row in rows)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Columns under the keys of the first row; empty where there are no rows."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    wrapped = [[textwrap.wrap(cell, WIDEST) or [""] for cell in row] for row in cells]
    widths = [max(len(part) for row in wrapped for part in row[column]) for column in range(len(cells[0]))]
    physical = [line for row in wrapped for line in zip_longest(*row, fillvalue="")]
    return "\n".join("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in physical)


def _text(value: object) -> str:
    return "" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

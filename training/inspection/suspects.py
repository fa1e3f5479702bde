"""Which images look like mistakes: of one colour, dark, bright, blurred, tiny, long, or grey among coloured ones.

Each function gives indices with a note.
"""

from collections.abc import Iterator

import numpy as np

from training.data.near_duplicates import PLAIN
from training.inspection.facts import Look

DARK, BRIGHT = 50, 205  # of 255: 99 % of the pixels are darker, or brighter
EIGHT_BITS, TWELVE_BITS = 2**8 - 1, 2**12 - 1  # highest values
BLURRED, LEAST = 4.0, 0.25  # deviations below the usual sharpness, of its logarithm; a deviation is at least so much
TINY_SIDE, TINY_SHARE = 32, 0.5  # pixels of the shorter side, and share of the median one; tiny is below both
LONG = 3.0  # longer over shorter side; the central square is then a third of the picture or less
ODD = 0.05  # share of all images up to which grey or coloured ones are few
FEW = 20  # images below which nothing can be called unusual

Suspects = Iterator[tuple[int, str]]


def plain(look: Look) -> Suspects:
    for i, facts in enumerate(look.facts):
        if facts.deviation < PLAIN:
            yield i, f"deviation {facts.deviation:.1f} of 255"


def dark(look: Look) -> Suspects:
    for i, facts in enumerate(look.facts):
        if facts.high < DARK and facts.deviation >= PLAIN:
            yield i, f"99 % of it at most {facts.high} of 255"


def shallow(look: Look) -> Suspects:
    """Files of 16 bits that use 9 to 12 of them, as cameras and scanners write: what is seen of them is the upper 8."""
    for i, facts in enumerate(look.facts):
        if facts.highest is not None and EIGHT_BITS < facts.highest <= TWELVE_BITS:
            yield i, f"values up to {facts.highest} of 65535, seen as up to {facts.highest >> 8} of 255"


def bright(look: Look) -> Suspects:
    for i, facts in enumerate(look.facts):
        if facts.low > BRIGHT and facts.deviation >= PLAIN:
            yield i, f"99 % of it at least {facts.low} of 255"


def blurred(look: Look) -> Suspects:
    """Far less sharp than the others, by the median and the median deviation from it."""
    measured = [(i, facts.sharpness) for i, facts in enumerate(look.facts) if facts.sharpness]
    if len(measured) < FEW:
        return
    logarithms = np.log([value for _, value in measured])
    middle = np.median(logarithms)
    deviation = max(1.4826 * float(np.median(np.abs(logarithms - middle))), LEAST)
    for (i, value), distance in zip(measured, (middle - logarithms) / deviation, strict=True):
        if distance > BLURRED:
            yield i, f"sharpness {value:.2g}, usual is {np.exp(middle):.2g}"


def tiny(look: Look) -> Suspects:
    sides = [min(facts.width, facts.height) for facts in look.facts]
    limit = min(TINY_SIDE, TINY_SHARE * float(np.median(sides))) if sides else 0
    for i, side in enumerate(sides):
        if side < limit:
            yield i, f"{look.facts[i].width}x{look.facts[i].height} pixels"


def long(look: Look) -> Suspects:
    for i, facts in enumerate(look.facts):
        if max(facts.width, facts.height) > LONG * min(facts.width, facts.height):
            yield i, f"{facts.width}x{facts.height} pixels"


def grey(look: Look) -> Suspects:
    """Where they are few."""
    return _odd(look, coloured=False)


def coloured(look: Look) -> Suspects:
    """Where they are few."""
    return _odd(look, coloured=True)


def _odd(look: Look, coloured: bool) -> Suspects:
    found = [i for i, facts in enumerate(look.facts) if facts.coloured == coloured]
    if len(look) >= FEW and len(found) <= ODD * len(look):
        yield from ((i, f"{look.facts[i].width}x{look.facts[i].height} pixels") for i in found)

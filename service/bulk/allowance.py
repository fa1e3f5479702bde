"""How many images of a run may fail before it ends."""

import math
import re

DEFAULT = "10%"
SHARE, COUNT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%"), re.compile(r"\d{1,12}")


def parse(text: str) -> str:
    """As it is, where it is a share in percent or a count; raises ValueError."""
    found = SHARE.fullmatch(text)
    if not (COUNT.fullmatch(text) or (found and float(found[1]) <= 100)):
        raise ValueError(text)
    return text


def most(text: str, images: int) -> int:
    """Of so many images; a share is rounded up, so that one image in few may fail."""
    found = SHARE.fullmatch(text)
    return math.ceil(float(found[1]) * images / 100) if found else int(text)

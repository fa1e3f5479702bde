"""Names of classes that look the same: how a name is written, when two mean one thing, and how they are told apart.

An accented letter has two forms in Unicode, and file systems, archives and keyboards choose one for themselves: NFC, one
character, or NFD, the letter and its accent.
"""

import unicodedata
from collections.abc import Iterable, Mapping

SHOWN = 12  # odd characters of a name that a message spells


def normalised(name: str) -> str:
    """The name as it is written here: composed (NFC), without blanks at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def folded(name: str) -> str:
    """What names that differ by case, by form, by blanks or by what is not seen have in common."""
    seen = "".join(c for c in normalised(name).casefold() if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFC", seen).split())


def by_form(names: Iterable[str]) -> dict[str, str]:
    """Each name by what it and no other of them is ``folded`` to."""
    return _unique((folded(name), name) for name in names)


def by_writing(names: Iterable[str]) -> dict[str, str]:
    """Each name by what it and no other of them is ``normalised`` to."""
    return _unique((normalised(name), name) for name in names)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    several: set[str] = set()
    for key, name in pairs:
        if found.setdefault(key, name) != name:
            several.add(key)
    return {key: name for key, name in found.items() if key not in several}


def spelled(name: str) -> str:
    """The name, with the code points of those characters that may look like others: 'Cafe\u0301 ' is Café (U+0301, U+0020)."""
    inner = name.strip()
    before, _, after = name.partition(inner) if inner else (name, "", "")
    odd = [c for c in inner if not c.isascii()]
    points = ", ".join(f"U+{ord(c):04X}" for c in [*before, *odd, *after][:SHOWN])
    return f"{inner} ({points}{', …' if len(before + after) + len(odd) > SHOWN else ''})" if points else name


def told(name: str, known: Mapping[str, str]) -> str:
    """A name that is not known, and beside it the known one, of ``by_form``, that looks like it."""
    other = known.get(folded(name))
    return name if other is None else f"{spelled(name)}, which is not {spelled(other)}"

"""What training knows of its images before it begins: the findings that ask for no other look into the files."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.terminal import program
from training.data.dataset import ImageSet
from training.data.lineage import Past
from training.data.near_duplicates import is_plain
from training.data.sources.source import first_of
from training.errors import DataError
from training.inspection.findings import Finding, Pictures, by_level, compare, counted


@dataclass(frozen=True)
class Decoded:
    """Images in memory, by split."""

    sets: dict[str, ImageSet]

    @cached_property
    def splits(self) -> list[str]:
        return [split for split, images in self.sets.items() for _ in range(len(images))]

    @cached_property
    def labels(self) -> list[str]:
        return [images.classes[target] for images in self.sets.values() for target in images.targets]

    @cached_property
    def groups(self) -> list[str]:
        return [group for images in self.sets.values() for group in images.groups]

    @cached_property
    def paths(self) -> list[str]:
        return [path for images in self.sets.values() for path in images.paths]

    @cached_property
    def files(self) -> list[int]:
        return [identity for images in self.sets.values() for identity in images.identities.tolist()]

    @cached_property
    def small(self) -> NDArray[np.uint8]:
        return np.concatenate([images.small for images in self.sets.values()])

    @cached_property
    def seen(self) -> list[Hashable]:
        """By the small copy, or the file where that is of one colour."""
        plain = is_plain(self.small)
        return [file if plain[i] else self.small[i].tobytes() for i, file in enumerate(self.files)]

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return {split: images.classes for split, images in self.sets.items()}


def find(sets: dict[str, ImageSet], past: Past) -> tuple[list[str], list[str]]:
    """What makes figures false, and what is only worth knowing, a line each. sets: by split, "train" first."""
    pictures = Decoded(sets)
    found = by_level([*_trained_before(sets, past), *compare(cast(Pictures, pictures))])
    errors, warnings = ([_line(pictures, f) for f in found if f.level == level] for level in ("error", "warning"))
    return errors, warnings


def stop(errors: Sequence[str], source: str | Path) -> None:
    """Raises DataError where there are any."""
    if errors:
        shows = program.command("inspect", source)
        raise DataError(
            f"{'; '.join(errors)}. Nothing was trained: correct the data ('{shows}' shows all of it), "
            "or add --anyway to train all the same"
        )


def _trained_before(sets: dict[str, ImageSet], past: Past) -> Iterator[Finding]:
    """Images to measure on that the weights have seen already."""
    known = {split: past.has_trained(images.identities) for split, images in sets.items() if split != "train"}
    if lines := [f"{sets[split].paths[i]} ({split})" for split, seen in known.items() for i in np.flatnonzero(seen)]:
        title = counted(len(lines), "image") + " to measure on, trained on by the run that this one starts from"
        advice = "What is measured on them is too good: remove them, or begin without its weights"
        yield Finding("trained-before", "error", title, advice, lines=lines)


def _line(pictures: Decoded, finding: Finding) -> str:
    """One line with the first examples."""
    if finding.groups:
        first = finding.groups[0][0]
        example = f"such as {', '.join(f'{pictures.paths[i]} ({pictures.splits[i]})' for i in first[:2])}"
    else:
        example = first_of(finding.lines)
    return f"{finding.title} ({example})"

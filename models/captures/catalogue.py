"""What a folder of kept images holds, known without reading all of it: which answers there are, and which image each is about.

Several processes write to the folder, so the catalogue is brought up to date by the names and inodes of the files: what it has
not seen is read, nothing else.
"""

import math
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from models.captures import captured
from models.captures.captured import ANSWERS, IMAGES, CapturedAnswer

FRESH_SECONDS = 60.0  # an image without an answer, or the reverse, may be on its way for so long
WITHDRAWN_SECONDS = 3600.0  # how long it is remembered that a request was deleted, for what is still on its way
MARKS = 10_000  # of deleted requests, at most; past it the oldest tenth is forgotten
CORRECTED, UNSURE, USUAL = 2, 1, 0  # what goes last, and what first


class Entry(NamedTuple):
    """An answer. time: when it was given, Unix time. told: people have said whether it is right. inode, changed: of its file,
    the latter in nanoseconds."""

    image: str
    time: float
    worth: int
    told: bool
    inode: int
    changed: int


class Catalogue:
    """Of the answers in ``folder``, by the name of their file. For one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, Entry] = {}
        self.of_image: dict[str, set[str]] = {}  # names of answers
        self.marks = 0  # of deleted requests
        self.images = 1  # of a request, by the highest index there is
        self.looked = -math.inf  # when it last began to look, time.monotonic

    def refresh(self, since: float = math.inf, thorough: bool = False) -> None:
        """Take up what was written and removed by anyone, unless that was begun after ``since`` (time.monotonic).

        thorough: answers that were written again are told by the time of their file too, which costs five times as much;
        without it one that was written again twice, which may have its old inode again, can be missed. What is damaged, and
        marks that are old, are removed then. Raises OSError.
        """
        if self.looked > since:
            return
        began, now = time.monotonic(), time.time()
        found: set[str] = set()
        marks = 0
        with os.scandir(self.folder / ANSWERS) as files:
            for file in files:
                if file.name.endswith(captured.WITHDRAWN):
                    marks += not (thorough and remove_old(Path(file.path), now - WITHDRAWN_SECONDS))
                elif file.name.startswith(captured.BESIDE):
                    if thorough:
                        remove_old(Path(file.path), now - FRESH_SECONDS)
                elif self._is_known(file, thorough) or self._read(Path(file.path), thorough, now):
                    found.add(file.name)
        for name in self.answers.keys() - found:  # looked for by name: one that is just written again may be skipped
            if not self._read(self.folder / ANSWERS / name, thorough, now):
                self.forget(name)
        self.marks, self.looked = marks, began

    def _is_known(self, file: "os.DirEntry[str]", thorough: bool) -> bool:
        known = self.answers.get(file.name)
        if known is None or known.inode != file.inode():
            return False
        with suppress(FileNotFoundError):
            return not thorough or file.stat().st_mtime_ns == known.changed
        return False

    def _read(self, path: Path, thorough: bool, now: float) -> bool:
        """Whether it is an answer, which is in the catalogue then."""
        try:
            facts = path.stat()  # before it is read: one that is written again between is read again
        except FileNotFoundError:
            return False
        answer = captured.read_answer(path)
        if answer is None:
            if thorough:
                remove_old(path, now - FRESH_SECONDS)
            return False
        self.put(path.name, answer, facts.st_ino, facts.st_mtime_ns)
        return True

    def put(self, name: str, answer: CapturedAnswer, inode: int = 0, changed: int = 0) -> None:
        """Take up an answer; without inode it is read at the next look."""
        self.forget(name)
        worth = CORRECTED if answer.right is False else UNSURE if answer.unsure else USUAL
        names = self.of_image.setdefault(answer.image, set())
        image = self.answers[next(iter(names))].image if names else answer.image  # one text for all of them
        self.answers[name] = Entry(image, answer.time.timestamp(), worth, answer.right is not None, inode, changed)
        names.add(name)
        if parts := captured.read_name(name):
            self.images = max(self.images, parts[2] + 1)

    def forget(self, name: str) -> None:
        if entry := self.answers.pop(name, None):
            names = self.of_image[entry.image]
            names.discard(name)
            if not names:
                del self.of_image[entry.image]

    def names(self, client: str, answer_id: str) -> list[str]:
        """Of the answers to a request."""
        names = (captured.answer_name(client, answer_id, index) for index in range(self.images))
        return [name for name in names if name in self.answers]

    def withdraw(self, client: str, answer_id: str) -> None:
        """As kept.withdraw, but marks have a greatest number. Raises OSError."""
        if self.marks >= MARKS:
            self._forget_marks()
        captured.withdraw(self.folder, client, answer_id)
        self.marks += 1

    def _forget_marks(self) -> None:
        """The oldest tenth, of what is surely more than can still be on its way."""
        paths = [path for path in (self.folder / ANSWERS).iterdir() if path.name.endswith(captured.WITHDRAWN)]
        times: dict[Path, float] = {}
        for path in paths:
            with suppress(FileNotFoundError):
                times[path] = path.stat().st_mtime
        oldest = sorted(times, key=times.__getitem__)[: max(0, len(times) - MARKS * 9 // 10)]
        for path in oldest:
            path.unlink(missing_ok=True)
        self.marks = len(times) - len(oldest)

    def remove(self, names: Iterable[str]) -> int:
        """Delete answers, and the images that no other answer is about; how many there were. Raises OSError."""
        images: set[str] = set()
        removed = 0
        for name in names:
            path = self.folder / ANSWERS / name
            answer, known = captured.read_answer(path), self.answers.get(name)
            images |= {entry.image for entry in (answer, known) if entry}
            with suppress(FileNotFoundError):
                path.unlink()
                removed += 1
            self.forget(name)
        self.remove_images(images)
        return removed

    def remove_images(self, images: Iterable[str]) -> None:
        """Delete those images that no answer is about, also none that another process writes now.

        An image is put aside first, then the answers are looked at, so that one that was written before is seen; who writes
        one after that finds the image gone and writes it too. Raises OSError.
        """
        beside: dict[str, Path] = {}
        sure = False
        try:
            for image in images:
                if not self._is_needed(image):
                    self._put_aside(image, beside)
            if beside:
                self.refresh()
            sure = True
        finally:
            for image, aside in beside.items():
                with suppress(FileNotFoundError):
                    if sure and image not in self.of_image:
                        aside.unlink()
                    else:
                        aside.rename(self.folder / IMAGES / image)

    def _is_needed(self, image: str) -> bool:
        """Whether an answer that is known is about it, and there."""
        for name in list(self.of_image.get(image, ())):
            if answer := captured.read_answer(self.folder / ANSWERS / name):
                self.put(name, answer)
            else:
                self.forget(name)
            if image in self.of_image and name in self.of_image[image]:
                return True
        return False

    def _put_aside(self, image: str, beside: dict[str, Path]) -> None:
        path = self.folder / IMAGES / image
        aside = path.with_name(captured.BESIDE + secrets.token_hex(8))
        with suppress(FileNotFoundError):
            os.utime(path)  # so that it is not taken for what a writer that died has left
            path.rename(aside)
            beside[image] = aside


def remove_old(path: Path, before: float) -> bool:
    """Whether a file was last changed before then, and is removed, or is gone anyway."""
    try:
        if path.stat().st_mtime >= before:
            return False
    except FileNotFoundError:
        return True
    path.unlink(missing_ok=True)
    return True


def forget(folder: Path, answer_id: str) -> int:
    """Delete what is kept of a request, of whichever client; how many answers that were. Raises OSError."""
    if not captured.ANSWER_ID.fullmatch(answer_id):
        return 0
    catalogue = Catalogue(folder)
    catalogue.refresh()
    found = [name for name in catalogue.answers if (parts := captured.read_name(name)) and parts[1] == answer_id]
    for name in found:
        catalogue.withdraw(name.partition("~")[0], answer_id)
    return catalogue.remove(found)

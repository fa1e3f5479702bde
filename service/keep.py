"""Writes images and answers into the folder of kept images, off the path of requests, and keeps the folder within its bounds.

What cannot be written is dropped and counted; no request waits or fails for it. All workers share the folder: whichever
holds its lock clears up. Neighbours: models/kept.py says what lies where, aftermath.py offers, feedback.py tells.
"""

import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from models import kept as store
from models.kept import ANSWERS, IMAGES, Kept

QUEUE_IMAGES, QUEUE_BYTES, QUEUE_VERDICTS = 256, 32 * 2**20, 1024  # waiting to be written, in each worker
CLEAR_SECONDS, CLEAR_SHARE = 5.0, 0.05  # a worker clears up so often, or of its time, at most; at once where a bound is passed
PATIENCE_SECONDS = 10.0  # how long feedback waits for the answer that another worker is about to write
FRESH_SECONDS = 60.0  # an image without an answer, or the reverse, may be on its way for so long
WITHDRAWN_SECONDS = 3600.0
ROOM = 0.95  # of a bound, what is left when it was passed
ANSWERS_OF_AN_IMAGE = 20  # that came often; those with feedback, and the newest, stay
DAY, MB = 86_400.0, 1_000_000
CORRECTED, UNSURE, USUAL = 2, 1, 0  # what goes last, and what first
log = logging.getLogger("hubel")


@dataclass(frozen=True)
class Bounds:
    """share: of the images that are neither unsure nor corrected, which stay; the others for ``wait`` seconds, in which
    feedback may come. The rest: the most of images, of seconds, and of bytes."""

    images: int
    seconds: float
    bytes: int
    share: float
    wait: float


@dataclass(frozen=True)
class Verdict:
    """Feedback on an answer; until: time.monotonic."""

    client: str
    request_id: str
    index: int
    right: bool
    given: str | None
    at: datetime
    until: float


@dataclass
class Found:
    """What the folder held when it was last looked at; of each answer the time of its file and its content."""

    images: int = 0
    bytes: int = 0
    answers: dict[str, tuple[int, Kept]] = field(default_factory=dict[str, tuple[int, Kept]])


class Keeper:
    """folder: there and writable. count: called with what became of each image or verdict: "kept", "known" (its bytes were
    there), "dropped" (too many wait), "failed" (the disk). told: called with the folder's images and bytes."""

    def __init__(
        self,
        folder: Path,
        bounds: Bounds,
        count: Callable[[str], object] = lambda outcome: None,
        told: Callable[[int, int], object] = lambda images, size: None,
    ) -> None:
        self.folder = folder
        self.bounds = bounds
        self.count = count
        self.told = told
        self.images: deque[tuple[bytes, Kept]] = deque()
        self.verdicts: deque[Verdict] = deque()
        self.waiting = 0  # bytes of images
        self.found = Found()
        self.cleared, self.pause = -CLEAR_SECONDS, CLEAR_SECONDS
        self.complained = -DAY
        self.changed = threading.Condition()
        self.ending = False
        self.thread = threading.Thread(target=self._work, name="keep", daemon=True)
        self.thread.start()

    def offer(self, image: bytes, kept: Kept) -> None:
        """Have an image and its answer written soon; ``kept.image`` is set then."""
        with self.changed:
            if len(self.images) >= QUEUE_IMAGES or (self.images and self.waiting + len(image) > QUEUE_BYTES):
                self.count("dropped")
                return
            self.images.append((image, kept))
            self.waiting += len(image)
            self.changed.notify()

    def tell(self, client: str, request_id: str, index: int, right: bool, given: str | None) -> None:
        """Have feedback written to its answer soon."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self.changed:
            if len(self.verdicts) >= QUEUE_VERDICTS:
                self.count("dropped")
                return
            self.verdicts.append(Verdict(client, request_id, index, right, given, datetime.now(UTC), until))
            self.changed.notify()

    def delete(self, client: str, request_id: str) -> int:
        """Delete what is kept of a request, also what still waits; how many answers that were. Raises OSError."""
        store.withdraw(self.folder, client, request_id)
        with self.changed:
            mine = [entry for entry in self.images if (entry[1].client, entry[1].request_id) == (client, request_id)]
            for entry in mine:
                self.images.remove(entry)
                self.waiting -= len(entry[0])
        return len(mine) + store.delete(self.folder, request_id, client)

    def close(self) -> None:
        """Write what waits, and end."""
        with self.changed:
            self.ending = True
            self.changed.notify()
        self.thread.join(10)

    def _work(self) -> None:
        while True:
            with self.changed:
                if not (self.images or self.ending):
                    self.changed.wait(0.2 if self.verdicts else CLEAR_SECONDS)
                entry = self.images.popleft() if self.images else None
                self.waiting -= len(entry[0]) if entry else 0
                verdicts = [self.verdicts.popleft() for _ in range(len(self.verdicts))]
                ending = self.ending
            try:
                self._turn(entry, verdicts)
            except OSError as err:
                self.count("failed")
                self._complain(err)
            except Exception:  # the next image is another
                self.count("failed")
                log.exception("an image is not kept")
            if ending and entry is None:
                return

    def _turn(self, entry: tuple[bytes, Kept] | None, verdicts: list[Verdict]) -> None:
        if entry is not None:
            self._write(*entry)
        for verdict in verdicts:
            if not self._note(verdict) and time.monotonic() < verdict.until:
                self.verdicts.append(verdict)
        full = self.found.images > self.bounds.images or self.found.bytes > self.bounds.bytes
        if full or time.monotonic() - self.cleared > self.pause:
            self.clear()
            self.pause = max(CLEAR_SECONDS, (time.monotonic() - self.cleared) / CLEAR_SHARE)

    def _write(self, image: bytes, kept: Kept) -> None:
        name = store.image_name(image)
        new = store.write_image(self.folder, name, image)
        if store.write_answer(self.folder, msgspec.structs.replace(kept, image=name)):
            self.count("kept" if new else "known")
        self.found.images += new
        self.found.bytes += len(image) * new

    def _note(self, verdict: Verdict) -> bool:
        """Whether the answer was there to write the feedback to."""
        before = store.read_answer(store.answer_path(self.folder, verdict.client, verdict.request_id, verdict.index))
        if before is None:
            return False
        if before.given_at is None or before.given_at < verdict.at:
            changes = {"right": verdict.right, "given": verdict.given, "given_at": verdict.at}
            store.write_answer(self.folder, msgspec.structs.replace(before, **changes))
        return True

    def _complain(self, error: OSError) -> None:
        if (now := time.monotonic()) - self.complained > 60:
            self.complained = now
            log.error("images cannot be kept in %s: %s; requests are answered all the same", self.folder, error.strerror)

    def clear(self) -> None:
        """Bring the folder within its bounds, unless another worker does so now. Raises OSError."""
        self.cleared = time.monotonic()
        with os.fdopen(os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self.found = clear(self.folder, self.bounds, self.found.answers)
        self.told(self.found.images, self.found.bytes)


def clear(folder: Path, bounds: Bounds, known: dict[str, tuple[int, Kept]]) -> Found:
    """Delete what is too old or too much: usual images first, then unsure ones, then those that were answered wrongly, each
    the oldest first. ``known``: the answers that were read before."""
    now = time.time()
    answers = _answers(folder, now, known)
    images = {entry.name: entry.stat() for entry in _scan(folder / IMAGES, now)}
    kept: dict[str, list[str]] = {}
    for name, (written, answer) in answers.items():
        lost = answer.image not in images and now - written / 1e9 > FRESH_SECONDS
        if lost or not stays(answer, bounds, now):
            (folder / ANSWERS / name).unlink(missing_ok=True)
        else:
            kept.setdefault(answer.image, []).append(name)
    for found in kept.values():
        found.sort(key=lambda name: (answers[name][1].right is not None, answers[name][1].time), reverse=True)
        for name in found[ANSWERS_OF_AN_IMAGE:]:
            (folder / ANSWERS / name).unlink(missing_ok=True)
        del found[ANSWERS_OF_AN_IMAGE:]
    for name in [name for name, facts in images.items() if name not in kept and now - facts.st_mtime > FRESH_SECONDS]:
        _unlink(folder / IMAGES / name)
        del images[name]
    size = sum(facts.st_size for facts in images.values())
    if len(images) > bounds.images or size > bounds.bytes:
        order = sorted(kept, key=lambda name: max((worth(answers[a][1]), answers[a][1].time) for a in kept[name]))
        for name in order:
            if len(images) <= ROOM * bounds.images and size <= ROOM * bounds.bytes:
                break
            for answer in kept.pop(name):
                (folder / ANSWERS / answer).unlink(missing_ok=True)
            _unlink(folder / IMAGES / name)
            facts = images.pop(name, None)
            size -= facts.st_size if facts else 0
    left = {name for names in kept.values() for name in names}
    return Found(len(images), size, {name: answers[name] for name in left})


def _answers(folder: Path, now: float, known: dict[str, tuple[int, Kept]]) -> dict[str, tuple[int, Kept]]:
    """By the name of their file. Those that changed are read; damaged ones and old marks of what was deleted are removed."""
    found: dict[str, tuple[int, Kept]] = {}
    for entry in _scan(folder / ANSWERS, now):
        facts = entry.stat()
        if entry.name.endswith(store.WITHDRAWN):
            if now - facts.st_mtime > WITHDRAWN_SECONDS:
                _unlink(Path(entry.path))
        elif (before := known.get(entry.name)) and before[0] == facts.st_mtime_ns:
            found[entry.name] = before
        elif answer := store.read_answer(Path(entry.path)):
            found[entry.name] = (facts.st_mtime_ns, answer)
        elif now - facts.st_mtime > FRESH_SECONDS:
            _unlink(Path(entry.path))
    return found


def _scan(folder: Path, now: float) -> list["os.DirEntry[str]"]:
    """The files of a folder that are there in full; what a writer that died left half is removed."""
    found: list[os.DirEntry[str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not entry.name.startswith(store.BESIDE):
                    entry.stat()  # kept in the entry, whoever removes the file meanwhile
                    found.append(entry)
                elif now - entry.stat().st_mtime > FRESH_SECONDS:
                    _unlink(Path(entry.path))
    return found


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def worth(kept: Kept) -> int:
    if kept.right is False:
        return CORRECTED
    return UNSURE if kept.unsure else USUAL


def stays(kept: Kept, bounds: Bounds, now: float) -> bool:
    """Whether an answer is young enough, and unsure, corrected, in the share, or young enough that feedback may come."""
    age = now - kept.time.timestamp()
    if age > bounds.seconds:
        return False
    return worth(kept) > USUAL or age <= bounds.wait or int(kept.image[:8], 16) < bounds.share * 2**32

"""Writes images and answers into the folder of kept images, off the path of requests, and keeps the folder within its bounds.

What cannot be written is dropped and counted; no request waits or fails for it. All workers share the folder: whichever holds
its lock clears up.
"""

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from models import files
from models.captures import captured
from models.captures.captured import ANSWERS, IMAGES, CapturedAnswer
from models.captures.catalogue import FRESH_SECONDS, USUAL, Catalogue, Entry, remove_old
from service.errors import KeptUnavailable
from service.telemetry.log import of_requests

QUEUE_IMAGES, QUEUE_BYTES, QUEUE_VERDICTS = 256, 32 * 2**20, 1024  # waiting to be written, in each worker
CLEAR_SECONDS, CLEAR_SHARE = 5.0, 0.05  # a worker clears up so often, or of its time, at most
FULL_SHARE = 0.25  # of its time, where a bound is passed
PATIENCE_SECONDS = 10.0  # how long feedback waits for the answer that another worker is about to write
RETRY_SECONDS = 0.2  # how often it looks for it
PENDING_SECONDS = 600.0  # how long an answer that was given may be on its way to the folder
DELETE_SECONDS = 2.0  # how long a deletion waits while the folder is cleared up
BLIND_IMAGES = 1024  # of a deleted request, that are looked for by name besides those that are known
ROOM = 0.95  # of a bound, what is left when it was passed
ANSWERS_OF_AN_IMAGE = 20  # that came often; those with feedback, and the newest, stay
ANSWERS_AN_IMAGE = 5  # on average: so many answers as this times the images that may be there are kept in all
DAY, MB = 86_400.0, 1_000_000
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

    @property
    def answers(self) -> int:
        return ANSWERS_AN_IMAGE * self.images


@dataclass(frozen=True)
class FeedbackEvent:
    """Feedback on an answer; until: time.monotonic."""

    client: str
    answer_id: str
    index: int
    right: bool
    given: str | None
    at: datetime
    until: float


@dataclass
class Found:
    """How much the folder held when it was last looked at, and what was written since."""

    images: int = 0
    bytes: int = 0
    answers: int = 0

    def passes(self, bounds: Bounds, share: float = 1.0) -> bool:
        """Whether it is more than this share of the bounds."""
        return self.images > share * bounds.images or self.bytes > share * bounds.bytes or self.answers > share * bounds.answers


class Capture:
    """folder: there and writable. count: called with what became of each image or verdict: "kept", "known" (its bytes were
    there), "dropped" (too many wait), "failed" (the disk). told: called with the folder's images, their bytes, and answers."""

    def __init__(
        self,
        folder: Path,
        bounds: Bounds,
        count: Callable[[str], object] = lambda outcome: None,
        told: Callable[[int, int, int], object] = lambda images, size, answers: None,
    ) -> None:
        self.folder = folder
        self.bounds = bounds
        self.count = count
        self.told = told
        self.images: deque[tuple[bytes, CapturedAnswer]] = deque()
        self.intake: deque[FeedbackEvent] = deque()
        self.waiting = 0  # bytes of images
        self.found = Found()
        self.catalogue, self.lock = Catalogue(folder), threading.Lock()
        self.cleared, self.spent, self.retried = -CLEAR_SECONDS, 0.0, 0.0
        self.complained = -DAY
        self.changed = threading.Condition()
        self.ending = False
        self.thread = threading.Thread(target=self._work, name="keep", daemon=True)
        self.thread.start()

    def offer(self, image: bytes, kept: CapturedAnswer) -> None:
        """Have an image and its answer written soon; ``kept.image`` is set then."""
        with self.changed:
            if len(self.images) >= QUEUE_IMAGES or (self.images and self.waiting + len(image) > QUEUE_BYTES):
                self.count("dropped")
                return
            self.images.append((image, kept))
            self.waiting += len(image)
            self.changed.notify()

    def tell(self, client: str, answer_id: str, index: int, right: bool, given: str | None) -> None:
        """Have feedback written to its answer soon."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self.changed:
            if len(self.intake) >= QUEUE_VERDICTS:
                self.count("dropped")
                return
            self.intake.append(FeedbackEvent(client, answer_id, index, right, given, datetime.now(UTC), until))
            self.changed.notify()

    def delete(self, client: str, answer_id: str, asked: float, images: int = 1, given: bool = False) -> int:
        """Delete what is kept of a request, also what still waits; how many answers that were.

        asked: when that was wanted, time.monotonic. images: of a request, at most. given: it was answered of late, so that
        what another worker keeps of it may be on its way. Without that, and where nothing is there, nothing is written.

        Raises KeptUnavailable where it cannot be done now.
        """
        with self._guard():
            (self.folder / ANSWERS).stat()  # if that is gone, nobody knows what is there
            names = self._names(client, answer_id, images)
            if not (given or self._waiting(client, answer_id) or any(self._is_there(name) for name in names)):
                return 0
            with self._alone():
                self._withdraw(client, answer_id)
                dropped = self._drop(client, answer_id)
                self.catalogue.refresh(asked)
                return dropped + self.catalogue.remove(names | self._names(client, answer_id, images))

    def _names(self, client: str, answer_id: str, images: int) -> set[str]:
        """Of the answers that there may be, and those that are known."""
        blind = range(min(max(images, self.catalogue.images), BLIND_IMAGES))
        return {captured.answer_name(client, answer_id, i) for i in blind} | set(self.catalogue.names(client, answer_id))

    def _is_there(self, name: str) -> bool:
        try:
            (self.folder / ANSWERS / name).lstat()
        except FileNotFoundError:
            return False
        return True

    def _withdraw(self, client: str, answer_id: str) -> None:
        """Have what is on its way not stay. Where there is no room for that mark, there is none for an image either."""
        try:
            self.catalogue.withdraw(client, answer_id)
        except OSError as err:
            self._complain(err)

    @contextmanager
    def _guard(self) -> Generator[None]:
        """Raises KeptUnavailable for what the disk says."""
        try:
            yield
        except OSError as err:
            self._complain(err)
            raise KeptUnavailable(
                "the folder of kept images (HUBEL_FEEDBACK_DIR) cannot be changed now, so what it holds of the request may still "
                "be there; the service's log says why; try again later"
            ) from err

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Have the catalogue, which the thread that clears up needs too; raises KeptUnavailable where it has it for long."""
        if not self.lock.acquire(timeout=DELETE_SECONDS):
            raise KeptUnavailable(f"the folder of kept images is being cleared up for {DELETE_SECONDS:g} s; try again in 5 s")
        try:
            yield
        finally:
            self.lock.release()

    def _waiting(self, client: str, answer_id: str) -> list[tuple[bytes, CapturedAnswer]]:
        with self.changed:
            return [entry for entry in self.images if (entry[1].client, entry[1].answer_id) == (client, answer_id)]

    def _drop(self, client: str, answer_id: str) -> int:
        """Have what waits not be written; how many images that were."""
        with self.changed:  # which a thread may take twice
            mine = self._waiting(client, answer_id)
            for entry in mine:
                self.images.remove(entry)
                self.waiting -= len(entry[0])
        return len(mine)

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
                    self.changed.wait(RETRY_SECONDS if self.intake else CLEAR_SECONDS)
                entry = self.images.popleft() if self.images else None
                self.waiting -= len(entry[0]) if entry else 0
                ending = self.ending
            if entry is not None:
                self._try(lambda entry=entry: self._write(*entry))
            if (ending and entry is None) or time.monotonic() - self.retried >= RETRY_SECONDS:
                self._note_all()
            self._try(self._clear_in_time, counted=False)
            if ending and entry is None:
                return

    def _try(self, what: Callable[[], object], counted: bool = True) -> None:
        """Go on whatever comes of it: the next image is another. counted: as an image, or feedback on one."""
        try:
            what()
            return
        except OSError as err:
            self._complain(err)
        except Exception:
            of_requests().exception("an image is not kept")
        if counted:
            self.count("failed")

    def _write(self, image: bytes, answer: CapturedAnswer) -> None:
        """An image, then its answer, then the image again where it was deleted in between, with the last other answer."""
        name = captured.image_name(image)
        try:
            new = captured.write_image(self.folder, name, image)
        except FileNotFoundError:
            captured.mend(self.folder)
            new = captured.write_image(self.folder, name, image)
        answer = msgspec.structs.replace(answer, image=name)
        stays = captured.write_answer(self.folder, answer)
        again = stays and captured.write_image(self.folder, name, image)
        if stays:
            self.count("kept" if new else "known")
            self.found.answers += 1
            with self.lock:
                self.catalogue.put(captured.answer_name(answer.client, answer.answer_id, answer.index), answer)
        if again or not stays:
            self._release(name)
        self.found.images += new
        self.found.bytes += len(image) * new

    def _release(self, image: str) -> None:
        """Its request was deleted meanwhile, or may have been: who did that may have found the image still needed."""
        with self.lock:
            self.catalogue.remove_images([image])

    def _note_all(self) -> None:
        """Feedback that waits; what finds no answer waits on, for a while."""
        self.retried = time.monotonic()
        with self.changed:
            intake = [self.intake.popleft() for _ in range(len(self.intake))]
        for verdict in intake:
            self._try(lambda verdict=verdict: self._note(verdict))

    def _note(self, verdict: FeedbackEvent) -> None:
        before = captured.read_answer(captured.answer_path(self.folder, verdict.client, verdict.answer_id, verdict.index))
        if before is None:
            if time.monotonic() < verdict.until:
                with self.changed:
                    self.intake.append(verdict)
        elif before.given_at is None or before.given_at < verdict.at:
            changes = {"right": verdict.right, "given": verdict.given, "given_at": verdict.at}
            if not captured.write_answer(self.folder, msgspec.structs.replace(before, **changes)):
                self._release(before.image)

    def _complain(self, error: OSError) -> None:
        if (now := time.monotonic()) - self.complained > 60:
            self.complained = now
            log.error("images cannot be kept in %s: %s; requests are answered all the same", self.folder, error.strerror)

    def _clear_in_time(self) -> None:
        """Clear up where that is due; it takes a share of the time at most, a larger one where a bound is passed."""
        idle = time.monotonic() - self.cleared
        usual = max(CLEAR_SECONDS, self.spent / CLEAR_SHARE)
        if idle > usual or (idle > self.spent / FULL_SHARE and self.found.passes(self.bounds)):
            try:
                self.clear()
            finally:
                self.spent = time.monotonic() - self.cleared

    def clear(self) -> None:
        """Bring the folder within its bounds, or, where another worker does so now, look what is there. Raises OSError."""
        self.cleared = time.monotonic()
        with os.fdopen(os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)) as lock, self.lock:
            if not files.lock(lock.fileno()):
                self.catalogue.refresh()
                return
            self.found = clear(self.catalogue, self.bounds)
        self.told(self.found.images, self.found.bytes, self.found.answers)


def clear(known: Catalogue, bounds: Bounds) -> Found:
    """Delete what is too old or too much: usual images first, then unsure ones, then those that were answered wrongly, each
    the oldest first."""
    now = time.time()
    known.refresh(thorough=True)
    images = {entry.name: entry.stat() for entry in _scan(known.folder / IMAGES, now)}
    for name, answer in list(known.answers.items()):
        lost = answer.image not in images and now - answer.time > FRESH_SECONDS
        if lost or not stays(answer, bounds, now):
            _remove(known, name)
    _thin_out(known, bounds)
    for name in [name for name, facts in images.items() if name not in known.of_image and now - facts.st_mtime > FRESH_SECONDS]:
        (known.folder / IMAGES / name).unlink(missing_ok=True)
        del images[name]
    found = Found(len(images), sum(facts.st_size for facts in images.values()), len(known.answers))
    if found.images > bounds.images or found.bytes > bounds.bytes:
        for name in sorted(known.of_image, key=lambda name: _value(known, name)):
            if not found.passes(bounds, ROOM):
                break
            for answer in list(known.of_image[name]):
                _remove(known, answer)
            (known.folder / IMAGES / name).unlink(missing_ok=True)
            if facts := images.pop(name, None):
                found.images, found.bytes = len(images), found.bytes - facts.st_size
            found.answers = len(known.answers)
    return found


def _value(known: Catalogue, image: str) -> tuple[int, float]:
    """What of an image goes last: the most that one of its answers is worth, and when that was given."""
    return max((known.answers[name].worth, known.answers[name].time) for name in known.of_image[image])


def _thin_out(known: Catalogue, bounds: Bounds) -> None:
    """Of an image that came often some answers stay: ANSWERS_OF_AN_IMAGE, or fewer where all answers would be too many."""
    sizes = Counter(len(names) for names in known.of_image.values())
    limit = ANSWERS_OF_AN_IMAGE
    most = bounds.answers if len(known.answers) <= bounds.answers else ROOM * bounds.answers
    while limit > 1 and sum(min(size, limit) * n for size, n in sizes.items()) > most:
        limit -= 1
    for names in list(known.of_image.values()):
        if len(names) > limit:
            found = sorted(names, key=lambda name: (known.answers[name].told, known.answers[name].time), reverse=True)
            for name in found[limit:]:
                _remove(known, name)


def _remove(known: Catalogue, name: str) -> None:
    (known.folder / ANSWERS / name).unlink(missing_ok=True)
    known.forget(name)


def _scan(folder: Path, now: float) -> list["os.DirEntry[str]"]:
    """The files of a folder that are there in full; what a writer that died left half is removed."""
    found: list[os.DirEntry[str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not entry.name.startswith(captured.BESIDE):
                    entry.stat()  # kept in the entry, whoever removes the file meanwhile
                    found.append(entry)
                else:
                    remove_old(Path(entry.path), now - FRESH_SECONDS)
    return found


def stays(answer: Entry, bounds: Bounds, now: float) -> bool:
    """Whether an answer is young enough, and unsure, corrected, in the share, or young enough that feedback may come."""
    age = now - answer.time
    if age > bounds.seconds:
        return False
    return answer.worth > USUAL or age <= bounds.wait or int(answer.image[:8], 16) < bounds.share * 2**32

"""A version tried on traffic, the candidate: <store>/<name>/candidate.json, and progress.json, what was seen of it so far.

``hubel models promote --shadow`` or ``--canary`` starts one, the service runs it, counts and ends it. Each file is replaced by
one rename.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from models import files
from models.errors import PackageError
from models.package.manifest import MOST, Line, Natural, Share, Time, Version, check_times
from models.registry import history, json_file, registry
from models.registry.history import Pointer
from models.terminal import program

FILE, PROGRESS = "candidate.json", "progress.json"
LATENCY_BOUNDS = tuple(0.0005 * 1.1**step for step in range(116))  # seconds, upper ends of bins: 0.5 ms to 29 s in steps of 10 %

Mode = Literal["shadow", "canary"]
Percent = Annotated[float, Meta(gt=0, le=100)]
Requests = Annotated[int, Meta(ge=1, le=10**9)]


class Bounds(Struct, frozen=True, forbid_unknown_fields=True):
    """What a candidate may cost before it is stopped, each against the live version in the same time.

    errors and unsure: rise of the share of requests that fail and of answers that are "unsure"; latency: ratio of the 95th
    percentiles; disagreement: share of compared images that get another class.
    """

    errors: Share = 0.01
    latency: Annotated[float, Meta(ge=1, le=1e6)] = 1.5
    disagreement: Share = 0.1
    unsure: Share = 0.05


class Candidate(Struct, frozen=True, forbid_unknown_fields=True):
    """``percent`` of the requests are answered from it (canary) or computed by it too (shadow), until ``requests`` were."""

    version: Version
    mode: Mode
    requests: Requests
    percent: Percent = 100
    bounds: Bounds = Bounds()
    started: Time = msgspec.field(default_factory=lambda: datetime.now(UTC))
    by: Line = msgspec.field(default_factory=history.who)
    reason: Line = ""

    def __post_init__(self) -> None:
        check_times(started=self.started)


class Tally(Struct, forbid_unknown_fields=True):
    """What one version did since the candidacy began. ``latency`` counts requests by LATENCY_BOUNDS, and those above last."""

    requests: Natural = 0
    errors: Natural = 0
    images: Natural = 0
    unsure: Natural = 0
    confidence: Annotated[float, Meta(ge=0, le=MOST)] = 0.0  # sum over images
    latency: Annotated[list[Natural], Meta(min_length=len(LATENCY_BOUNDS) + 1, max_length=len(LATENCY_BOUNDS) + 1)] = (
        msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    )

    def __post_init__(self) -> None:
        if self.errors > self.requests or self.unsure > self.images:
            raise ValueError(
                f"{self.errors} errors of {self.requests} requests, {self.unsure} unsure of {self.images} images: a part is "
                "larger than the whole"
            )


class Progress(Struct, forbid_unknown_fields=True):
    """What was seen of a candidate so far. ``started`` is the candidate's, so that no candidate takes another's progress.

    in_service, candidate: the two versions' own counts; of a shadow, of the images that both computed. compared, agreed:
    images that both answered, and alike; incomparable: the candidate gave a class that the other does not know.
    """

    version: Version
    started: Time
    in_service: Tally = msgspec.field(default_factory=Tally)
    candidate: Tally = msgspec.field(default_factory=Tally)
    compared: Natural = 0
    agreed: Natural = 0
    incomparable: Natural = 0
    updated: Time = msgspec.field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        check_times(started=self.started, updated=self.updated)
        if self.agreed > self.compared:
            raise ValueError(f"{self.agreed} of {self.compared} compared images agreed: a part is larger than the whole")


def quantile(tally: Tally, share: float) -> float | None:
    """Seconds that ``share`` of the requests took at most, to the upper end of a bin; None where there were none."""
    wanted, seen = share * sum(tally.latency), 0
    for bound, count in zip((*LATENCY_BOUNDS, float("inf")), tally.latency, strict=True):
        seen += count
        if count and seen >= wanted:
            return bound
    return None


def read(root: Path, name: str) -> Candidate | None:
    """The candidate of ``name``; None where there is none, or where its end was recorded and only its file is left.

    Raises:
        PackageError: the file or the pointer is damaged.
    """
    return of(root, name, registry.pointer(root, name))


def of(root: Path, name: str, pointer: Pointer | None) -> Candidate | None:
    """As ``read``, for who has the pointer already. Raises PackageError where the candidate's file is damaged."""
    found = json_file.read(root / name / FILE, Candidate, "remove it, and start the candidate again")
    return None if found is None or _is_over(found, pointer) else found


def _is_over(found: Candidate, pointer: Pointer | None) -> bool:
    """By the order of the records, whatever clocks told: what was recorded last of its version is its end."""
    if pointer is None or pointer.version == found.version:
        return True
    records = (c.event for c in reversed(pointer.history) if c.version == found.version)
    return next((event for event in records if event in ("shadow", "canary", "end")), None) == "end"


def start(
    root: Path,
    name: str,
    candidate: Candidate,
    forced: bool = False,
    key: Path | None = None,
    check: history.Check = history.anything,
) -> None:
    """Begin a candidacy; the start is recorded first. ``forced``: it did not pass the gate; key: that the package is signed
    for; check: whether the pointer, while nobody changes it, still is what the candidate was judged against.

    Raises:
        PackageError: the version does not verify, is live or retired, or another candidate is there.
    """
    registry.verify(registry.resolve(root, f"{name}:{candidate.version}"), key)
    try:
        msgspec.convert(msgspec.to_builtins(candidate), Candidate)
    except msgspec.ValidationError as err:
        raise PackageError(f"there can be no such candidate: {err}") from err

    def begin(old: Pointer | None) -> Pointer:
        check(old)
        registry.check_present(root, name, candidate.version)
        if old is None or old.version == candidate.version:
            what = "is live" if old else "would be the first live one"
            raise PackageError(f"{name}:{candidate.version} {what}; a candidate needs another to be compared with")
        if candidate.version in old.retired:
            raise PackageError(f"{name}:{candidate.version} is retired; promote it with --force to take it back into use")
        entry = history.change(candidate.mode, candidate.version, old, candidate.reason, candidate.by, forced)
        return msgspec.structs.replace(old, history=[*old.history, entry])

    with history.locked(root / name):
        if (running := read(root, name)) is not None:
            end = program.command("models", "end", name, *program.store(root))
            raise PackageError(f"{name}:{running.version} is a candidate already; '{end}' stops it")
        for leftover in (FILE, PROGRESS):
            (root / name / leftover).unlink(missing_ok=True)
        history.replace(root, name, begin)
        files.write_atomic(root / name / FILE, msgspec.json.encode(candidate) + b"\n")


def end(
    root: Path,
    name: str,
    promoted: bool,
    reason: str,
    by: str = "",
    forced: bool = False,
    only: Candidate | None = None,
    key: Path | None = None,
    check: history.Check = history.anything,
) -> Pointer:
    """End the candidacy: the candidate becomes live, or stays published as it was; returns the pointer.

    only: the candidate that is meant, where another may have been started meanwhile; key and check: as ``start`` has them.

    One rename records the end and moves the pointer; then the files of the candidacy go. A kill in between leaves files
    that ``read`` knows to be over.

    Raises:
        PackageError: there is no candidate, or it is to be promoted and does not verify; then it goes on.
        OSError: the store cannot be written to; it goes on.
    """
    found = read(root, name)
    if found is None or only not in (None, found):
        begin = program.command("models", "promote", f"{name}:VERSION", "--shadow", *program.store(root))
        what = "no candidate" if found is None else f"another candidate by now, {name}:{found.version}"
        raise PackageError(f"{name} has {what}; '{begin}' starts one")
    if promoted:
        registry.verify(registry.resolve(root, f"{name}:{found.version}"), key)

    def finish(old: Pointer | None) -> Pointer:
        if old is None:
            raise PackageError(f"no version of {name} is live; promote one first")
        check(old)
        if of(root, name, old) != found:
            raise PackageError(f"the candidate of {name} was ended or replaced meanwhile; nothing was changed, look again")
        if promoted:
            registry.check_present(root, name, found.version)
        ended = msgspec.structs.replace(
            old, history=[*old.history, history.change("end", found.version, old, reason, by, forced)]
        )
        return registry.promoted(ended, found.version, reason, by, forced) if promoted else ended

    with history.locked(root / name):
        pointer = history.replace(root, name, finish)
        for leftover in (FILE, PROGRESS):
            (root / name / leftover).unlink(missing_ok=True)
    return pointer


def read_progress(root: Path, name: str, candidate: Candidate) -> Progress:
    """What was seen of ``candidate`` so far; nothing where the file is missing, damaged or another candidate's."""
    try:
        found = json_file.read(root / name / PROGRESS, Progress, "it begins again")
    except PackageError:
        found = None
    if found is None or (found.version, found.started) != (candidate.version, candidate.started):
        return Progress(candidate.version, candidate.started)
    return found


def write_progress(root: Path, name: str, progress: Progress) -> None:
    """Replace progress.json; raises OSError where the store cannot be written to."""
    files.write_atomic(root / name / PROGRESS, msgspec.json.encode(progress) + b"\n")

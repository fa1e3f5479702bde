"""Promote a version, at once or as a candidate, once the gate passes it; roll back."""

from contextlib import suppress
from pathlib import Path

import msgspec

from models.errors import PackageError
from models.lifecycle import candidate, gate
from models.lifecycle.candidate import Candidate
from models.lifecycle.gate import Gate, GateRequest
from models.registry import history, registry
from models.registry.history import Pointer


class Refused(PackageError):
    """The gate did not let a version pass; ``gate`` says why."""

    def __init__(self, message: str, gate: Gate) -> None:
        super().__init__(message)
        self.gate = gate


def promote(
    root: Path, name: str, version: int, question: GateRequest, reason: str, force: bool = False, trial: Candidate | None = None
) -> Gate:
    """Ask the gate, keep its verdict beside the version, and make the version live, or with ``trial`` a candidate.

    Past a verdict against it only with ``force``, which verdict and history tell. A candidate there is ends: this
    version by becoming live, another because this one does.

    Raises:
        Refused: the gate is against it, or its files are not what they should be, which cannot be forced.
        PackageError: there is no such version, it is retired, or it cannot be a candidate; or what it was compared with is no
            longer live.
    """
    now = _pointer(root, name)
    registry.resolve(root, f"{name}:{version}")

    def check(pointer: Pointer | None) -> None:
        if pointer is not None and version in pointer.retired and not force:
            raise PackageError(f"{name}:{version} is retired; --force takes it back into use")
        if pointer is not None and now is not None and pointer.version != now.version and not force:
            raise PackageError(f"{name}:{pointer.version} became live while {name}:{version} was judged; promote it again")

    check(now)
    verdict = gate.judge(root, name, version, question)
    whole = all(check.verdict != "fail" for check in verdict.checks if check.rule == "files")
    if forced := force and whole and not verdict.passed:
        verdict = msgspec.structs.replace(verdict, forced=True)
    gate.write(root, name, version, verdict)
    check(_pointer(root, name))
    if not verdict.passed and not forced:
        raise Refused(_refusal(verdict, now, whole), verdict)
    if trial is None:
        _put_into_service(root, name, version, reason, forced, question.key, check)
    else:
        candidate.start(root, name, _expecting(trial, verdict), forced, question.key, check)
    return verdict


def _expecting(trial: Candidate, verdict: Gate) -> Candidate:
    """With a bound of disagreement above what the gate has seen, and found good, on held-out images."""
    seen = verdict.disagreement if verdict.passed and verdict.disagreement else 0.0
    bound = min(1.0, trial.bounds.disagreement + seen)
    return msgspec.structs.replace(trial, bounds=msgspec.structs.replace(trial.bounds, disagreement=bound))


def _pointer(root: Path, name: str) -> Pointer | None:
    try:
        return registry.pointer(root, name)
    except PackageError:  # damaged: promoting replaces it
        return None


def _refusal(verdict: Gate, now: Pointer | None, whole: bool) -> str:
    name = verdict.model.partition(":")[0]
    stays = f"{name}:{now.version} stays live" if now else "nothing became live"
    way_out = "--force promotes it all the same" if whole else "publish or copy it again"
    return f"{verdict.model} is not promoted: {verdict.reasons()}; {stays}; {way_out}"


def _put_into_service(
    root: Path, name: str, version: int, reason: str, forced: bool, key: Path | None, check: history.Check
) -> None:
    running = candidate.read(root, name) if _pointer(root, name) else None
    if running is not None and running.version == version:
        candidate.end(root, name, True, reason, forced=forced, only=running, key=key, check=check)
        return
    if running is not None:
        candidate.end(root, name, False, f"{name}:{version} was promoted", only=running, check=check)
    registry.promote(root, name, version, reason, forced=forced, key=key, check=check)


def roll_back(root: Path, name: str, reason: str = "") -> Pointer:
    """Make the version before live again and end the candidate; raises PackageError where there is none before."""
    pointer = registry.roll_back(root, name, reason)
    with suppress(PackageError):  # whatever is wrong with the candidate, the version before is live
        if candidate.read(root, name) is not None:
            return candidate.end(root, name, False, "rolled back")
    return pointer

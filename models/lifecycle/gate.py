"""Whether a version may become live: every rule, its verdict and why, as a table beside the version.

STORE/NAME/VERSION.gate.json holds the last.
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from models import files
from models.errors import PackageError
from models.lifecycle import dry_run, rules
from models.lifecycle.dry_run import DryRun, DryRunError
from models.lifecycle.rules import Check, Rules
from models.package import comparison, held_out_answers
from models.package.comparison import Pairs
from models.package.held_out_answers import Answers
from models.package.manifest import ANSWERS, MAX_FILES, MAX_LINE, Line, Manifest, Share, Time, check_times
from models.registry import history, json_file, registry

ENDING = ".gate.json"
ENOUGH = 100  # images in common, or half of the smaller set
AGAIN = 2  # times that both are timed again before one counts as slower; another program may have had the cores


class Gate(Struct, frozen=True):
    """A verdict. ``rival``: the live version that was compared with; ``compared``: on which images; ``trial``: what the
    version did when it was run; ``disagreement``: share of these images that get another class, None where no image was."""

    model: Line
    rival: Line | None
    passed: bool
    at: Time
    by: Line
    compared: Line
    checks: Annotated[list[Check], Meta(max_length=MAX_FILES)]
    rules: Rules
    classes_change: Line = ""
    trial: DryRun | None = None
    disagreement: Share | None = None
    forced: bool = False

    def __post_init__(self) -> None:
        check_times(at=self.at)

    def reasons(self) -> str:
        """What did not pass."""
        return "; ".join(f"{c.rule}: {c.found}" for c in self.checks if c.verdict == "fail")


class GateRequest(NamedTuple):
    """What the gate is asked with. images: held-out ones, a folder for each class; key: that the package is signed for."""

    rules: Rules = Rules()
    images: Path | None = None
    classes_change: str = ""
    key: Path | None = None
    seconds: float = dry_run.SECONDS


class Contender(NamedTuple):
    """One version: its folder and manifest, the answers that it holds, and what it did here: a trial, or why there is none."""

    folder: Path
    manifest: Manifest
    kept: Answers | None
    trial: DryRun | None = None
    here: Answers | None = None
    reason: str = ""


def judge(root: Path, name: str, version: int, question: GateRequest) -> Gate:
    """Every rule for ``name``:``version`` against the live version. Changes nothing. Raises PackageError where there
    is no such version; what is wrong with it is a row of the table."""
    folder = registry.resolve(root, f"{name}:{version}")
    try:
        new = _side(folder, registry.verify(folder, question.key))
    except PackageError as err:
        return _gate(f"{name}:{version}", None, "nothing", [Check("files", "fail", str(err))], None, question)
    old, why_not = _in_service(root, name, version)
    with tempfile.TemporaryDirectory() as place:
        new = _run(new, Path(place), question)
        old = old and _run(old, Path(place), question)
    before, after = _timed(old, new, question)
    found, compared, disagreement = _comparison(old, new, question) if old else (list[Check](), why_not, None)
    checks = [
        Check("files", "pass", f"{len(new.manifest.files)} whole" + (", signed" if question.key else "")),
        _runs(new),
        *found,
        rules.figures(new.manifest, new.kept, new.here),
        rules.providers(old and old.manifest, new.manifest, question.rules),
    ]
    if after is not None:
        checks += [rules.speed(before, after, question.rules), rules.memory(before, after, question.rules)]
    if old is not None and old.trial is None:
        checks.append(Check("live", "skip", f"{old.manifest.id} does not run here: {old.reason}"))
    verdict = _gate(new.manifest.id, old and old.manifest.id, compared, checks, after, question)
    return msgspec.structs.replace(verdict, disagreement=disagreement)


def _gate(model: str, rival: str | None, compared: str, checks: list[Check], found: DryRun | None, question: GateRequest) -> Gate:
    passed = all(check.verdict != "fail" for check in checks)
    now, by = datetime.now(UTC), history.who()
    compared, change = compared[:MAX_LINE], question.classes_change[:MAX_LINE]
    return Gate(model, rival, passed, now, by, compared, checks, question.rules, change, found)


def _side(folder: Path, manifest: Manifest) -> Contender:
    """A version with the answers that it holds; raises PackageError where these are damaged."""
    if ANSWERS not in manifest.files:
        return Contender(folder, manifest, None)
    data = registry.load(folder, manifest, ANSWERS)
    return Contender(folder, manifest, held_out_answers.read(data, len(manifest.labels), folder / ANSWERS))


def _in_service(root: Path, name: str, version: int) -> tuple[Contender | None, str]:
    """The rival; None for a first version, for the live one itself, and where that one is damaged, and which it is."""
    try:
        pointer = registry.pointer(root, name)
        if pointer is None or pointer.version == version:
            return None, "nothing: no version was live" if pointer is None else "nothing: it is live"
        folder = registry.resolve(root, f"{name}:{pointer.version}")
        return _side(folder, registry.verify(folder)), ""
    except PackageError as err:
        return None, f"nothing: the live version is damaged: {err}"


def _run(side: Contender, place: Path, question: GateRequest) -> Contender:
    """With what it does in a process of its own."""
    target = place / f"{side.manifest.version}.npz"
    try:
        found = dry_run.run(side.folder, question.images, target, question.seconds)
        given = target.is_file()
        here = held_out_answers.read(files.read(target), len(side.manifest.labels), target) if given else None
    except (DryRunError, PackageError) as err:
        return side._replace(reason=str(err))
    return side._replace(trial=found, here=here)


def _runs(side: Contender) -> Check:
    """It loads, answers its golden inputs as it did when it was published, and gives numbers for odd pictures."""
    limit = "golden inputs, warm-up, black, white and noise"
    if side.trial is None:
        return Check("runs", "fail", side.reason, limit)
    found = f"in {side.trial.load_seconds:.1f} s"
    if side.trial.skipped_backends:
        found += f"; skipped {', '.join(side.trial.skipped_backends)}"
    if side.trial.images:
        found += f"; {side.trial.images:,} images answered, {side.trial.left_out:,} left out"
    return Check("runs", "pass", found, limit)


def _comparison(old: Contender, new: Contender, question: GateRequest) -> tuple[list[Check], str, float | None]:
    """Classes, accuracy and calibration by the best evidence there is, which that is, and the disagreement."""
    limits, first, second = question.rules, old.manifest, new.manifest
    classes = rules.classes(first, second, question.classes_change)
    compared = "the images of --data, answered here by both"
    pairs = _pairs(old, new, old.here, new.here)
    if pairs is None:
        pairs = _pairs(old, new, old.kept, new.kept)
        compared = "the held-out images that both packages hold answers for"
    if pairs is not None:
        rows = [rules.accuracy(pairs, limits), rules.recall(pairs, limits), rules.calibration(pairs, limits)]
        return (
            [classes, *rows],
            f"{compared} ({len(pairs.target):,}; {pairs.disagreement:.1%} get another class)",
            pairs.disagreement,
        )
    same = first.evaluation.dataset_sha256 == second.evaluation.dataset_sha256
    whose = "the same images" if same else "images of its own"
    compared = f"the figures of the manifests, each of {whose} ({first.evaluation.samples:,} and {second.evaluation.samples:,})"
    stated = (rules.stated_accuracy, rules.stated_recall, rules.stated_calibration)
    return [classes, *(rule(first, second, limits) for rule in stated)], compared, None


def _pairs(old: Contender, new: Contender, before: Answers | None, after: Answers | None) -> Pairs | None:
    """What both answered; None where that is too little."""
    if before is None or after is None:
        return None
    pairs = comparison.pair(before, old.manifest.labels, after, new.manifest.labels)
    enough = min(ENOUGH, min(len(before.image), len(after.image)) / 2)
    return pairs if len(pairs.target) >= max(1, enough) else None


def _timed(old: Contender | None, new: Contender, question: GateRequest) -> tuple[DryRun | None, DryRun | None]:
    """Both trials; where the new one seems slower, the quickest of several, by turns."""
    before, after = old and old.trial, new.trial
    for _ in range(AGAIN):
        if old is None or before is None or after is None or not _is_slower(before, after, question.rules):
            break
        try:
            before = _quicker(before, dry_run.run(old.folder, seconds=question.seconds))
            after = _quicker(after, dry_run.run(new.folder, seconds=question.seconds))
        except DryRunError:
            break
    return before, after


def _is_slower(before: DryRun, after: DryRun, limits: Rules) -> bool:
    return any(rules.too_slow(a, b, limits) for a, b in ((before.one, after.one), (before.largest, after.largest)))


def _quicker(first: DryRun, second: DryRun) -> DryRun:
    one, largest = (min(a, b, key=lambda s: s.seconds) for a, b in ((first.one, second.one), (first.largest, second.largest)))
    return msgspec.structs.replace(first, one=one, largest=largest)


def path(root: Path, name: str, version: int) -> Path:
    """Where the verdict of a version is."""
    return root / name / f"{version}{ENDING}"


def write(root: Path, name: str, version: int, gate: Gate) -> None:
    """Keep the verdict beside the version, in the place of one before."""
    files.write_atomic(path(root, name, version), msgspec.json.format(msgspec.json.encode(gate), indent=1) + b"\n")


def read(root: Path, name: str, version: int) -> Gate | None:
    """The verdict of a version; None where there is none. Raises PackageError where it is damaged."""
    return json_file.read(path(root, name, version), Gate, "promote the version again, or remove it")

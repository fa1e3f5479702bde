"""The verdict: what passes, what is compared, what is recorded, and what --force can and cannot do."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.lifecycle import candidate, dry_run, gate, promotion, retention
from models.lifecycle.candidate import Candidate
from models.lifecycle.dry_run import DryRun, DryRunError
from models.lifecycle.gate import Gate, GateRequest
from models.lifecycle.promotion import Refused
from models.lifecycle.rules import Rules
from models.package import held_out_answers
from models.package.held_out_answers import Answers, identity
from models.package.manifest import PackageError
from models.registry import registry
from tests.factories import make_image, make_package
from tests.models.conftest import MakeStore, contents, pointer
from tests.models.forgery import answered, constant, evaluation, forge, graph

pytestmark = pytest.mark.usefixtures("here")
TRUTH = np.repeat([0, 1, 2], 100)


def promote(store: Path, version: int = 2, question: GateRequest | None = None, force: bool = False) -> Gate:
    return promotion.promote(store, "tiny", version, question or GateRequest(), "test", force)


def intake(found: Gate) -> dict[str, str]:
    return {check.rule: check.verdict for check in found.checks}


def test_an_equal_version_passes_every_rule_and_goes_into_service(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    found = promote(store)
    rules = ("files", "runs", "classes", "accuracy", "recall", "calibration", "figures", "providers", "speed", "memory")
    assert intake(found) == dict.fromkeys(rules, "pass") | {"figures": "skip"}
    assert (found.model, found.rival, found.passed, found.forced) == ("tiny:2", "tiny:1", True, False)
    assert "@" in found.by
    assert found.trial is not None
    assert gate.read(store, "tiny", 2) == found
    assert pointer(store).version == 2


def test_a_first_version_is_judged_without_a_rival(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    (store / "tiny/current.json").unlink()
    found = promote(store, 1)
    assert found.passed
    assert (found.rival, found.compared) == (None, "nothing: no version was live")
    assert intake(found).keys() == {"files", "runs", "figures", "providers", "speed", "memory"}


def test_where_the_version_in_service_is_damaged_the_gate_says_that_nothing_was_compared(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    (store / "tiny/1/card.md").write_text("another")
    found = promote(store)
    assert found.passed
    assert found.compared.startswith("nothing: the live version is damaged: ")


def test_a_version_in_service_that_does_not_run_here_is_compared_by_its_figures(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = make_store(tiny=2), dry_run.run

    def some(folder: Path, *rest: object, **more: object) -> DryRun:
        if folder.name == "1":
            raise DryRunError("no such provider")
        return run(folder)

    monkeypatch.setattr(dry_run, "run", some)
    found = promote(store)
    assert found.passed
    assert intake(found)["accuracy"] == "pass"
    assert found.checks[-1].found == "tiny:1 does not run here: no such provider"


def test_force_promotes_what_the_gate_refuses_and_says_so_in_gate_and_history(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    make_package(store, labels=("red", "green", "violet"))
    with pytest.raises(Refused, match="classes: without blue; new violet"):
        promote(store)
    assert pointer(store).version == 1
    found = promote(store, force=True)
    assert (found.passed, found.forced) == (False, True)
    assert gate.read(store, "tiny", 2) == found
    assert (pointer(store).version, pointer(store).history[-1].forced) == (2, True)


def test_force_is_not_recorded_where_the_gate_needed_none(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    assert not promote(store, force=True).forced
    assert not pointer(store).history[-1].forced


def test_a_change_of_classes_passes_with_a_reason(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    make_package(store, labels=("red", "green", "violet"))
    found = promote(store, question=GateRequest(classes_change="blue was violet"))
    assert found.passed
    assert found.classes_change == "blue was violet"
    assert pointer(store).version == 2


def test_other_order_of_the_same_classes_is_a_change(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    make_package(store, labels=("green", "red", "blue"))
    with pytest.raises(Refused, match="classes: the same in another order"):
        promote(store)


@pytest.mark.parametrize("strict", [False, True])
def test_a_loss_that_few_images_cannot_exclude_is_told_and_refused_only_when_strict(make_store: MakeStore, strict: bool) -> None:
    store = make_store(tiny=1)
    with_answers(store, 2, np.where(np.arange(300) < 30, (TRUTH + 1) % 3, TRUTH))
    with_answers(store, 3, np.where(np.arange(300) >= 268, (TRUTH + 1) % 3, TRUTH))
    registry.promote(store, "tiny", 2, "test")
    question = GateRequest(rules=Rules(strict=strict, recall=1))
    if strict:
        with pytest.raises(Refused, match="accuracy: "):
            promote(store, 3, question)
        return
    found = promote(store, 3, question)
    (row,) = [check for check in found.checks if check.rule == "accuracy"]
    assert row.found.startswith("89.33 % instead of 90.00 %, -0.67 points (95 %: -5.")
    assert row.found.endswith("too few images to exclude a loss of 1 points")
    assert found.compared == "the held-out images that both packages hold answers for (300; 20.7% get another class)"


def with_answers(store: Path, version: int, predicted: np.ndarray) -> None:
    """tiny:``version`` with these answers, and the accuracy that they mean."""
    top1 = float((predicted == TRUTH).mean())
    change = answered(predicted.tolist(), TRUTH.tolist())
    forge(store, change, version, evaluation=evaluation(store, top1=top1))


def test_a_version_that_takes_longer_or_more_memory_is_refused_after_it_was_timed_again(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run, asked = make_store(tiny=2), dry_run.run, list[str]()

    def slow(folder: Path, *rest: object, **more: object) -> DryRun:
        asked.append(folder.name)
        found = run(folder)
        if folder.name == "1":
            return found
        largest = msgspec.structs.replace(found.largest, seconds=found.largest.seconds * 3 + 0.01)
        return msgspec.structs.replace(found, largest=largest, memory_bytes=found.memory_bytes * 2)

    monkeypatch.setattr(dry_run, "run", slow)
    with pytest.raises(Refused, match=r"speed: .* instead of .*; memory: \d+ MiB instead of \d+"):
        promote(store)
    assert asked == ["2", "1", "1", "2", "1", "2"]
    assert promote(store, question=GateRequest(rules=Rules(speed=1000, memory=3))).passed


def test_a_version_that_only_seemed_slow_passes(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store, run, asked = make_store(tiny=2), dry_run.run, list[str]()

    def slow_once(folder: Path, *rest: object, **more: object) -> DryRun:
        asked.append(folder.name)
        found = run(folder)
        if (folder.name, asked.count("2")) != ("2", 1):
            return found
        return msgspec.structs.replace(found, one=msgspec.structs.replace(found.one, seconds=9))

    monkeypatch.setattr(dry_run, "run", slow_once)
    assert promote(store).passed
    assert asked == ["2", "1", "1", "2"]


def test_what_was_answered_when_it_was_published_must_come_again(make_store: MakeStore, tmp_path: Path) -> None:
    store, photos = make_store(tiny=1), tmp_path / "photos"
    files: list[bytes] = []
    for label in ("red", "green", "blue"):
        (photos / label).mkdir(parents=True)
        for i in range(5):
            files.append(make_image("PNG", seed=i, color=label))
            (photos / label / f"{i}.png").write_bytes(files[-1])
    truth = np.repeat([0, 1, 2], 5).astype(np.int32)
    made = Answers(np.array([identity(f) for f in files], np.uint64), truth, truth, np.full(15, 0.9, np.float32))

    def change(folder: Path) -> None:
        graph(constant("weight", np.eye(3, 4)[[1, 2, 0]]), golden=True)(folder)
        held_out_answers.write(folder / "answers.npz", made)

    forge(store, change, evaluation=evaluation(store, top1=1.0))
    with pytest.raises(Refused, match=r"figures: 100.00 % of its answers are right, it states 100.00 %; 0.0 % of 15 come again"):
        promote(store, question=GateRequest(images=photos))


def test_a_verdict_against_a_version_that_is_not_in_service_any_more_does_not_count(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = make_store(tiny=3), dry_run.run

    def run_while_another_promotes(folder: Path, *rest: object, **more: object) -> DryRun:
        if folder.name == "2":
            registry.promote(store, "tiny", 3, "quicker")
        return run(folder)

    monkeypatch.setattr(dry_run, "run", run_while_another_promotes)
    with pytest.raises(PackageError, match="tiny:3 became live while tiny:2 was judged; promote it again"):
        promote(store)
    assert pointer(store).version == 3


def test_a_retired_version_is_not_promoted_without_force(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    retention.retire(store, "tiny", 2, "test")
    with pytest.raises(PackageError, match="tiny:2 is retired; --force takes it back into use"):
        promote(store)
    promote(store, force=True)
    assert (pointer(store).version, pointer(store).retired) == (2, [])


def test_promoting_the_candidate_ends_its_trial_and_promoting_another_stops_it(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    candidate.start(store, "tiny", Candidate(2, "canary", 50, 10))
    promote(store)
    assert [(c.event, c.version) for c in pointer(store).history[-3:]] == [("canary", 2), ("end", 2), ("promote", 2)]
    candidate.start(store, "tiny", Candidate(3, "canary", 50, 10))
    promote(store, 1)
    last = pointer(store).history[-2:]
    assert [(c.event, c.version, c.reason) for c in last] == [("end", 3, "tiny:1 was promoted"), ("promote", 1, "test")]
    assert candidate.read(store, "tiny") is None


def test_rolling_back_ends_what_is_on_trial(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    promote(store)
    candidate.start(store, "tiny", Candidate(3, "shadow", 50))
    assert promotion.roll_back(store, "tiny").version == 1
    assert candidate.read(store, "tiny") is None
    assert {path.name for path in (store / "tiny").iterdir()} == {"1", "2", "3", "2.gate.json", "current.json"}


def test_a_candidate_that_is_damaged_does_not_stop_a_rollback(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    promote(store)
    (store / "tiny/candidate.json").write_text("{")
    assert promotion.roll_back(store, "tiny").version == 1


def test_a_candidate_starts_once_the_gate_lets_it(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    forge(store, version=3, evaluation=evaluation(store, top1=0.1))
    before = contents(store)
    with pytest.raises(Refused, match="tiny:3 is not promoted: accuracy: "):
        promotion.promote(store, "tiny", 3, GateRequest(), "test", trial=Candidate(3, "canary", 50, 10))
    assert contents(store).keys() - before.keys() == {"tiny/3.gate.json"}
    promotion.promote(store, "tiny", 3, GateRequest(), "test", force=True, trial=Candidate(3, "canary", 50, 10))
    assert pointer(store).version == 1
    assert (pointer(store).history[-1].event, pointer(store).history[-1].forced) == ("canary", True)
    found = candidate.read(store, "tiny")
    assert found is not None
    assert found.version == 3


@pytest.mark.parametrize(("strict", "bound"), [(False, 0.1 + 62 / 300), (True, 0.1)], ids=["passed", "forced"])
def test_a_candidate_may_disagree_on_a_tenth_more_than_it_did_at_a_gate_that_it_passed(
    make_store: MakeStore, strict: bool, bound: float
) -> None:
    store = make_store(tiny=1)
    with_answers(store, 2, np.where(np.arange(300) < 30, (TRUTH + 1) % 3, TRUTH))
    with_answers(store, 3, np.where(np.arange(300) >= 268, (TRUTH + 1) % 3, TRUTH))
    registry.promote(store, "tiny", 2, "test")
    question = GateRequest(rules=Rules(strict=strict, recall=1))

    verdict = promotion.promote(store, "tiny", 3, question, "test", force=strict, trial=Candidate(3, "canary", 50, 10))

    assert verdict.disagreement == pytest.approx(62 / 300)
    found = candidate.read(store, "tiny")
    assert found is not None
    assert found.bounds.disagreement == pytest.approx(bound)
    assert found.bounds.latency == Candidate(3, "canary", 50).bounds.latency


def test_a_damaged_gate_file_says_what_to_do(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    assert gate.read(store, "tiny", 1) is None
    gate.path(store, "tiny", 1).write_text("{}")
    with pytest.raises(PackageError, match=r"1.gate.json is damaged: .*; promote the version again, or remove it"):
        gate.read(store, "tiny", 1)
    assert registry.verify(store / "tiny/1").version == 1

"""The rules of the gate: each looks at one thing of a candidate, next to the live version, and gives one row of its table."""

from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from models.lifecycle.dry_run import DryRun, Speed
from models.package import comparison, precision, statistics
from models.package.comparison import Difference, Pairs
from models.package.held_out_answers import Answers
from models.package.manifest import MAX_LINE, Line, Manifest, Share, Size
from models.package.precision import LEAST_AGREEMENT, SIGNIFICANT

STATED = 0.005  # of top-1 by which answers.npz may differ from the manifest, which was measured with torch; or one image
LEAST_KNOWN = 3  # images of a class that must all be wrong before it counts as lost
NOISE_SECONDS = 0.0005  # of a batch; less is not seen next to reading a request

Verdict = Literal["pass", "fail", "skip"]


class Rules(Struct, frozen=True, forbid_unknown_fields=True):
    """What is allowed, against the live version. Shares of 1; speed and memory are ratios."""

    margin: Share = 0.01
    strict: bool = False
    calibration: Share = 0.02
    recall: Share = 0.1
    speed: Size = 1.5
    memory: Size = 1.5


class Check(Struct, frozen=True):
    """A row of the table: what was found, and what would have been allowed."""

    rule: Line
    verdict: Verdict
    found: Line
    limit: Line = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "found", self.found[:MAX_LINE])  # labels and libraries may say more


def verdict(good: bool) -> Verdict:
    return "pass" if good else "fail"


def points(share: float) -> str:
    return f"{100 * share:+.2f} points"


def classes(old: Manifest, new: Manifest, why: str) -> Check:
    """The same labels in the same order, or a change that somebody gave a reason for."""
    found = f"the same {len(new.labels)}" if old.labels == new.labels else _class_change(old.labels, new.labels)
    if old.labels != new.labels and why:
        found += f"; named: {why}"
    return Check("classes", verdict(old.labels == new.labels or bool(why)), found, 'the same, or --classes-change "why"')


def _class_change(old: list[str], new: list[str]) -> str:
    known, named = set(old), set(new)
    gone, added = [x for x in old if x not in named], [x for x in new if x not in known]
    parts = [f"{word} {', '.join(labels[:10])}" for word, labels in (("without", gone), ("new", added)) if labels]
    return "; ".join(parts) or "the same in another order"


def figures(manifest: Manifest, kept: Answers | None, here: Answers | None) -> Check:
    """The answers in the package give the accuracy that it states, and come again when its graph is asked."""
    if kept is None:
        return Check("figures", "skip", "the package holds no answers.npz")
    stated, found = manifest.evaluation.top1, kept.top1()
    allowed = max(STATED, 1 / len(kept.image)) + 1e-4  # the manifest rounds
    good, text = abs(found - stated) <= allowed, f"{100 * found:.2f} % of its answers are right, it states {100 * stated:.2f} %"
    if here is not None:
        _, in_kept, in_here = np.intersect1d(kept.image, here.image, return_indices=True)
        if len(in_kept):
            same = float((kept.predicted[in_kept] == here.predicted[in_here]).mean())
            good = good and statistics.wilson(same, len(in_kept))[1] >= LEAST_AGREEMENT
            text += f"; {100 * same:.1f} % of {len(in_kept):,} come again here"
    return Check("figures", verdict(good), text, f"{100 * STATED:g} points apart, {LEAST_AGREEMENT:.0%} again")


def accuracy(pairs: Pairs, rules: Rules) -> Check:
    """Of the same images, no more are wrong than the margin allows."""
    old, new = float(pairs.old_right.mean()), float(pairs.new_right.mean())
    chance = f"; McNemar p {statistics.mcnemar(*comparison.discordant(pairs.old_right, pairs.new_right)):.2g}"
    return _accuracy(old, new, comparison.paired(pairs.old_right, pairs.new_right), rules, chance)


def stated_accuracy(old: Manifest, new: Manifest, rules: Rules) -> Check:
    """As ``accuracy``, of the figures in the manifests."""
    first, second = old.evaluation, new.evaluation
    difference = comparison.unpaired(first.top1, first.samples, second.top1, second.samples)
    return _accuracy(first.top1, second.top1, difference, rules, "")


def _accuracy(old: float, new: float, difference: Difference, rules: Rules, more: str) -> Check:
    allowed = -rules.margin - 1e-9
    good = difference.value >= allowed and (not rules.strict or difference.low >= allowed)
    found = (
        f"{100 * new:.2f} % instead of {100 * old:.2f} %, {points(difference.value)} "
        f"(95 %: {100 * difference.low:+.2f} to {100 * difference.high:+.2f}{more})"
    )
    if difference.value >= allowed > difference.low:
        found += f"; too few images to exclude a loss of {100 * rules.margin:g} points"
    limit = f"{points(-rules.margin)}{', all of the interval' if rules.strict else ''}"
    return Check("accuracy", verdict(good), found, limit)


def recall(pairs: Pairs, rules: Rules) -> Check:
    """No class that was known is lost: its share of right answers falls by more than is allowed and by more than chance
    explains (McNemar, one-sided, for all classes together), or nothing of it is right any more."""
    lost, rows = list[str](), list[tuple[float, str]]()
    significant = SIGNIFICANT / len(np.unique(pairs.target))  # Bonferroni: of 100 classes chance would lower some
    for c, label in enumerate(pairs.labels):
        mine = pairs.target == c
        if not (n := int(mine.sum())):
            continue
        old, new = pairs.old_right[mine], pairs.new_right[mine]
        change = float(new.mean() - old.mean())
        text = f"{label} {100 * new.mean():.1f} % instead of {100 * old.mean():.1f} % of {n:,}"
        worse, better = comparison.discordant(old, new)
        by_chance = statistics.binomial_tail(better, worse + better)
        gone = n >= LEAST_KNOWN and old.mean() >= 0.5 and not new.any()
        if gone or (change < -rules.recall and by_chance < significant):
            lost.append(text)
        rows.append((change, text))
    return _recall(lost, rows, rules)


def stated_recall(old: Manifest, new: Manifest, rules: Rules) -> Check:
    """As ``recall``, of the figures in the manifests; each class is taken to have an equal share of the images."""
    first, second = old.evaluation, new.evaluation
    sizes = [max(1, e.samples // len(m.labels)) for e, m in ((first, old), (second, new))]
    lost, rows = list[str](), list[tuple[float, str]]()
    for label in [label for label in first.per_class if label in second.per_class]:
        before, after = first.per_class[label], second.per_class[label]
        text = f"{label} {100 * after:.1f} % instead of {100 * before:.1f} %"
        if after - before < -rules.recall and comparison.unpaired(before, sizes[0], after, sizes[1]).high < 0:
            lost.append(text)
        rows.append((after - before, text))
    return _recall(lost, rows, rules)


def _recall(lost: list[str], rows: list[tuple[float, str]], rules: Rules) -> Check:
    limit = f"{points(-rules.recall)} of a class"
    if lost:
        return Check("recall", "fail", f"lost: {'; '.join(lost[:10])}", limit)
    return Check("recall", "pass", f"worst: {min(rows)[1]}" if rows else "no class that both know", limit)


def calibration(pairs: Pairs, rules: Rules) -> Check:
    """Probabilities mean no less than they did; what chance may explain is let pass."""
    return _calibration(comparison.calibration(pairs), "expected calibration error", rules)


def stated_calibration(old: Manifest, new: Manifest, rules: Rules) -> Check:
    """As ``calibration``, of the figures in the manifests, against what a perfect model would show on as many images."""
    before, after = old.evaluation, new.evaluation
    stated = f"expected calibration error {after.calibration_error:.4f} of {after.samples:,} images instead of "
    found = f"{stated}{before.calibration_error:.4f} of {before.samples:,}; without what perfect models show"
    return _calibration(comparison.stated_calibration(before, after), found, rules)


def _calibration(added: Difference, found: str, rules: Rules) -> Check:
    good = added.value <= rules.calibration or added.low <= 0
    found = f"{found} {added.value:+.4f} (95 %: {added.low:+.4f} to {added.high:+.4f})"
    return Check("calibration", verdict(good), found, f"{rules.calibration:+g}, or what chance explains")


def providers(old: Manifest | None, new: Manifest, rules: Rules) -> Check:
    """Every provider computes fp32 as well as the best; and, on the same images, none has got worse than the margin."""
    evaluation = new.evaluation
    measured = {(a.provider, a.precision): a.top1 for a in evaluation.providers}
    faults = [f"{provider} {lost}" for provider, lost in precision.losses(evaluation.providers, "fp32", evaluation.samples)]
    if old is not None and old.evaluation.dataset_sha256 == evaluation.dataset_sha256:
        before = {(a.provider, a.precision): a.top1 for a in old.evaluation.providers}
        faults += [
            f"{' '.join(way)} {100 * top1:.2f} % instead of {100 * before[way]:.2f} %"
            for way, top1 in measured.items()
            if way in before and before[way] - top1 > rules.margin + 1e-9
        ]
    found = "; ".join(faults) or ", ".join(f"{' '.join(way)} {100 * top1:.2f} %" for way, top1 in measured.items())
    limit = f"{100 * precision.MAX_LOSS:g} points of fp32, or what chance explains"
    return Check("providers", verdict(not faults), found.replace("ExecutionProvider", ""), limit)


def speed(old: DryRun | None, new: DryRun, rules: Rules) -> Check:
    """One image and the largest batch take not much longer."""
    pairs = [(None if old is None else a, b) for a, b in ((old and old.one, new.one), (old and old.largest, new.largest))]
    good = all(old_one is None or not too_slow(old_one, new_one, rules) for old_one, new_one in pairs)
    where = f"{new.provider.replace('ExecutionProvider', '')} {new.precision}"
    found = "; ".join(_speed(a, b) for a, b in pairs)
    return Check("speed", verdict(good), f"{found} ({where})", f"{rules.speed:g} times")


def too_slow(old: Speed, new: Speed, rules: Rules) -> bool:
    return new.seconds > old.seconds * rules.speed and new.seconds - old.seconds > NOISE_SECONDS


def _speed(old: Speed | None, new: Speed) -> str:
    text = f"{new.size} in {1000 * new.seconds:.3g} ms"
    return text if old is None else f"{text} instead of {1000 * old.seconds:.3g}"


def memory(old: DryRun | None, new: DryRun, rules: Rules) -> Check:
    """A process that serves it needs not much more."""
    found = f"{new.memory_bytes / 2**20:.0f} MiB" + (f" instead of {old.memory_bytes / 2**20:.0f}" if old else "")
    good = old is None or new.memory_bytes <= old.memory_bytes * rules.memory
    return Check("memory", verdict(good), found, f"{rules.memory:g} times")

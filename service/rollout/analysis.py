"""Whether a candidate becomes live, is stopped, or has to be watched longer: plain statistics of what was seen of it.

It is stopped as soon as a bound is surely passed, with three standard errors, so that chance seldom stops a good one; and when
its requests are complete, where one is passed at all.
"""

import math
from dataclasses import dataclass

from models.lifecycle.candidate import Bounds, Candidate, Progress, Tally, quantile
from models.package.statistics import newcombe, wilson

Z = 3.0  # standard errors
LEAST_COMPARED = 20  # images that both versions answered, or a tenth of the requests where that is more
LEAST_TIMED = 20  # requests of each version, for their 95th percentiles to mean something
LEAST_SLOWER = 0.005  # seconds more, below which nobody notices, whatever the ratio
TAIL = 0.95


@dataclass(frozen=True)
class Decision:
    """The end of a candidacy."""

    promoted: bool
    reason: str


def analyse(progress: Progress, candidate: Candidate) -> Decision | None:
    """None: not enough was seen yet."""
    whole = is_whole(progress, candidate)
    checks = (errors, disagreement, unsure, latency)
    for reason in (check(progress, candidate.bounds, 0.0 if whole else Z) for check in checks):
        if reason is not None:
            return Decision(False, reason)
    alike = f"{share(progress.agreed, progress.compared)} of {progress.compared} images got the same class"
    return Decision(True, f"no loss in {progress.candidate.requests} requests, {alike}") if whole else None


def is_whole(progress: Progress, candidate: Candidate) -> bool:
    """Whether all was seen that was to be. Versions with no class in common cannot be compared, only counted."""
    least = min(candidate.requests, max(LEAST_COMPARED, candidate.requests // 10))
    return progress.candidate.requests >= candidate.requests and progress.compared + progress.incomparable >= least


def errors(progress: Progress, bounds: Bounds, z: float) -> str | None:
    new, old = progress.candidate, progress.in_service
    if rise(new.errors, new.requests, old.errors, old.requests, z) <= bounds.errors:
        return None
    return (
        f"errors: {new.errors} of {new.requests} requests failed, {old.errors} of {old.requests} by the live version; "
        f"the bound is a rise of {bounds.errors:.1%}"
    )


def disagreement(progress: Progress, bounds: Bounds, z: float) -> str | None:
    unlike = progress.compared - progress.agreed
    if not progress.compared or wilson(unlike / progress.compared, progress.compared, z)[0] <= bounds.disagreement:
        return None
    return f"disagreement: {unlike} of {progress.compared} images got another class; the bound is {bounds.disagreement:.1%}"


def unsure(progress: Progress, bounds: Bounds, z: float) -> str | None:
    new, old = progress.candidate, progress.in_service
    if rise(new.unsure, new.images, old.unsure, old.images, z) <= bounds.unsure:
        return None
    return (
        f"unsure: {share(new.unsure, new.images)} of the answers, {share(old.unsure, old.images)} by the live version; "
        f"the bound is a rise of {bounds.unsure:.1%}"
    )


def latency(progress: Progress, bounds: Bounds, z: float) -> str | None:
    """Of the candidate's 95th percentile its lower limit, of the other's the upper one."""
    new, old = tail(progress.candidate, -z), tail(progress.in_service, z)
    if new is None or old is None or new <= max(bounds.latency * old, old + LEAST_SLOWER):
        return None
    return (
        f"latency: the 95th percentile is {1000 * new:.1f} ms, {1000 * old:.1f} ms by the live version; "
        f"the bound is {bounds.latency:g} times that"
    )


def tail(tally: Tally, z: float) -> float | None:
    """Seconds that 95 % of the requests took at most, z standard errors of the rank further on; None: too few."""
    n = sum(tally.latency)
    if n < LEAST_TIMED:
        return None
    return quantile(tally, min(1.0, TAIL + z * math.sqrt(TAIL * (1 - TAIL) / n)))


def rise(new: int, new_total: int, old: int, old_total: int, z: float) -> float:
    """By how much a share rose, at least, z standard errors sure; of nothing seen, not at all."""
    if not new_total or not old_total:
        return 0.0
    return newcombe(old / old_total, old_total, new / new_total, new_total, z)[0]


def share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "none"

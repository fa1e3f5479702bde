"""Workers and engines of a few lines, for the control plane to tell what to serve."""

import asyncio
from collections.abc import Sequence

from service.rollout.messages import DesiredState, ObservedState


class Fake:
    """A worker that does what it is told at once, unless it is mute."""

    def __init__(self, place: int, version: int = 1) -> None:
        self.place = place
        self.ready = True
        self.report = ObservedState(serves=version)
        self.told: DesiredState | None = None
        self.mute = False

    @property
    def desired(self) -> DesiredState:
        return self.told or DesiredState(self.report.serves)

    def tell(self, desired: DesiredState) -> None:
        self.told = desired

    def says(self) -> ObservedState:
        return self.report if self.mute else ObservedState(serves=self.desired.serve)


class FakeEngines:
    """Has at once what is wanted. cannot: what it refuses; slow: what it never has ready."""

    def __init__(self, version: int = 1) -> None:
        self.refused: dict[int, str] = {}
        self.changed = asyncio.Event()
        self.serving = version
        self.wanted: set[int] = {version}
        self.active: set[int] = {version}
        self.cannot: dict[int, str] = {}
        self.slow: set[int] = set()

    def want(self, serving: int, others: Sequence[int] = (), active: Sequence[int] = ()) -> None:
        self.serving, self.wanted, self.active = serving, {serving, *others}, {serving, *active}
        self.refused = {version: reason for version, reason in self.cannot.items() if version in self.wanted}

    def is_ready(self, version: int) -> bool:
        return version in self.wanted - self.slow - self.refused.keys()

    def addresses(self) -> dict[int, str]:
        return {version: f"engine-{version}" for version in sorted(self.wanted) if self.is_ready(version)}

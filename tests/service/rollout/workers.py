"""Workers of a few lines, for the control plane to tell what to serve."""

from service.rollout.messages import DesiredState, ObservedState


class Fake:
    """Does what it is told at once. ``cannot``: what it refuses; ``slow``: what it never has ready."""

    def __init__(self, place: int, version: int = 1) -> None:
        self.place = place
        self.ready = True
        self.report = ObservedState(serves=version, holds=[version])
        self.told: DesiredState | None = None
        self.cannot: dict[int, str] = {}
        self.slow: set[int] = set()
        self.mute = False

    @property
    def desired(self) -> DesiredState:
        return self.told or DesiredState(self.report.serves)

    def tell(self, desired: DesiredState) -> None:
        self.told = desired

    def says(self) -> ObservedState:
        asked = {self.desired.serve, *self.desired.prepare}
        holds = sorted({v for v in asked if v not in self.cannot and v not in self.slow} | {self.report.serves})
        serves = self.desired.serve if self.desired.serve in holds and not self.mute else self.report.serves
        return ObservedState(serves=serves, holds=holds, refused={v: why for v, why in self.cannot.items() if v in asked})

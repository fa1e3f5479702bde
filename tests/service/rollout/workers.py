"""Workers of a few lines, for the control plane to tell what to serve."""

from service.rollout.messages import Orders, Report


class Fake:
    """Does what it is told at once. ``cannot``: what it refuses; ``slow``: what it never has ready."""

    def __init__(self, place: int, version: int = 1) -> None:
        self.place = place
        self.ready = True
        self.report = Report(serves=version, holds=[version])
        self.told: Orders | None = None
        self.cannot: dict[int, str] = {}
        self.slow: set[int] = set()
        self.mute = False

    @property
    def orders(self) -> Orders:
        return self.told or Orders(self.report.serves)

    def tell(self, orders: Orders) -> None:
        self.told = orders

    def says(self) -> Report:
        asked = {self.orders.serve, *self.orders.prepare}
        holds = sorted({v for v in asked if v not in self.cannot and v not in self.slow} | {self.report.serves})
        serves = self.orders.serve if self.orders.serve in holds and not self.mute else self.report.serves
        return Report(serves=serves, holds=holds, refused={v: why for v, why in self.cannot.items() if v in asked})

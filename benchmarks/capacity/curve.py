"""What one service costs on one machine: the measured numbers that the simulation and the page stand on."""

from msgspec import Struct

from benchmarks.numbers import Spread


class Point(Struct, frozen=True):
    """An open loop, measured: ``rate`` requests a second, ``share`` of the capacity just before; milliseconds of their answers.

    seed: of the arrivals, so that the simulation gets the same. capacity: images a second, mean of just before and after.
    client_ms: CPU time of the client for a request. failed: requests not answered with 200.
    """

    share: float
    rate: float
    seconds: float
    seed: int
    capacity: float
    client_ms: float
    p50_ms: float
    p99_ms: float
    failed: int


class Pass(Struct, frozen=True):
    """times_ms: of single passes of so many images, ascending."""

    images: int
    times_ms: list[float]

    def at(self, quantile: float) -> float:
        return self.times_ms[min(len(self.times_ms) - 1, int(quantile * len(self.times_ms)))]


class Curve(Struct, frozen=True):
    """Times in milliseconds.

    cores: of the machine. threads: that a pass of the network uses. lanes: images decoded at the same time, by all workers.
    passes: of the network where nothing else runs, by images of a pass, ascending. decode_ms: of photographs, as they came.
    front_ms: mean CPU time of the workers for an image: reading, decoding, answering. alone_ms: median answer to one client.
    wrk_ms: CPU time of the client of the closed loops for a request. clients: of the one that measured ``capacity``.
    capacity: images answered a second by a service that is never idle. memory_mb: of the whole service.
    """

    model: str
    provider: str
    precision: str
    cores: int
    threads: int
    lanes: int
    passes: list[Pass]
    decode_ms: list[float]
    front_ms: float
    alone_ms: float
    wrk_ms: float
    clients: int
    capacity: Spread
    memory_mb: float
    points: list[Point]

    @property
    def max_batch(self) -> int:
        return self.passes[-1].images

    def pass_ms(self, images: int, quantile: float) -> float:
        """Time of a pass at a quantile from 0 to 1; between two sizes that were measured, on the line through both."""
        low = self.passes[0]
        for high in self.passes:
            if images <= high.images:
                share = (images - low.images) / max(1, high.images - low.images)
                return low.at(quantile) + share * (high.at(quantile) - low.at(quantile))
            low = high
        return low.at(quantile)

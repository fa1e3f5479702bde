"""The simulated queues against theory where there is one, and the page that is made of them."""

from statistics import mean

import msgspec
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import photos
from benchmarks.arrivals import Arrivals, Client
from benchmarks.capacity import command, measure, plan, simulation
from benchmarks.capacity.curve import Curve, Pass, Point
from benchmarks.capacity.page import page
from benchmarks.capacity.simulation import Machine
from benchmarks.numbers import Spread

ONE = Curve(
    model="m",
    provider="P",
    precision="int8",
    cores=1,
    threads=1,
    lanes=1,
    passes=[Pass(1, [10.0])],
    decode_ms=[1.0],
    front_ms=1e-9,
    alone_ms=10.0,
    wrk_ms=0.0,
    clients=32,
    capacity=Spread(100.0, 100.0, 100.0, 1),
    memory_mb=300.0,
    points=[],
)
TWO = msgspec.structs.replace(
    ONE,
    cores=2,
    threads=2,
    lanes=2,
    passes=[Pass(1, [4.0, 5.0, 6.0]), Pass(4, [11.0, 12.0, 13.0])],
    decode_ms=[1.0, 2.0, 3.0],
    front_ms=4.0,
    capacity=Spread(180.0, 170.0, 190.0, 3),
)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate less of it."""
    monkeypatch.setattr(plan, "SECONDS", 10.0)
    monkeypatch.setattr(plan, "SEEDS", (11,))
    monkeypatch.setattr(plan, "STEPS", 6)


def spans(machine: Machine, rate: float, seconds: float = 400.0) -> list[float]:
    return simulation.latencies(machine, list(simulation.moments(rate, seconds, 1)))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_passes_of_one_image_wait_as_long_as_in_the_queue_m_d_1(load: float) -> None:
    # Pollaczek and Khinchine: mean wait = load * service / (2 * (1 - load)) for a constant time of service
    wait = mean(spans(Machine(ONE, 1.0), load * 100)) - 10
    assert wait == pytest.approx(10 * load / (2 * (1 - load)), rel=0.1)


def test_an_image_that_is_alone_takes_its_decoding_and_its_pass() -> None:
    machine = Machine(msgspec.structs.replace(TWO, passes=[Pass(1, [5.0])], decode_ms=[1.0], alone_ms=12.0), 1.0)
    assert simulation.latencies(machine, [0.0, 1000.0]) == pytest.approx([12.0, 12.0])  # 4 + 5, and 3 that are no work


def test_images_that_wait_share_a_pass_up_to_the_largest() -> None:
    free = msgspec.structs.replace(TWO, front_ms=1e-9, passes=[Pass(1, [5.0]), Pass(4, [11.0])], alone_ms=5.0)
    assert sorted(simulation.latencies(Machine(free, 1.0), [0.0, 1.0, 1.0, 1.0, 1.0, 1.0])) == pytest.approx(
        [5.0, 15.0, 15.0, 15.0, 15.0, 20.0], abs=1e-3
    )


def test_cores_are_shared_by_all_that_work() -> None:
    lone = simulation.latencies(Machine(TWO, 1.0), [0.0])
    crowd = simulation.latencies(Machine(TWO, 1.0), [0.0, 0.0, 0.0, 0.0])
    assert max(crowd) > max(lone)
    assert sum(Machine(TWO, 0.7).power(n) for n in (1, 2, 9)) == pytest.approx(1 + 1.4 + 1.4)


def test_the_arrivals_are_those_that_the_client_sends() -> None:
    sent = Client(Arrivals(1, 50.0, 3.0, seed=7), []).moments(0.0, 3.0)
    assert list(simulation.moments(50.0, 3.0, 7)) == pytest.approx([1000 * due for due in sent])


def test_the_fitted_yield_gives_the_measured_capacity() -> None:
    yield_ = simulation.fit(TWO, 180)
    assert simulation.saturated(Machine(TWO, yield_), 32) == pytest.approx(180, rel=0.03)
    assert simulation.fit(TWO, 150) < yield_


def test_a_pass_between_two_sizes_takes_between_the_two() -> None:
    assert [TWO.pass_ms(n, 0.5) for n in (1, 2, 4)] == pytest.approx([5.0, 5.0 + 7 / 3, 12.0])
    assert (TWO.pass_ms(1, 0.0), TWO.pass_ms(1, 0.999)) == (4.0, 6.0)


@pytest.mark.usefixtures("brief")
def test_a_tighter_latency_needs_more_services() -> None:
    loose, tight = (plan.plan(TWO, simulation.fit(TWO, 180), 1000, p99) for p99 in (200, 40))
    assert 0 < tight.carried < loose.carried
    assert tight.replicas > loose.replicas > 1000 / 180
    assert plan.quantiles(TWO, simulation.fit(TWO, 180), tight.carried)[1] <= 40
    assert plan.plan(TWO, simulation.fit(TWO, 180), 1000, 1).replicas == 0


@pytest.mark.usefixtures("brief")
def test_a_page_says_what_was_asked_and_how_far_it_can_be_believed() -> None:
    curve = msgspec.structs.replace(TWO, points=[Point(0.5, 90.0, 20.0, 0, 170.0, 0.3, 12.0, 30.0, 2)])
    text = page([curve], "a machine", "a command", (500, 100), 0.5)
    assert "| 50% | 30 (30 to 30) |" in text
    assert "500 images/s with a p99 of at most 100 ms: **" in text
    impossible = page([curve], "a machine", "a command", (500, 1), None)
    assert "not with this model on this machine" in impossible


def test_without_curves_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "CURVES", command.ROOT / "absent.json")
    assert benchmarks.main(["capacity", "--again"]) == 1
    assert "measure without --again first" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-5", "inf", "nan"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([f"--rate={rate}"])
    assert f"{rate} is not a number above 0" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.server
@pytest.mark.skipif(not command.wrk.shutil.which("wrk"), reason="wrk is not installed")
def test_a_curve_is_measured_on_a_running_service() -> None:
    curve = measure.measure("cifar10", photos.make_photos(4), 1, 1.0)
    assert [one.images for one in curve.passes] == [1, 2, 4, 8, 16]
    assert min(curve.front_ms, curve.alone_ms, curve.capacity.median, curve.memory_mb) > 0
    assert [point.share for point in curve.points] == list(measure.SHARES)
    assert 0.5 < simulation.fit(curve, curve.capacity.median) <= 2

"""Results become tables, a picture and a last line; all arithmetic on the way is checked here by hand-made numbers."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import picture, report, results, tables
from benchmarks.poisson import Group, Seen
from benchmarks.results import FloorRecord, Load, Measured, Overload, Record, Results, Round, Trivial
from benchmarks.wrk import Closed


def closed(clients: int, rate: float, p50: float, images: int = 1, errors: int = 0) -> Closed:
    return Closed(clients, images, 3, 300, errors, rate, p50, 2 * p50, core_ms=20, client_ms=0.05)


def seen(rate: float, p50: float, **answers: int) -> Seen:
    groups = {status[1:]: Group(count, p50, 3 * p50, 4 * p50) for status, count in (answers or {"s200": 100}).items()}
    return Seen(rate, rate, sum(g.count for g in groups.values()), 0, 0, 0, rate / 10, groups, late_ms=0.2, client_cpu=0.1)


def round_of(rate: float, errors: int = 0, many: bool = False) -> Round:
    before, after = Measured(90, 20, 10), Measured(110, 22, 12)
    several = closed(4, 95, 600, images=16) if many else None
    return Round(before, after, closed(32, rate, 400, errors=errors), closed(1, 50, 13.5), several, others=0.03)


@pytest.fixture
def sample() -> Results:
    """One model, Hubel and two peers: one that errs and one that did not start."""
    hubel = Record("resnet50", "hubel", "Hubel", "2026-11-22 10:00 UTC", provider="P", precision="int8", start_seconds=2.5)
    hubel.rounds = [round_of(rate, many=True) for rate in (80, 95, 90)]
    hubel.capacity, hubel.memory_mb, hubel.idle_share = 90, 300, 0.001
    hubel.loads = [Load(share, seen(90 * share, 20 / (1 - share))) for share in (0.9, 0.5, 0.7)]
    pressed = [(900, 90, 30), (700, 100, 20), (950, 100, 40)]  # offered, capacity right before, p50
    hubel.overloads = [Overload(capacity, seen(rate, p50, s200=500, s503=4000, s500=3)) for rate, capacity, p50 in pressed]
    peer = Record("resnet50", "peer", "Peer", "2026-11-22 10:01 UTC", version="1.2", capacity=45)
    peer.rounds = [round_of(45, errors=2)]
    broken = Record("resnet50", "broken", "Broken", "2026-11-22 10:02 UTC", failed="ended with 1: no such module")
    records = {f"resnet50/{record.system}": record for record in (hubel, peer, broken)}
    floors = {"resnet50": FloorRecord("resnet50", "2026-11-22 10:00 UTC", [Measured(90, 20, 10), Measured(110, 22, 12)], 250)}
    return Results({"processor": "a processor"}, "make bench", "3 photographs", Trivial(9000, 0.02), floors, records)


def row_of(text: str, title: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_a_ratio_is_to_the_floor_before_and_after(sample: Results) -> None:
    each = sample.records["resnet50/hubel"].rounds[0]
    assert each.floor() == 100
    assert each.ratio() == 0.8
    assert each.many_ratio() == 0.95
    assert each.added_ms() == 2.5


def test_throughput_has_the_median_and_the_spread_of_the_rounds(sample: Results) -> None:
    text = tables.throughput(sample.floors["resnet50"], sample.of("resnet50")[:2])
    ratios = ["90.0 (80.0 to 95.0)", "0.90 (0.80 to 0.95)"]
    assert row_of(text, "Hubel") == [*ratios, "95.0 (95.0 to 95.0)", "0.95 (0.95 to 0.95)", "20.0"]
    assert row_of(text, "Peer 1.2") == ["45.0", "0.45", "-", "-", "20.0; 2 of 600 requests failed"]
    assert row_of(text, "the floor")[0] == "100 (90.0 to 110)"


def test_latency_says_what_is_added(sample: Results) -> None:
    text = tables.latency(sample.floors["resnet50"], sample.of("resnet50")[:2])
    assert row_of(text, "Peer 1.2") == ["13.5", "27.0", "2.50", "400", "800"]
    assert row_of(text, "decode and run alone")[0] == "11.0 (10.0 to 12.0)"


def test_open_loops_stand_by_their_share_of_the_capacity(sample: Results) -> None:
    text = tables.open_loop(sample.of("resnet50"))
    assert row_of(text, "Hubel") == ["90.0", "40.0 / 120", "66.7 / 200", "200 / 600"]
    assert "Peer" not in text


def test_overload_tells_answers_refusals_and_failures_apart(sample: Results) -> None:
    text = tables.overload(sample.of("resnet50"))
    assert row_of(text, "Hubel") == [
        "3",
        "9.5x",
        "95% (70% to 100%)",
        "0.09 (0.06 to 0.12)",
        "12,000 of 13,509",
        "90.0 / 160",
        "9 other statuses",
    ]
    assert "Peer" not in text


def test_requests_without_an_answer_are_named(sample: Results) -> None:
    lossy = seen(10, 5)
    lossy.sent += 4
    assert tables.of_load(lossy) == "5.00 / 15.0, 4 of 104 not answered"


def test_the_page_holds_every_system_and_why_one_is_missing(sample: Results) -> None:
    text = report.document(sample, "latency.svg", profile=True)
    assert "Computed by P in int8." in text
    assert "Broken was not measured: ended with 1: no such module." in text
    assert "| date | 2026-11-22 10:00 UTC to 2026-11-22 10:02 UTC |" in text
    assert "| rounds | n = 1 and 3 |" in text
    assert "![latency against offered load](../docs/images/latency.svg)" in text
    assert "(PROFILE.md)" in text
    assert "9,000 answers a second of `GET /livez`" in text
    assert "at most 0.03" in text


def test_systems_that_answer_differently_are_named(sample: Results) -> None:
    hubel, peer = sample.of("resnet50")[:2]
    hubel.label = peer.label = "cat"
    assert report.agreement([hubel, peer]) == "All systems name the same class for the first photograph."
    peer.label = "dog"
    assert "'cat' by Hubel, 'dog' by Peer" in report.agreement([hubel, peer])


def test_the_last_line_is_the_ratio_to_the_floor(sample: Results) -> None:
    assert report.last_line(sample, "resnet50") == "resnet50: ratio to the floor: 0.90"


def test_nothing_measured_makes_a_page_too() -> None:
    assert report.document(Results(), "", profile=False).startswith("# Hubel beside other servers")


def test_results_are_kept_and_a_part_replaces_only_itself(sample: Results, tmp_path: Path) -> None:
    file = tmp_path / "a" / "results.json"
    results.save(sample, file)
    kept = results.load(file)
    assert kept == sample
    newer = Record("resnet50", "peer", "Peer", "2026-11-23 10:00 UTC")
    kept.merge(Results(command="make bench SYSTEMS=peer", records={"resnet50/peer": newer}))
    assert kept.records["resnet50/peer"] == newer
    assert kept.records["resnet50/hubel"] == sample.records["resnet50/hubel"]
    assert kept.trivial == sample.trivial


def test_the_picture_is_well_formed_and_names_every_curve(sample: Results, tmp_path: Path) -> None:
    report.write(sample, tmp_path / "RESULTS.md", tmp_path / "latency.svg")
    root = ElementTree.fromstring((tmp_path / "latency.svg").read_text())
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("Hubel") == 2  # in both panels
    assert "Peer" not in words
    assert any(word and "milliseconds" in word for word in words)


def test_names_at_the_lines_do_not_overlap() -> None:
    assert picture.apart([10, 12, 50], 18, bottom=300) == [10, 28, 50]
    assert picture.apart([290, 295, 299], 18, bottom=300) == [264, 282, 300]


@pytest.mark.parametrize(("value", "low", "high"), [(1, 1, 1), (1.5, 1, 2), (25, 20, 50), (0.7, 0.5, 1), (999, 500, 1000)])
def test_axes_end_at_round_numbers(value: float, low: float, high: float) -> None:
    assert (picture.floor_of(value), picture.ceiling(value)) == (pytest.approx(low), pytest.approx(high))

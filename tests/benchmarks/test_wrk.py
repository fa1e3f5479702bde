"""What wrk printed is read and summed up rightly. wrk itself is not needed."""

from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.bodies import Bodies

PRINTED = """Running 1s test @ http://127.0.0.1:1
  1 threads and 2 connections
Requests/sec:     10.00

{"requests":20,"refused":5,"broken":0,"p50":2500.0,"p99":9000.0,"times":[0.0,0.1,0.1,0.5,0.6,0.7,0.8]}
"""


def test_the_line_of_the_script_is_found() -> None:
    output = wrk.parse(PRINTED)
    assert (output.requests, output.refused, output.p50) == (20, 5, 2500)
    assert output.times[-1] == 0.8


def test_answers_other_than_200_are_not_credited() -> None:
    seen = wrk.summarise(wrk.parse(PRINTED), clients=2, images=1, seconds=1, cores=1.5, client_cpu=0.04)
    assert seen.errors == 5
    assert seen.rate == pytest.approx(10 * 15 / 20)
    assert seen.core_ms == pytest.approx(1000 * 1.5 / 7.5)
    assert seen.client_ms == pytest.approx(2)
    assert (seen.p50_ms, seen.p99_ms) == (2.5, 9)


def test_images_are_counted_not_requests() -> None:
    seen = wrk.summarise(wrk.parse(PRINTED), clients=2, images=16, seconds=1, cores=1, client_cpu=0)
    assert seen.rate == pytest.approx(16 * 7.5)


def test_the_latency_of_one_client_is_the_time_between_its_requests() -> None:
    output = wrk.Output(5, 0, 0, 1.0, 1.0, [0.0, 0.0, 0.4, 0.5, 0.7, 1.0])
    seen = wrk.summarise(output, clients=1, images=1, seconds=1, cores=1, client_cpu=0)
    assert seen.p50_ms == pytest.approx(200)
    assert seen.p99_ms == pytest.approx(300)


def test_a_server_that_answered_nothing_has_the_rate_0() -> None:
    seen = wrk.summarise(wrk.Output(0, 0, 3, 0, 0, [0.0, 0.1, 0.1]), clients=2, images=1, seconds=1, cores=0, client_cpu=0)
    assert (seen.rate, seen.errors) == (0, 3)


def test_requests_are_written_and_read_again(tmp_path: Path) -> None:
    sent = Bodies("/x", "image/jpeg", [b"one\n", b"", b"\x00three"])
    assert wrk.read(wrk.write(sent.requests, tmp_path)) == sent.requests


def test_without_wrk_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(wrk.MissingClient, match="apt-get install wrk"):
        wrk.find()

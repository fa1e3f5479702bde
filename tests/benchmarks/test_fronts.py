"""What workers can feed is measured with a stand-in in the engine's place."""

import pytest

from benchmarks import fronts

pytestmark = pytest.mark.server


def test_workers_are_measured_by_what_they_read_decode_and_answer(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--workers", "2", "--images", "tiny", "--rounds", "1", "--seconds", "0.5", "--clients", "4"]
    assert fronts.main(arguments) == 0
    kind, workers, rate, worker, engine = capfd.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert (kind, workers) == ("tiny", "2")
    assert min(map(float, (rate, worker))) > 0
    assert float(engine) >= 0

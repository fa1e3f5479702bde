"""What processes take is counted while they run and stays counted when they have ended."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.processes import usage
from service.processes.usage import Usage, memory_limit
from service.telemetry import metrics

WORK = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"


@pytest.fixture
def worked() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has taken at least 0.2 s of processor time, and waits."""
    process = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def spent() -> float:
    return metrics.PROCESS_CPU.labels("test")._value.get()  # pyright: ignore[reportPrivateUsage]


def resident() -> float:
    return metrics.PROCESS_MEMORY.labels("test")._value.get()  # pyright: ignore[reportPrivateUsage]


def test_time_is_counted_once_and_stays_when_the_process_has_ended(worked: "subprocess.Popen[bytes]") -> None:
    looks, before = Usage(), spent()
    looks.look({"test": [worked.pid]})
    first = spent() - before
    assert first >= 0.19
    assert resident() > 2_000_000
    looks.look({"test": [worked.pid]})
    assert spent() - before == pytest.approx(first, abs=0.05)
    worked.kill()
    worked.wait()
    looks.look({"test": [worked.pid]})
    assert spent() - before >= first
    assert resident() == 0


def test_one_that_takes_the_number_of_another_takes_no_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Usage()
    found = iter([(5.0, 10), (1.0, 20), (1.5, 20)])
    monkeypatch.setattr(usage, "read", lambda pid: next(found))
    before = spent()
    for expected in (5.0, 5.0, 5.5):
        looks.look({"test": [1]})
        assert spent() - before == expected


@pytest.mark.parametrize(("text", "expected"), [("1000000\n", 1_000_000), ("max\n", None), (None, None), (f"{2**63}", None)])
def test_the_limit_is_the_container_s_or_what_the_machine_has(tmp_path: Path, text: str | None, expected: int | None) -> None:
    file = tmp_path / "memory.max"
    if text is not None:
        file.write_text(text)
    machine = memory_limit([])
    assert machine > 100_000_000
    assert memory_limit([tmp_path / "none", file]) == (expected or machine)

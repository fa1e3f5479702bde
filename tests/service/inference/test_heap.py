"""The heap goes back to the system when it is told to."""

import platform
import subprocess
import sys

import pytest

from tests.server import ROOT

PROGRAM = """
import psutil
from service.inference.heap import give_back_heap, give_back_large_blocks

def resident():
    return psutil.Process().memory_info().rss / 1e6

give_back_large_blocks()
before = resident()
rush = [bytearray(200_000) for _ in range(400)]
last = bytearray(200_000)  # keeps what lies below it from going back by itself
during = resident()
del rush
freed = resident()
give_back_heap()
print(before, during, freed, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_a_rush_has_left_in_the_heap_goes_back() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    before, during, freed, after = map(float, result.stdout.split())
    assert during > before + 70
    assert freed > before + 70
    assert after < before + 10

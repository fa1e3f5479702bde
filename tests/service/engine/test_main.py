"""The process that loads a version gives way before it imports anything large."""

import os
import subprocess
import sys

from tests.server import ROOT

PROGRAM = """
import os, sys
import service.engine.__main__ as engine
assert "numpy" not in sys.modules and "onnxruntime" not in sys.modules
engine.import_aside()
assert "numpy" in sys.modules and "onnxruntime" in sys.modules
assert os.getpriority(os.PRIO_PROCESS, 0) == int(sys.argv[1])
"""


def test_it_begins_without_what_takes_long_and_keeps_its_place_after_it_was_imported() -> None:
    usual = str(os.getpriority(os.PRIO_PROCESS, 0))
    result = subprocess.run([sys.executable, "-c", PROGRAM, usual], cwd=ROOT, timeout=120, check=False, capture_output=True)
    assert result.returncode == 0, result.stderr

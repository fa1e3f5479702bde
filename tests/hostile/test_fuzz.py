"""Atheris looks for bytes on which the decoder fails in another way than it says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import make_image
from tests.hostile.mutations import MORE_KINDS, bad_pngs
from tests.server import ROOT


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: the group fuzz has it")
@pytest.mark.parametrize("seconds", [4, pytest.param(300, marks=pytest.mark.long)])
def test_the_decoder_raises_errors_of_the_api_and_nothing_else(tmp_path: Path, seconds: int) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, data in enumerate([*(make_image(width=16, height=12, **options) for options in MORE_KINDS.values()), *bad_pngs()]):
        (corpus / str(i)).write_bytes(data)
    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=1024", "-timeout=2", "-max_len=65536"]
    # libFuzzer looks at the most that its process ever held, which counts what was there before exec: hence a small shell.
    command = [
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
        sys.executable,
        "-m",
        "tests.hostile.fuzz",
        corpus,
        *limits,
        f"-artifact_prefix={tmp_path}/",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 120)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (runs,) = re.findall(r"Done (\d+) runs", result.stderr)
    assert int(runs) > 50 * seconds

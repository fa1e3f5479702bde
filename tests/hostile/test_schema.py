"""Schemathesis makes requests from the OpenAPI document, valid and invalid ones, and checks every answer against it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT, Server

pytestmark = pytest.mark.server

HERE = Path(__file__).parent
SEED = os.environ.get("HUBEL_TEST_SEED", "20261125")


@pytest.mark.parametrize("examples", [50, pytest.param(2000, marks=pytest.mark.long)])
def test_every_answer_is_as_documented_and_every_invalid_request_refused(server: Server, examples: int, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml"]
    command += ["run", f"{server.url}/openapi.json", "--mode", "all", "--checks", "all", "--max-examples", str(examples)]
    command += ["--seed", SEED, "--continue-on-failure", "--no-color", "--generation-database", "none"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.hostile.generators", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr
    assert "Operations:       13 selected / 13 total" in result.stdout
    assert server.process.poll() is None

"""Debian's Prometheus beside a test: it scrapes services, plays the rules, and is asked over HTTP."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.promql import ALERTS
from tests.server import Server, free_port

PATIENCE = 40.0  # seconds until something is seen, on a machine that does other work too
SHORT = {"15s": "1s", "1m": "5s", "5m": "5s", "10m": "30s", "15m": "8s", "30m": "6s", "1h": "8s", "6h": "10s"}


class Prometheus:
    """folder: of its configuration. targets: instance -> the server's address and key, to be changed by ``watch``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.targets_file = folder / "targets.json"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)

    def watch(self, *servers: Server) -> None:
        """Scrape these from now on, and no others."""
        targets = [{"targets": [f"127.0.0.1:{server.port}" for server in servers], "labels": {"job": "hubel"}}]
        beside = self.targets_file.with_suffix(".new")
        beside.write_text(json.dumps(targets))
        beside.replace(self.targets_file)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def ask(self, expression: str) -> list[float]:
        """The values that it gives now; NaN and infinities are values too."""
        return [float(sample["value"][1]) for sample in self.get("query", query=expression)["result"]]

    def firing(self) -> dict[str, dict[str, str]]:
        """Annotations of the alerts that fire."""
        found = [alert for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]
        return {alert["labels"]["alertname"]: alert["annotations"] for alert in found}

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, f"{what}: not within {PATIENCE:g} s"
            time.sleep(0.2)


@contextmanager
def running(folder: Path, key: str = "", windows: Mapping[str, str] = SHORT) -> Generator[Prometheus]:
    """It scrapes once a second and evaluates the rules as often, with their spans of time shortened. Skips where there is none.

    key: an API key to scrape with.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian has it)")
    (folder / "alerts.yml").write_text(shortened(ALERTS.read_text(), windows))
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "scraped", "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]}],
    }
    if key:
        config["scrape_configs"][0]["authorization"] = {"credentials": key}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, cwd=folder)
    prometheus = Prometheus(folder, port)
    prometheus.watch()
    try:
        prometheus.wait_for(lambda: is_ready(prometheus, process), "Prometheus is ready")
        yield prometheus
    finally:
        process.kill()
        process.wait()
        prometheus.client.close()


def is_ready(prometheus: Prometheus, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "Prometheus ended"
    with suppress(httpx.TransportError):
        return prometheus.client.get("/-/ready").status_code == 200
    return False


def shortened(rules: str, windows: Mapping[str, str]) -> str:
    """Rules whose windows and intervals are shorter, and which fire once they hold for a second."""
    text = re.sub(r"^( +for:) \w+$", r"\1 1s", rules, flags=re.M)
    text = re.sub(r"\[(\w+)\]", lambda found: f"[{windows[found[1]]}]", text)
    return re.sub(r"^( +interval:) (\w+)$", lambda found: f"{found[1]} {windows[found[2]]}", text, flags=re.M)

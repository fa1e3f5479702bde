"""The dashboards as tests read them: panels with their queries."""

import json
from dataclasses import dataclass
from typing import Any

from tests.deploy.promql import ROOT

FILES = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
SOURCE = {"type": "prometheus", "uid": "hubel-prometheus"}
DASHBOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}


@dataclass(frozen=True)
class Query:
    """One query of a panel, as it stands in the file."""

    dashboard: str
    panel: str
    text: str

    def asked(self, window: str) -> str:
        """With all instances and models, and a window in the place of Grafana's own."""
        text = self.text.replace("$__rate_interval", window)
        return text.replace("$instance", ".*").replace("$model", ".*")

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that show something; rows are headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    return [
        Query(name, panel["title"], target["expr"])
        for name, dashboard in DASHBOARDS.items()
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]

"""What a PromQL expression asks for, and which series there are to be asked for."""

import csv
import re
from pathlib import Path
from typing import Any, cast

import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.telemetry import metrics

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
COUNTERS = ROOT / "deploy/dcgm/counters.csv"
ENDINGS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
WORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "bool", "offset"}
CLAUSE = re.compile(r"\b(by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
OF_PROMETHEUS = {
    "up": {"job", "instance"},
    "scrape_duration_seconds": {"job", "instance"},
    "ALERTS": {"job", "instance", "alertname", "alertstate", "severity"},
}


def series_in(expression: str) -> set[str]:
    """Names of the series that it asks for."""
    text = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    text = re.sub(r"\{[^}]*\}", " ", CLAUSE.sub(" ", text))
    return {name for name in re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", text) if name not in WORDS}


def labels_in(expression: str) -> set[str]:
    """Labels that it selects or groups by."""
    matched = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = [name.strip() for _, names in CLAUSE.findall(expression) for name in names.split(",")]
    return {name for name in (*matched, *grouped) if name}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def known() -> dict[str, set[str]]:
    """Labels of every series that a service, a rule, Prometheus or the exporter of the GPU makes."""
    found = dict(OF_PROMETHEUS)
    for metric in (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)):
        (family,) = metric.describe()
        labels = {"job", "instance", *cast(Any, metric)._labelnames}
        for ending in ENDINGS[family.type]:
            found[family.name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = {"job", "instance", "slo"}
    with COUNTERS.open() as file:
        for row in csv.reader(line for line in file if not line.startswith("#")):
            found[row[0].strip()] = {"job", "instance", "gpu"}
    return found


def unknown_in(expression: str) -> set[str]:
    """Series and labels that nothing makes."""
    series, names = known(), series_in(expression)
    labels = {label for name in names & set(series) for label in series[name]}
    return (names - set(series)) | (labels_in(expression) - labels)

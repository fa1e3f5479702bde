"""Every alert asks for what there is, fires and does not where it should, and leads to what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.errors import DeadlineExceeded, InternalError, Overloaded
from service.telemetry import metrics
from tests.deploy.promql import ALERTS, CONFIG, ROOT, labels_in, rules, series_in, unknown_in

PLAYED = Path(__file__).with_name("alerts_test.yml")
RULES = {rule["alert"]: rule for rule in rules() if "alert" in rule}
TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text()
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian has it in prometheus)"
)


def promtool(*arguments: str | Path) -> tuple[int, str]:
    run = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=PLAYED.parent)
    return run.returncode, run.stdout + run.stderr


def section(alert: str) -> str:
    """Of the troubleshooting page, up to the next heading."""
    _, _, rest = TROUBLESHOOTING.partition(f"\n### {alert}\n")
    return rest.partition("\n#")[0]


@pytest.mark.parametrize(
    ("expression", "series", "labels"),
    [
        ('sum by (job, le) (rate(a_total{b=~"x|y", c!="z"}[5m])) > 0.5', {"a_total"}, {"job", "le", "b", "c"}),
        ("x:y:z / on (slo) group_left () (6 * (1 - o:p)) and on (job) up", {"x:y:z", "o:p", "up"}, {"slo", "job"}),
        ('histogram_quantile(0.9, sum without (p) (a_bucket)) or absent(up{job="h"})', {"a_bucket", "up"}, {"p", "job"}),
        ("1 - max(a_1) or vector(0)", {"a_1"}, set()),
    ],
)  # fmt: skip
def test_names_and_labels_of_an_expression_are_found(expression: str, series: set[str], labels: set[str]) -> None:
    assert (series_in(expression), labels_in(expression)) == (series, labels)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_and_labels_that_exist(rule: dict[str, Any]) -> None:
    assert unknown_in(rule["expr"]) == set()


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_says_what_it_means_and_where_it_is_explained(alert: str) -> None:
    rule = RULES[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/troubleshooting.md#{alert.lower()}"
    for part in ("**Meaning.**", "**Look.**", "**Do.**"):
        assert part in section(alert), part


def test_every_section_is_of_an_alert() -> None:
    _, _, alerts = TROUBLESHOOTING.partition("\n## Alerts\n")
    assert re.findall(r"^### (\w+)$", alerts.partition("\n## ")[0], re.M) == list(RULES)


def test_objectives_are_said_once_and_the_time_promised_is_a_bucket() -> None:
    text = "".join(line for line in ALERTS.read_text().splitlines(True) if not line.lstrip().startswith("#"))
    objectives = [rule["expr"] for rule in rules() if rule.get("record") == "hubel:objective"]
    assert len(objectives) == 2
    for objective in objectives:
        (share,) = re.findall(r"vector\((0\.\d+)\)", objective)
        assert len(re.findall(rf"\b{re.escape(share)}\b", text)) == 1
    (bound,) = re.findall(r'le="([^"]+)"', text)
    assert float(bound) in metrics.SECONDS


def test_refusals_that_alerts_ask_for_are_codes_and_are_there_from_the_start_on() -> None:
    (one,) = set(re.findall(r'reason=~"([^"]+)"', RULES["HubelUploadsRejected"]["expr"]))
    assert tuple(one.split("|")) == metrics.BAD_UPLOADS
    asked = set(re.findall(r'hubel_rejections_total\{reason="(\w+)"', ALERTS.read_text())) | set(metrics.BAD_UPLOADS)
    assert Overloaded.code in asked
    metrics.expect_images()
    shown = metrics.render().decode()
    assert 'hubel_images_total{route="/v1/classify"}' in shown
    assert [code for code in asked if f'hubel_rejections_total{{reason="{code}"}}' not in shown] == []


def test_no_deadline_that_a_client_chose_counts_as_a_failure() -> None:
    misses = [rule for rule in rules() if rule.get("record") == "instance_slo:hubel_misses:sum"]
    (rule,) = [rule for rule in misses if rule["labels"]["slo"] == "availability"]
    (matching,) = set(re.findall(r'status=~"([^"]+)"', rule["expr"]))
    errors = [DeadlineExceeded("late", chosen=True), DeadlineExceeded("late"), InternalError("ours"), Overloaded("full", 1)]
    counted = [bool(re.fullmatch(matching, str(error.counted or error.status))) for error in errors]
    assert counted == [False, True, True, True]
    assert errors[0].status == 504


def test_every_alert_is_played_firing_and_silent() -> None:
    played: dict[str, set[bool]] = {}
    for test in yaml.safe_load(PLAYED.read_text())["tests"]:
        for check in test["promql_expr_test"]:
            (alert,) = re.findall(r'alertname="(\w+)"', check["expr"])
            played.setdefault(alert, set()).add(bool(check["exp_samples"]))
    assert played == {alert: {True, False} for alert in RULES}


@needs_promtool
def test_promtool_accepts_rules_and_configuration() -> None:
    assert promtool("check", "rules", ALERTS)[0] == 0
    code, said = promtool("check", "config", CONFIG)
    assert code == 0, said


@needs_promtool
def test_alerts_fire_and_are_silent_as_played() -> None:
    code, said = promtool("test", "rules", PLAYED)
    assert code == 0, said

"""Dashboards that Grafana can read from files, and whose panels ask for what there is. None is rendered here."""

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from tests.deploy.dashboards import DASHBOARDS, SOURCE, panels, queries
from tests.deploy.promql import ROOT, rules, series_in, unknown_in

UNITS = {"reqps", "short", "none", "percentunit", "percent", "s", "bytes", "decmbytes", "watt", "celsius"}
VARIABLES = {"__rate_interval", "instance", "model"}
every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def test_dashboards_have_uids_of_their_own_and_begin_with_the_last_hour() -> None:
    assert set(DASHBOARDS) == {"service", "models", "machine"}
    for name, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == f"hubel-{name}"
        assert dashboard["time"] == {"from": "now-1h", "to": "now"}
        assert not dashboard["editable"]


@every_dashboard
def test_panels_have_ids_and_places_of_their_own(dashboard: dict[str, Any]) -> None:
    found = dashboard["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    titles = [panel["title"] for panel in panels(dashboard)]
    assert sorted(set(titles)) == sorted(titles)
    for panel in found:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
    assert [(a["title"], b["title"]) for a, b in combinations(found, 2) if overlap(a["gridPos"], b["gridPos"])] == []


@every_dashboard
def test_a_panel_says_what_it_shows_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert re.fullmatch(r"[A-Z0-9][^\n]{15,150}\.", panel["description"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        if len(letters) > 1:
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@every_dashboard
def test_everything_asks_the_datasource_that_is_provisioned(dashboard: dict[str, Any]) -> None:
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert [{"type": source["type"], "uid": source["uid"]} for source in provisioned] == [SOURCE]
    asking = [*panels(dashboard), *dashboard["templating"]["list"], *dashboard["annotations"]["list"]]
    asking += [target for panel in panels(dashboard) for target in panel["targets"]]
    assert [one for one in asking if one["datasource"] != SOURCE] == []


@every_dashboard
def test_variables_that_queries_use_are_defined(dashboard: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = {name for panel in panels(dashboard) for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
    assert used - {"__rate_interval"} == defined <= VARIABLES
    for variable in dashboard["templating"]["list"]:
        assert unknown_in(re.sub(r"label_values\((.+), (\w+)\)", r"sum by (\2) (\1)", variable["definition"])) == set()


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_query_asks_for_series_and_labels_that_exist_and_fits_a_counter_s_kind(query: Any) -> None:
    assert unknown_in(query.asked("1m")) == set()
    counters = {name for name in series_in(query.text) if name.endswith(("_total", "_bucket", "_sum", "_count"))}
    for name in counters - {"hubel_feedback_total", "hubel_feedback_replaced_total"}:
        assert re.search(rf"(rate|increase)\({name}\b", query.text), name


@every_dashboard
def test_annotations_ask_for_what_exists(dashboard: dict[str, Any]) -> None:
    assert [one["name"] for one in dashboard["annotations"]["list"] if unknown_in(one["expr"])] == []


def test_what_is_recorded_is_shown_or_raises_an_alert() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for query in queries() for name in series_in(query.asked("1m"))}
    assert recorded <= asked | {name for rule in rules() for name in series_in(rule["expr"])}


def test_panels_that_the_sections_of_alerts_name_are_there() -> None:
    _, _, rest = (ROOT / "docs/troubleshooting.md").read_text().partition("\n## Alerts\n")
    named = {" ".join(title.split()) for title in re.findall(r'"([A-Z][^"]+)"', rest.partition("\n## ")[0])}
    assert len(named) > 8
    assert named <= {panel["title"] for dashboard in DASHBOARDS.values() for panel in panels(dashboard)}

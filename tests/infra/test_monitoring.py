"""Rules and dashboard speak of metrics that the code has, by labels it sets; alerts lead to the runbook."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pipeline.metrics import METRICS
from tests.infra.files import INFRA, only, walk

RULES = [rule for group in only("monitoring", "rules.yaml")["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((INFRA / "monitoring" / "dashboard.json").read_text())
RUNBOOK = (INFRA / "README.md").read_text()
EXPORTED = {metric.exported: metric for metric in METRICS}
#: Set by Ray on every metric of a worker, and by Prometheus.
_COMMON_LABELS = {"SessionName", "instance", "job"}
_NAME = re.compile(r"\bray_\w+")
_SELECTOR = re.compile(r"\b(ray_\w+)\{([^}]*)\}")

EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_every_metric_in_an_expression_exists_in_the_code(expression: str) -> None:
    names = set(_NAME.findall(expression))
    assert names or expression.startswith("up{")
    assert names <= set(EXPORTED)


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_expressions_use_labels_that_the_metric_has_and_close_what_they_open(expression: str) -> None:
    for name, selector in _SELECTOR.findall(expression):
        labels = set(re.findall(r"(\w+)\s*[=!]~?", selector))
        assert labels <= {*EXPORTED[name].tags, *_COMMON_LABELS}, (name, labels)
    for opened, closed in ("()", "[]", "{}"):
        assert expression.count(opened) == expression.count(closed)


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = {name for expression in EXPRESSIONS.values() for name in _NAME.findall(expression)}
    assert shown == set(EXPORTED)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_explained_in_the_operating_guide(metric: Any) -> None:
    assert f"`{metric.exported}`" in RUNBOOK
    for tag in metric.tags:
        assert f"`{tag}`" in RUNBOOK


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_leads_to_its_entry_in_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"infra/README.md#{rule['alert'].lower()}"
    entry = RUNBOOK.split(f"### {rule['alert']}\n")[1].split("\n##")[0]
    for part in ("Evidence", "Reading", "Experiment"):
        assert f"*{part}.*" in entry, (rule["alert"], part)


def test_alerts_of_prometheus_and_its_scraping_go_together() -> None:
    prometheus = only("monitoring", "prometheus.yaml")
    assert prometheus["rule_files"] == ["rules.yaml"]
    (scrape,) = prometheus["scrape_configs"]
    assert f'job="{scrape["job_name"]}"' in EXPRESSIONS["ReelweaveNotScraped"]
    monitor = only("monitoring", "podmonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"]["app.kubernetes.io/name"] == "reelweave"
    job = only("kuberay", "base", "rayjob.yaml")
    ports = [found for found in walk(job) if found.get("containerPort") == 8080]
    assert [port["name"] for port in ports] == [monitor["podMetricsEndpoints"][0]["port"]] * 2


def test_the_dashboard_asks_which_prometheus_and_every_panel_uses_it() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in DASHBOARD["panels"]:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"]


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

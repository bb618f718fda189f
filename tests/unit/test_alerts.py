"""The alert rules and the dashboard ask for metrics that there are, and the alerts fire when they should."""

import json
import os
import re
import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest

from operations.metrics import Counts, Metrics
from plugin.settings import Settings

ROOT = Path(__file__).parents[2]
RULES, DASHBOARD = ROOT / "contrib/prometheus/alerts.yml", ROOT / "contrib/grafana/flannelpy.json"
SCRAPE = ROOT / "contrib/prometheus/scrape.yml"
COMMANDS = ROOT / "docs/commands.md"
WHERE = ("", ip_network("10.240.0.0/18"))
ONE = {WHERE: 1}
COUNTS = Counts(1, 1, ONE, ONE, ONE, 1, 9, 0, (3, 4), 1, 0, 0, 0, 1, 1, 1, 1, 1, {"10.240.0.0/18": (5, 7)})


def scraped() -> str:
    metrics = Metrics()
    metrics.watch(lambda: COUNTS)
    metrics.request("NetworkDriver.Join", 0.01, refused=True)
    metrics.store_call("get", 0.01, answered=False)
    return metrics.text().decode()


def metric_names() -> set[str]:
    return set(re.findall(r"^(flannelpy_\w+)", scraped(), re.MULTILINE))


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=["alerts", "dashboard"])
def test_only_metrics_that_there_are_are_asked_for(path: Path) -> None:
    asked = set(re.findall(r"\bflannelpy_\w+", path.read_text()))
    assert asked
    assert asked <= metric_names()


def test_the_documentation_has_each_metric_with_its_labels() -> None:
    rows = re.findall(r"^\| `(flannelpy_\w+)` \| (.*?) \|", COMMANDS.read_text(), re.MULTILINE)
    said = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    families = set(
        re.findall(r"^# TYPE (flannelpy_(?!process_)\w+?) (?:gauge|counter|histogram)$", scraped(), re.MULTILINE)
    )
    assert set(said) == {name for name in families if not name.endswith("_created")}
    for name, labels in said.items():
        samples = re.findall(rf"^{name}(?:_sum)?(?:{{(.*)}})? ", scraped(), re.MULTILINE)
        assert set(re.findall(r"(\w+)=", samples[0])) == labels, name


def test_the_dashboard_is_json_without_two_panels_of_one_number() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10


def promtool(*arguments: object) -> None:
    """Finds nothing wrong."""
    tool = shutil.which("promtool", path=f"{ROOT / '.cache/bin'}:{os.environ['PATH']}")
    if tool is None and not (os.environ.get("CI") or os.environ.get("LAB_REQUIRED")):
        pytest.skip("promtool is missing: run scripts/setup")
    assert tool, "promtool is missing: run scripts/setup"
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


def test_prometheus_understands_each_question_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, which promtool reads; what Grafana fills in is filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    filled = [expr.replace("$host", ".*").replace("$__rate_interval", "5m") for expr in asked]
    rules = [{"record": f"dashboard:{number}", "expr": expr} for number, expr in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert len(rules) > 10
    promtool("check", "rules", tmp_path / "rules.yml")


def test_prometheus_takes_the_scrape_configuration_with_the_alerts(tmp_path: Path) -> None:
    """And where a flannelpy listens that was not told otherwise."""
    config = SCRAPE.read_text()
    where = Settings().http
    assert where is not None
    assert f'targets: ["localhost:{where[1]}"]' in config
    (tmp_path / "prometheus.yml").write_text(f"{config}\nrule_files: [{RULES}]\n")
    promtool("check", "config", tmp_path / "prometheus.yml")

"""The alert rules: as the table of measurements has it, read by Prometheus's own promtool, and firing when due."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.kpi import Kpi
from rabbitray.cluster.deploy.prometheus import expressions

FOLDER = Path(expressions.__file__).parent
MINUTES = 40
LABELS = 'pool="orders",queue="orders"'

Series = dict[str, str]
Threshold = tuple[str, str, float]
"""Of a measurement (its name, with ` p95` behind it): over or under which figure a rule fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the file. `lines` of the expression: what fires, then each further condition."""

    name: str
    lines: tuple[str, ...]
    lasts: str
    severity: str
    annotations: dict[str, str]


def read_rules() -> list[Rule]:
    content = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    return [
        Rule(
            name=rule["alert"],
            lines=tuple(rule["expr"].splitlines()),
            lasts=rule["for"],
            severity=rule["labels"]["severity"],
            annotations=rule["annotations"],
        )
        for group in content["groups"]
        for rule in group["rules"]
    ]


RULES = read_rules()
MEASURED = {one.prometheus + end: one for one in kpi.TABLE.values() for end in ("", "_bucket", "_sum", "_count")}


def measured(line: str) -> Kpi:
    """What the first series of an expression is about."""
    return MEASURED[re.findall(r"ray_rabbitray_\w+", line)[0]]


def threshold(line: str) -> Threshold | None:
    """The comparison with a number that ends a line."""
    found = re.search(r" (<=|<|>) ([\d.e]+)$", line)
    if found is None:
        return None
    p95 = " p95" if "histogram_quantile(0.95," in line else ""
    return measured(line).name + p95, found[1], float(found[2])


def targets() -> Iterator[Threshold]:
    """Every figure of the report that a rule watches."""
    for one in kpi.REPORT:
        assert one.target is not None, one.name
        bounds = (
            (one.name, ">", one.target.most),
            (f"{one.name} p95", ">", one.target.p95_most),
            (one.name, ">", one.target.alert_above),
            (one.name, "<", one.target.least),
        )
        yield from ((name, sign, bound) for name, sign, bound in bounds if bound is not None)


def promtool(*arguments: str, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is missing: `apt-get install prometheus` (`make test` does it)"
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def gauge(one: Kpi, value: float) -> Series:
    """A gauge that stays where it is."""
    worker = ',worker="orders-worker-0001"' if "worker" in one.labels else ""
    return {f"{one.prometheus}{{{LABELS}{worker}}}": f"{value:g}+0x{MINUTES}"}


def counter(one: Kpi, per_s: float) -> Series:
    """A counter that grows evenly."""
    return {f"{one.prometheus}{{{LABELS}}}": f"0+{per_s * 60:g}x{MINUTES}"}


def histogram(one: Kpi, value: float, *, slow: float = 0.0, slow_of_100: int = 0) -> Series:
    """100 values a minute: some of them `slow`."""
    found = {f"{one.prometheus}_count{{{LABELS}}}": f"0+100x{MINUTES}"}
    mean = (value * (100 - slow_of_100) + slow * slow_of_100) / 100
    found[f"{one.prometheus}_sum{{{LABELS}}}"] = f"0+{mean * 100:g}x{MINUTES}"
    for bound in (*one.buckets, float("inf")):
        below = (100 - slow_of_100 if value <= bound else 0) + (slow_of_100 if slow <= bound else 0)
        le = "+Inf" if bound == float("inf") else f"{bound:.1f}"
        found[f'{one.prometheus}_bucket{{{LABELS},le="{le}"}}'] = f"0+{below}x{MINUTES}"
    return found


HEALTHY: Series = {
    **histogram(kpi.WRITE_DURATION, 3),
    **histogram(kpi.READ_DURATION, 3),
    **histogram(kpi.PROCESSING_DURATION, 40),
    **counter(kpi.PUBLISHED, 245),
    **counter(kpi.CONSUMED, 238),
    **gauge(kpi.WORKER_THROUGHPUT, 24),
    **gauge(kpi.QUEUE_DEPTH, 45),
    **gauge(kpi.WORKER_CPU, 70),
    **gauge(kpi.WORKER_MEMORY, 150 * kpi.MB),
    **gauge(kpi.ERROR_RATE, 0.5),
    **gauge(kpi.RETRY_RATE, 0.4),
    **gauge(kpi.DLQ_RATE, 0.05),
    **gauge(kpi.CONNECTED, 1),
    **counter(kpi.NEAR_LIMIT, 0),
    **gauge(kpi.QUEUES_VANISHED, 0),
    **counter(kpi.LATE, 0),
    **gauge(kpi.HOLD, 0),
    **gauge(kpi.TOO_MANY_DEAD, 0),
    **gauge(kpi.LOOP_LAG, 2),
    **gauge(kpi.WORKERS_WANTED, 4),
    **gauge(kpi.WORKERS_READY, 4),
}
BACKLOG: Series = gauge(kpi.QUEUE_DEPTH, 2_000)
IDLE: Series = {
    **HEALTHY,
    **counter(kpi.PUBLISHED, 0),
    **counter(kpi.CONSUMED, 0),
    **gauge(kpi.WORKER_THROUGHPUT, 0),
    **gauge(kpi.WORKER_CPU, 1),
    **gauge(kpi.QUEUE_DEPTH, 0),
}
SLOW_WRITES: Series = histogram(kpi.WRITE_DURATION, 12)

CASES: dict[str, tuple[Series, set[str]]] = {
    "healthy": (HEALTHY, set()),
    "idle": (IDLE, set()),
    "writes are slow": (SLOW_WRITES, {"WriteSlow"}),
    "some writes are slow": (histogram(kpi.WRITE_DURATION, 3, slow=40, slow_of_100=8), {"WriteSlowP95"}),
    "reads are slow": (histogram(kpi.READ_DURATION, 7), {"ReadSlow"}),
    "some reads are slow": (histogram(kpi.READ_DURATION, 1, slow=40, slow_of_100=8), {"ReadSlowP95"}),
    "reads wait behind a backlog": (histogram(kpi.READ_DURATION, 70) | BACKLOG, {"QueueDepthHigh"}),
    "jobs are slow": (histogram(kpi.PROCESSING_DURATION, 700), {"ProcessingSlow"}),
    "some jobs are slow": (
        histogram(kpi.PROCESSING_DURATION, 40, slow=4_000, slow_of_100=8),
        {"ProcessingSlowP95"},
    ),
    "publishers are held up": (SLOW_WRITES | counter(kpi.PUBLISHED, 40), {"WriteSlow", "PublishedLow"}),
    "falling behind": (counter(kpi.CONSUMED, 90) | BACKLOG, {"ConsumedLow", "QueueDepthHigh"}),
    "workers are slow": (
        gauge(kpi.WORKER_THROUGHPUT, 4) | BACKLOG,
        {"WorkerThroughputLow", "QueueDepthHigh"},
    ),
    "deep queue": (gauge(kpi.QUEUE_DEPTH, 9_000), {"QueueDepthHigh", "QueueDepthCritical"}),
    "hot workers": (gauge(kpi.WORKER_CPU, 97), {"WorkerCpuHigh"}),
    "workers wait": (gauge(kpi.WORKER_CPU, 8) | BACKLOG, {"WorkerCpuLow", "QueueDepthHigh"}),
    "big workers": (gauge(kpi.WORKER_MEMORY, 300 * kpi.MB), {"WorkerMemoryHigh"}),
    "leaking workers": (
        gauge(kpi.WORKER_MEMORY, 700 * kpi.MB),
        {"WorkerMemoryHigh", "WorkerMemoryCritical"},
    ),
    "errors": (gauge(kpi.ERROR_RATE, 2.1), {"ErrorRateHigh"}),
    "retries": (gauge(kpi.RETRY_RATE, 6), {"RetryRateHigh"}),
    "dead letters": (gauge(kpi.DLQ_RATE, 0.2), {"DlqRateHigh"}),
    "nearly all jobs die": (
        gauge(kpi.TOO_MANY_DEAD, 1) | gauge(kpi.DLQ_RATE, 100) | gauge(kpi.ERROR_RATE, 100),
        {"TooManyDead", "DlqRateHigh", "ErrorRateHigh"},
    ),
    "broker is away": (gauge(kpi.CONNECTED, 0), {"Disconnected"}),
    "a queue vanished": (gauge(kpi.QUEUES_VANISHED, 2), {"QueueVanished"}),
    "messages come again and again": (counter(kpi.NEAR_LIMIT, 0.1), {"NearDeliveryLimit"}),
    "messages are held too long": (counter(kpi.LATE, 0.1), {"Late"}),
    "paused": (gauge(kpi.HOLD, 1), {"Held"}),
    "no room for workers": (gauge(kpi.WORKERS_READY, 1), {"WorkersMissing"}),
    "another pool is gone": (
        {f'{kpi.CONNECTED.prometheus}{{pool="mails",queue="letters"}}': "1+0x10 stale"},
        {"PoolMissing"},
    ),
    "router is blocked": (gauge(kpi.LOOP_LAG, 2_500), {"LoopBlocked"}),
}


def scenario(series: Series, firing: set[str]) -> dict[str, Any]:
    samples = [{"labels": f'{{alertname="Rabbitray{name}"}}', "value": 1} for name in sorted(firing)]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES - 2}m",
                "exp_samples": samples,
            }
        ],
    }


def run_scenarios(folder: Path, scenarios: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    shutil.copy(FOLDER / "alerts.yml", folder)
    content = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": scenarios}
    (folder / "rules_test.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    return promtool("test", "rules", "rules_test.yml", cwd=folder)


def test_every_target_of_the_report_has_a_rule_with_its_threshold() -> None:
    watched = [found for rule in RULES if (found := threshold(rule.lines[0])) and measured(rule.lines[0]).target]
    assert sorted(watched) == sorted(targets())


def test_a_rule_that_only_a_backlog_can_break_looks_for_one() -> None:
    """And the other way round: a wait for a worker is slow only where there is no backlog."""
    assert kpi.QUEUE_DEPTH.target is not None
    most = kpi.QUEUE_DEPTH.target.most
    further = {rule.name: [threshold(line) for line in rule.lines[1:]] for rule in RULES}
    for name in ("ConsumedLow", "WorkerThroughputLow", "WorkerCpuLow"):
        assert further[f"Rabbitray{name}"] == [(kpi.QUEUE_DEPTH.name, ">", most)], name
    for name in ("ReadSlow", "ReadSlowP95"):
        assert further[f"Rabbitray{name}"] == [(kpi.QUEUE_DEPTH.name, "<=", most)], name


def test_every_figure_in_a_further_condition_is_a_target_too() -> None:
    for rule in RULES:
        for line in rule.lines[1:]:
            one = measured(line)
            if found := threshold(line):
                assert one.target is not None, rule.name
                assert found[2] in (one.target.most, one.target.least, one.target.p95_most), rule.name


def test_every_rule_tells_the_target_that_it_watches() -> None:
    for rule in RULES:
        target = measured(rule.lines[0]).target
        told = rule.annotations["summary"].partition(", target ")[2]
        assert told == (target.text if target else ""), rule.name


def test_promtool_reads_rules_and_configuration() -> None:
    for arguments in (("check", "rules", "alerts.yml"), ("check", "config", "--syntax-only", "scrape.yml")):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_rule_says_what_to_do() -> None:
    for rule in RULES:
        assert set(rule.annotations) == {"summary", "action", "runbook"}, rule.name
        assert rule.annotations["action"].endswith((".", "?")), rule.name
        assert rule.annotations["runbook"] == f"docs/operations.md#{rule.name.lower()}"
        assert rule.severity in ("critical", "warning", "info"), rule.name
        assert re.fullmatch(r"\d+m", rule.lasts), rule.name


def test_every_rule_is_tried_below() -> None:
    tried = {f"Rabbitray{name}" for _, firing in CASES.values() for name in firing}
    assert {rule.name for rule in RULES} == tried


@pytest.mark.parametrize("case", list(CASES))
def test_rules_fire_on_a_recorded_series_and_only_then(case: str, tmp_path: Path) -> None:
    own, firing = CASES[case]
    ran = run_scenarios(tmp_path, [scenario(HEALTHY | own, firing)])
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_pool_that_reports_nothing_is_missed(tmp_path: Path) -> None:
    ran = run_scenarios(tmp_path, [scenario({}, {"PoolMissing"})])
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_pool_that_is_missed_is_named_for_an_hour(tmp_path: Path) -> None:
    """One pool goes on, another stops after 10 minutes: only that one fires, and once forgotten no more."""
    alert = {
        "exp_labels": {"severity": "critical", "pool": "mails", "queue": "letters"},
        "exp_annotations": missing_annotations() | {"summary": "mails reports nothing any more"},
    }
    stopped = f'{kpi.CONNECTED.prometheus}{{pool="mails",queue="letters"}}'
    expected = {"9m": [], "14m": [], "30m": [alert], "60m": [alert], "75m": []}
    looks = [
        {"alertname": "RabbitrayPoolMissing", "eval_time": at, "exp_alerts": alerts} for at, alerts in expected.items()
    ]
    series = {f"{kpi.CONNECTED.prometheus}{{{LABELS}}}": "1+0x90", stopped: "1+0x10 stale"}
    ran = run_scenarios(tmp_path, [scenario(series, set()) | {"promql_expr_test": [], "alert_rule_test": looks}])
    assert ran.returncode == 0, ran.stdout + ran.stderr


def missing_annotations() -> dict[str, str]:
    (rule,) = [rule for rule in RULES if rule.name == "RabbitrayPoolMissing"]
    return {name: text for name, text in rule.annotations.items() if name != "summary"}


def test_a_wrong_expectation_would_be_noticed(tmp_path: Path) -> None:
    assert run_scenarios(tmp_path, [scenario(HEALTHY, {"Held"})]).returncode != 0

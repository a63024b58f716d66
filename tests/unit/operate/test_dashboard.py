"""The terminal dashboard: frames of made-up pools."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rabbitray.actors.message.reply import Usage
from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.report import JobProgress, WorkerRow
from rabbitray.actors.router.status import Counts, ErrorCount
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.cluster.cli.app import group
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.dashboard import KEYS, View, bar, frame, sparkline
from rabbitray.cluster.operate.picture import Messages, Picture, Reason, ShownRates, Sizes
from rabbitray.cluster.operate.status_lines import lines
from tests.kit.hostile import FORGED, LONG, TEXTS, unfit

AT = 1_767_323_045.0  # 03:04:05 UTC


def worker(number: int, **own: Any) -> WorkerRow:
    base = {"name": f"orders-worker-{number:04d}", "state": "ready", "pid": 1_000 + number, "batches": 2}
    return WorkerRow(**(base | {"jobs": 10_000 * number, "busy_s": 100.0 * number} | own))


PICTURE = Picture(
    pool="orders",
    queue="orders",
    state="healthy",
    problems=(),
    size=Sizes(wanted=4, had=3, busy=3, starting=1, retiring=0, possible=8, fixed=None, short="gpu"),
    messages=Messages(ready=1_234, held=800, in_flight=640, quarantined=0, oldest_held_s=0.4, uncommitted_bytes=0),
    window=800,
    batch_size=50,
    holds={},
    counts=Counts(done=61_000, duplicates=12, retried=900, dead=31, acked=61_931),
    rates=ShownRates(received_s=245.0, acked_s=240.0, done_s=238.0, arrivals_s=240.0, speed_per_worker_s=81.0),
    latency_ms=Percentiles(p50=7.2, p95=115.0, p99=16_800.0),
    write_ms=Percentiles(p50=3.1, p95=8.0, p99=40.0),
    errors=(),
    reasons=(
        Reason(at="2026-01-02T03:03:50+00:00", event="decided", wanted=3, reason="want 3: 120 msg/s"),
        Reason(at="2026-01-02T03:04:01+00:00", event="in_effect", wanted=4, reason="want 4: 240 msg/s"),
    ),
    rows=61_000,
    connected=True,
    broker="",
    spans_lost=0,
    workers=(worker(1), worker(2), worker(3), worker(4, state="starting", pid=None, jobs=0, busy_s=0.0)),
)
"""A pool that works."""


def seen(**own: Any) -> Picture:
    return replace(PICTURE, **own)


def earlier(now: Picture, jobs: int, busy_s: float) -> Picture:
    """The same pool, some jobs and busy seconds of each worker ago."""
    workers = tuple(replace(one, jobs=one.jobs - jobs, busy_s=one.busy_s - busy_s) for one in now.workers)
    counts = replace(now.counts, done=now.counts.done - 990, retried=now.counts.retried - 10)
    return replace(now, workers=workers, counts=counts)


def line_with(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def test_the_most_frequent_error_stands_below_the_shares() -> None:
    errors = (
        ErrorCount(error_class="ConnectionError", count=31, example="no such host"),
        ErrorCount(error_class="x", count=1, example=""),
    )
    shown = frame(View(seen=seen(errors=errors), at=AT), width=80, height=24).splitlines()
    below = next(number for number, line in enumerate(shown) if line.startswith("Errors")) + 1
    assert shown[below].strip() == "31 lately: ConnectionError: no such host"
    assert len(shown) == 24


TOLD = JobProgress(key="order-7", fraction=0.43, text="page 3 of 7", running_s=1_500.0, told_s_ago=5.0)


def test_what_jobs_tell_stands_below_their_worker_where_there_is_room() -> None:
    others = tuple(replace(TOLD, key=f"order-{n}", running_s=float(n)) for n in range(40))
    workers = (worker(1, progress=(TOLD,)), worker(2, progress=others), worker(3))
    shown = frame(View(seen=seen(workers=workers), at=AT), width=90, height=24).splitlines()
    at = next(number for number, line in enumerate(shown) if "orders-worker-0001" in line)
    assert shown[at + 1].strip() == "order-7 43%: page 3 of 7 (runs 25 min)"
    assert "orders-worker-0003" in "\n".join(shown), "no worker is hidden by what another one's jobs tell"
    assert len(shown) == 24
    assert len(frame(View(seen=seen(workers=workers), at=AT), width=90, height=None).splitlines()) > 41
    assert "    order-7 43%: page 3 of 7 (runs 25 min)" in lines(seen(workers=workers))


def hostile(text: str) -> Picture:
    """A pool of which every text is a stranger's."""
    return seen(
        pool=text,
        queue=text,
        problems=(text, text),
        holds={"paused": text, text: text},
        errors=(ErrorCount(error_class=text, count=31, example=text),),
        reasons=(Reason(at="2026-01-02T03:03:50+00:00", event=text, wanted=3, reason=text),),
        workers=(worker(1, name=f"{text}-1", progress=(replace(TOLD, key=text, text=text),)), worker(2)),
    )


@pytest.mark.parametrize("text", [*TEXTS, LONG])
def test_no_text_of_a_stranger_steers_the_terminal(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    now = hostile(text)
    shown = frame(View(seen=now, at=AT, before=now, notice=text), width=80, height=24)
    assert not unfit(shown)
    assert len(shown.splitlines()) == 24
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    tell(*lines(now))
    said = capfd.readouterr().out
    assert not unfit(said)
    assert (said.count("\n"), FORGED in said.split("\n")) == (len(lines(now)), False)
    assert len(said) < 200_000
    tell_json(now.as_json())
    assert json.loads(capfd.readouterr().out)["holds"] == {"paused": text, text: text}


def test_a_frame_says_it_all_in_80_by_24() -> None:
    now = seen()
    usage = {1_001: Usage(cpu_percent=68.2, rss_bytes=45_000_000)}
    text = frame(
        View(seen=now, at=AT, before=earlier(now, 820, 9.1), apart_s=10.0, depths=[0, 500, 2_034], usage=usage)
    )
    lines = text.splitlines()
    assert len(lines) == 24
    assert all(cell_len(line) <= 80 for line in lines)
    assert "● healthy" in lines[0]
    assert "03:04:05 UTC" in lines[0]
    assert "1,234 ready  800 held  640 in flight" in text
    assert "in 245/s  done 238/s" in text
    assert "p50 7.2 ms  p95 115 ms  p99 16.8 s" in text
    assert "3 of 4 wanted, 3 busy, 1 starting, 8 possible (short of gpu)" in text
    assert line_with(text, "worker-0001").split() == [
        "orders-worker-0001", "ready", "82.0", "91%", "68%", "45", "MB", "10,000", "✓",
    ]  # fmt: skip
    assert lines[-1] == KEYS


def test_targets_are_marked_by_a_sign_and_not_by_colour_alone() -> None:
    now = seen()
    text = frame(View(seen=now, at=AT, before=earlier(now, 820, 9.1), apart_s=10.0))
    assert line_with(text, "<1000, alert >5000").endswith("⚠")  # 1,234 ready: above the target, below the alarm
    assert "failed 1.00% <1% ✓  retried 1.00% <5% ✓  dead 0.00% <0.1% ✓" in text
    deep = frame(View(seen=seen(messages=replace(now.messages, ready=9_000)), at=AT))
    assert line_with(deep, "<1000, alert >5000").endswith("✗")
    assert "dead 0.05% <0.1% ✓" in deep  # nothing to compare with: of all since the start


def test_a_slow_or_a_large_worker_is_marked() -> None:
    now = seen()
    usage = {1_002: Usage(cpu_percent=99.0, rss_bytes=600_000_000)}
    text = frame(View(seen=now, at=AT, before=earlier(now, 100, 9.1), apart_s=10.0, usage=usage))
    assert line_with(text, "worker-0001").endswith("⚠")  # 10 a second while busy, with a backlog
    assert line_with(text, "worker-0002").endswith("✗")
    idle = frame(View(seen=now, at=AT, before=earlier(now, 1, 0.1), apart_s=10.0))
    assert line_with(idle, "worker-0001").endswith("10,000")


def test_a_worker_on_another_node_shows_what_it_told_itself() -> None:
    """A process of the same pid on this machine is another one."""
    far = worker(1, cpu_percent=72.4, rss_bytes=45_000_000)
    large = worker(2, cpu_percent=None, rss_bytes=600_000_000)  # its CPU was not measured lately
    usage = {1_001: Usage(cpu_percent=1.0, rss_bytes=1_000_000)}
    text = frame(View(seen=seen(workers=(far, large)), at=AT, usage=usage))
    assert line_with(text, "worker-0001").split()[4:7] == ["72%", "45", "MB"]
    assert line_with(text, "worker-0002").split()[4:7] == ["-", "600", "MB"]
    assert line_with(text, "worker-0002").endswith("✗")


def test_an_idle_worker_on_this_machine_is_looked_at_here() -> None:
    idle = worker(1, cpu_percent=None, rss_bytes=45_000_000)
    text = frame(View(seen=seen(workers=(idle,)), at=AT, usage={1_001: Usage(cpu_percent=0.4, rss_bytes=46_000_000)}))
    assert line_with(text, "worker-0001").split()[4:7] == ["0%", "46", "MB"]


@pytest.mark.parametrize(
    ("written", "shown", "mark"),
    [
        (Percentiles(p50=3.1, p95=8.0), "p50 3.1 ms  p95 8.0 ms", "✓"),
        (Percentiles(p50=3.1, p95=16.0), "p50 3.1 ms  p95 16 ms", "⚠"),
        (Percentiles(p50=11.0, p95=14.0), "p50 11 ms  p95 14 ms", "⚠"),
        (Percentiles(p50=None, p95=None), "p50 -  p95 -", "yet"),
        (Percentiles(), "p50 -  p95 -", "yet"),
    ],
)
def test_write_latency_stands_against_its_target(written: Percentiles, shown: str, mark: str) -> None:
    line = line_with(frame(View(seen=seen(write_ms=written), at=AT)), "Write")
    assert shown in line
    assert "<10ms, p95 <15ms" in line
    assert line.endswith(mark)


def test_an_idle_pool_misses_no_target() -> None:
    rates = ShownRates(received_s=0.0, acked_s=0.0, done_s=0.0, arrivals_s=None, speed_per_worker_s=None)
    quiet = seen(rates=rates, messages=replace(PICTURE.messages, ready=0, held=0))
    assert line_with(frame(View(seen=quiet, at=AT)), "Throughput").endswith("idle")
    fast = replace(quiet, rates=replace(rates, acked_s=30.0, done_s=30.0))
    assert line_with(frame(View(seen=fast, at=AT)), "Throughput").endswith("keeping up")


def test_a_pool_that_only_fails_does_not_keep_up() -> None:
    """What is acked is finished, and be it in the dead letters; what is done has a result."""
    rates = ShownRates(received_s=80.0, acked_s=80.0, done_s=0.0, arrivals_s=None, speed_per_worker_s=None)
    failing = seen(rates=rates, messages=replace(PICTURE.messages, ready=0, held=0))
    line = line_with(frame(View(seen=failing, at=AT)), "Throughput")
    assert "in 80/s  done 0.0/s" in line
    assert line.endswith("nothing is done")
    behind = seen(rates=replace(rates, acked_s=500.0))
    assert line_with(frame(View(seen=behind, at=AT)), "Throughput").endswith(">200/s ⚠")
    dying = replace(failing, rates=replace(rates, done_s=5.0), endings=LastEndings(jobs=100, dead=90))
    assert line_with(frame(View(seen=dying, at=AT)), "Throughput").endswith("most jobs end dead")


def test_figures_of_ten_minutes_ago_say_so() -> None:
    lines = frame(View(seen=seen(problems=("p",)), at=AT, taken_at=AT - 600)).splitlines()
    assert "○ healthy 10 min ago" in lines[0]
    assert lines[1:3] == ["! all of this is 10 min old: the pool gives no answer", "! p"]
    assert "● healthy" in frame(View(seen=seen(), at=AT, taken_at=AT - 9))
    idle = frame(View(seen=seen(acked_s_ago=600.0), at=AT))
    assert line_with(idle, "Latency").endswith("publish to ack, last 10 min ago")


def test_counts_fit_their_line() -> None:
    shown = frame(View(seen=seen(counts=Counts(done=61_000, dead=31, acked=61_040, strays=7, again=2)), at=AT))
    assert "61,000 done  0 duplicates  0 retried  31 dead  7 strays  2 again" in shown


def test_shares_of_all_since_the_start_say_so() -> None:
    now = seen()
    assert "Errors all failed 1.50%" in frame(View(seen=now, at=AT, before=now, apart_s=10.0)), "nothing since"
    assert "Errors     failed 1.00%" in frame(View(seen=now, at=AT, before=earlier(now, 820, 9.1), apart_s=10.0))


def test_troubles_stand_at_the_top() -> None:
    text = frame(
        View(seen=seen(state="degraded", problems=("held (store): disk full",), holds={"paused": "by ops"}), at=AT)
    )
    assert text.splitlines()[1:3] == ["! held (store): disk full", "! paused: by ops"]
    assert len(text.splitlines()) == 24


def test_many_workers_are_cut_to_the_height_and_counted() -> None:
    many = seen(workers=tuple(worker(number) for number in range(1, 33)))
    text = frame(View(seen=many, at=AT))
    shown = sum("orders-worker-" in line for line in text.splitlines())
    assert f"... {32 - shown} more workers" in text
    assert len(text.splitlines()) == 24
    assert sum("orders-worker-" in line for line in frame(View(seen=many, at=AT), height=None).splitlines()) == 32


def test_what_is_not_known_is_a_question_mark() -> None:
    blind = seen(messages=replace(PICTURE.messages, ready=None), latency_ms=Percentiles(), reasons=(), workers=())
    text = frame(View(seen=blind, at=AT))
    assert "? ready" in text
    assert "depth is not known" in text
    assert "p50 -" in text
    assert "none yet" in text


def test_names_of_any_text_break_no_line() -> None:
    text = frame(
        View(
            seen=seen(pool="x" * 200, queue="[red]q[/red]", workers=(worker(1, name="long-" * 30 + "0001"),)),
            at=AT,
            notice="[bold]n[/bold]",
        )
    )
    assert "[red]q[/red]" in text
    assert "[bold]n[/bold]" in text
    assert len(text.splitlines()) == 24
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    assert "0001 ready" in text


@given(width=st.integers(1, 240), height=st.integers(1, 80), workers=st.integers(0, 90))
def test_a_frame_is_never_larger_than_its_terminal(width: int, height: int, workers: int) -> None:
    text = frame(
        View(seen=seen(workers=tuple(worker(n) for n in range(workers)), problems=("p" * 300,) * 5), at=AT),
        width=width,
        height=height,
    )
    lines = text.splitlines()
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("values", "drawn"), [([], ""), ([0, 0], "▁▁"), ([1, 2, 4, 8], "▂▃▅█"), (list(range(50)), None)]
)
def test_sparkline(values: list[int], drawn: str | None) -> None:
    found = sparkline(values, 8)
    assert len(found) == min(len(values), 8)
    assert drawn is None or found == drawn


def test_bar() -> None:
    assert [bar(share, 4) for share in (-1.0, 0.0, 0.5, 1.0, 9.0)] == ["░░░░", "░░░░", "██░░", "████", "████"]


def test_without_a_terminal_it_says_what_to_use() -> None:
    found = CliRunner().invoke(group, ["top"])
    assert found.exit_code == 2
    assert "--once" in found.stderr


def test_where_there_are_several_machines_each_worker_says_its_own() -> None:
    one = worker(1, host="w1", address="10.0.0.1")
    alone = frame(View(seen=seen(workers=(one,)), at=AT), width=100)
    assert "orders-worker-0001 " in alone
    assert "@w1" not in alone
    both = seen(workers=(one, worker(2, host="w2", address="10.0.0.2", silent_s=7.0)))
    text = frame(View(seen=both, at=AT), width=100)
    assert "orders-worker-0001@w1" in text
    (silent,) = [line for line in text.splitlines() if "orders-worker-0002@w2" in line]
    assert "silent" in silent


@pytest.mark.parametrize(
    ("host", "numbers"), [("w1", [1]), ("w", [1, 2]), ("10.0.0.2", [2]), ("10.0.0", []), (None, [1, 2, 3])]
)
def test_workers_of_one_host(host: str | None, numbers: list[int]) -> None:
    places = ({"host": "w1", "address": "10.0.0.1"}, {"host": "w2", "address": "10.0.0.2"}, {})
    workers = tuple(worker(number, **place) for number, place in enumerate(places, 1))
    found = seen(workers=workers).on_host(host).workers
    assert [one.name[-1] for one in found] == [str(number) for number in numbers]

"""`make bench-ab`: its rules, and whole comparisons of a toy project whose benches print what its commits say."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import names
from bench.ab import report
from bench.ab.measure import Measured, counted_us
from bench.ab.plans import PLANS, Figure, figures_of, higher_is_better, plan_of
from bench.ab.processes import role
from bench.ab.rounds import ROUNDS
from bench.ab.rules import (
    CONFIDENCE,
    LEAST_ROUNDS,
    MOST_S,
    Estimate,
    Verdict,
    enough,
    estimate,
    exit_code,
    rank_of,
    ratio,
    verdict,
)
from bench.ab.sides import Unusable, prepare_script
from tests.kit.eventually import eventually_sync
from tests.kit.root import ROOT

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
RATIOS = st.lists(st.floats(min_value=0.1, max_value=10.0), min_size=1, max_size=80)


def _known(median: float, half_width: float, rounds: int = 12) -> Estimate:
    return Estimate(median=median, low=median - half_width, high=median + half_width, rounds=rounds)


# --- statistics


@given(st.integers(min_value=6, max_value=200))
def test_the_interval_encloses_the_median_with_95_percent_and_no_narrower_one_does(count: int) -> None:
    def enclosed(rank: int) -> float:
        return 1 - 2 * sum(math.comb(count, k) for k in range(rank)) / 2**count

    rank = rank_of(count)
    assert rank >= 1
    assert enclosed(rank) >= CONFIDENCE
    assert 2 * (rank + 1) > count or enclosed(rank + 1) < CONFIDENCE


@pytest.mark.parametrize(("count", "rank"), [(1, 0), (5, 0), (6, 1), (10, 2), (20, 6), (30, 10), (100, 40)])
def test_the_ranks_are_those_of_the_tables(count: int, rank: int) -> None:
    assert rank_of(count) == rank


@given(RATIOS)
def test_an_estimate_lies_in_its_interval_and_the_interval_in_the_data(ratios: list[float]) -> None:
    known = estimate(ratios)
    assert known.low <= known.median <= known.high
    assert known.rounds == len(ratios)
    if len(ratios) < 6:
        assert (known.low, known.high) == (0.0, math.inf)
    else:
        assert min(ratios) <= known.low
        assert known.high <= max(ratios)


@given(RATIOS, st.randoms(use_true_random=False))
def test_the_order_of_the_rounds_does_not_matter(ratios: list[float], chance: object) -> None:
    mixed = list(ratios)
    chance.shuffle(mixed)  # type: ignore[attr-defined] # Hypothesis gives a random.Random
    assert estimate(mixed) == estimate(ratios)


@given(POSITIVE, POSITIVE, st.booleans())
def test_a_ratio_is_above_one_where_head_is_better(base: float, head: float, higher: bool) -> None:
    found = ratio(base, head, higher_is_better=higher)
    if found > 1:
        assert (head > base) == higher
    assert ratio(head, base, higher_is_better=higher) == pytest.approx(1 / found)


# --- when to stop


def test_ten_rounds_at_least_then_until_the_interval_is_narrow() -> None:
    narrow, wide = 0.03, 0.031
    assert enough(_known(1.0, 0.0, rounds=LEAST_ROUNDS - 1), spent_s=60, limit=0.03) == ""
    assert enough(_known(1.0, narrow, rounds=LEAST_ROUNDS), spent_s=60, limit=0.0301) != ""
    assert enough(_known(1.0, wide, rounds=LEAST_ROUNDS), spent_s=60, limit=0.03) == ""
    assert enough(_known(0.5, 0.0, rounds=LEAST_ROUNDS), spent_s=60, limit=0.03) != "", "however bad it is"


def test_no_round_begins_that_would_end_after_half_an_hour() -> None:
    wide = _known(1.0, 1.0, rounds=9)
    assert enough(wide, spent_s=MOST_S * 0.9, limit=0.03) == ""
    assert "30 minutes" in enough(wide, spent_s=MOST_S * 0.91, limit=0.03)


def test_so_many_rounds_as_were_asked_for() -> None:
    assert enough(_known(1.0, 1.0, rounds=3), spent_s=1, limit=0.03, most_rounds=3) == "3 rounds were asked for"
    assert enough(_known(1.0, 1.0, rounds=2), spent_s=1, limit=0.03, most_rounds=3) == ""


@given(
    st.builds(_known, POSITIVE, st.floats(min_value=0, max_value=2), st.integers(1, 500)),
    st.floats(min_value=0, max_value=2 * MOST_S),
    st.floats(min_value=0.001, max_value=0.5),
)
def test_it_stops_only_for_a_reason(main: Estimate, spent_s: float, limit: float) -> None:
    stopped = enough(main, spent_s=spent_s, limit=limit) != ""
    known = main.rounds >= LEAST_ROUNDS and main.half_width <= limit
    late = spent_s * (main.rounds + 1) / main.rounds > MOST_S
    assert stopped == (known or late)


# --- the verdict


@pytest.mark.parametrize(
    ("figure", "cpu", "outcome", "text"),
    [
        (_known(0.971, 0.02), None, "not worse", "not worse than 3 %"),
        (_known(0.97, 0.02), None, "not worse", "not worse than 3 %"),
        (_known(0.96, 0.02), _known(1.5, 0.0), "worse", "worse, by 4 %"),
        (_known(0.80, 0.20), _known(0.99, 0.01), "not worse", "too wide: decided by CPU: not worse than 3 %"),
        (_known(1.20, 0.20), _known(0.95, 0.01), "worse", "too wide: decided by CPU: worse, by 5 %"),
        (_known(1.20, 0.20), _known(1.0, 0.04), "undecided", "too wide, and so is CPU: undecided"),
        (_known(1.20, 0.20), None, "undecided", "too wide, and so is CPU: undecided"),
    ],
)
def test_the_figure_decides_where_it_is_known_else_cpu(
    figure: Estimate, cpu: Estimate | None, outcome: str, text: str
) -> None:
    assert verdict(figure, cpu, 0.03) == Verdict(outcome=outcome, text=text)  # type: ignore[arg-type] # one of three


@given(RATIOS, RATIOS, st.floats(min_value=0.01, max_value=0.2))
def test_not_worse_is_never_said_of_a_median_below_the_limit(
    figure: list[float], cpu: list[float], limit: float
) -> None:
    one, other = estimate(figure), estimate(cpu)
    said = verdict(one, other, limit)
    decides = one if one.half_width <= limit else other
    assert (said.outcome == "undecided") == (decides.half_width > limit)
    assert (said.outcome == "not worse") == (decides.half_width <= limit and decides.median >= 1 - limit)


@pytest.mark.parametrize(
    ("outcomes", "code"), [([], 0), (["not worse"], 0), (["not worse", "worse"], 1), (["undecided"], 1)]
)
def test_only_what_is_surely_not_worse_passes(outcomes: list[str], code: int) -> None:
    assert exit_code(Verdict(outcome=one, text="") for one in outcomes) == code  # type: ignore[arg-type] # one of three


# --- figures and roles


def test_every_planned_bench_has_a_round_and_none_is_listed_as_a_bench_twice() -> None:
    assert set(PLANS) == set(ROUNDS)
    assert set(PLANS) - set(names()) == {"stations"}
    assert "ab" not in names()


@pytest.mark.parametrize(
    ("path", "higher"),
    [
        ("msg_s", True),
        ("sizes.10 KiB.msg_s", True),
        ("rows_s.empty", True),
        ("restart_s", False),
        ("single_write_ms.median", False),
        ("peak_mb.router", False),
        ("ratio_5m_to_empty", True),
        ("step.keda.ratio_to_ideal", False),
        ("raw_aio_pika_msg_s", None),
        ("by_hand.p50_ms", None),
        ("messages", None),
        ("s", None),
    ],
)
def test_a_figure_goes_by_its_unit(path: str, higher: bool | None) -> None:
    assert higher_is_better(path, ("ratio_to_ideal",)) == higher


def test_the_figures_of_a_bench_without_a_plan_are_read_from_its_json() -> None:
    result = {
        "msg_s": 10,
        "wait_ms": {"p50": 2.5},
        "spread": {"msg_s": [9, 11]},
        "error_s": 0,
        "ok_s": True,
        "name": "x",
    }
    found = figures_of(result, ())
    assert found == {"msg_s": 10.0, "wait_ms.p50": 2.5}
    assert [(one.name, one.higher_is_better) for one in plan_of(found, ()).figures] == [
        ("msg_s", True),
        ("wait_ms.p50", False),
    ]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("ray::ConsumerRouter.run", "router"),
        ("ray::Router", "router"),
        ("ray::PoolWorker.work", "worker"),
        ("ray::ResultStore", "store"),
        ("ray::Autoscaler", "autoscaler"),
        ("ray::IDLE", "ray"),
        ("ray::DashboardAgent", "ray"),
        ("ray-dashboard-JobHead-0 (python -B -c ...)", "ray"),
        ("/x/site-packages/ray/core/src/ray/raylet/raylet --node_ip=127.0.0.1", "ray"),
        ("/x/bin/python -u /x/site-packages/ray/_private/log_monitor.py", "ray"),
        ("/x/bin/python /y/rounds.py throughput", "bench"),
    ],
)
def test_a_process_has_its_role_by_its_title(title: str, name: str) -> None:
    assert role(title) == name


def _round(msg_s: float, **by_role: float) -> Measured:
    return Measured(result={"msg_s": msg_s}, cpu_us={"empty": by_role})


def test_rays_and_the_brokers_cpu_is_shown_and_not_counted() -> None:
    spent = {"router": 30.0, "worker": 20.0, "ray": 500.0, "broker": 70.0}
    assert counted_us(spent) == 50.0
    pairs = [(_round(100.0, **spent), _round(50.0, **spent | {"router": 80.0, "ray": 1.0}))] * 6
    row = report.row(Figure(name="msg_s", window="empty"), pairs, 0.03)
    assert (row.base, row.head, row.ratio.median) == (100.0, 50.0, 0.5)
    assert row.cpu_ratio is not None
    assert row.cpu_ratio.median == 0.5
    assert [one.role for one in report.cpu_rows("empty", pairs)] == ["broker", "ray", "router", "worker"]
    [total] = report.cpu_sums([Figure(name="msg_s", window="empty")], pairs)
    assert (total.base, total.head, total.ratio) == (50.0, 100.0, row.cpu_ratio)


def test_the_cpu_of_each_window_is_told_once_the_main_one_first() -> None:
    def side(small: float, large: float) -> Measured:
        cpu_us = {"large": {"router": large, "ray": 9.0}, "small": {"router": small}}
        return Measured(result={"msg_s": 1.0, "mb_s": 1.0, "large_msg_s": 1.0}, cpu_us=cpu_us)

    figures = [
        Figure(name="msg_s", window="small"),
        Figure(name="large_msg_s", window="large"),
        Figure(name="mb_s", window="large"),
    ]
    pairs = [(side(10.0, 400.0), side(20.0, 100.0))] * 6
    sums = report.cpu_sums(figures, pairs)
    assert [(one.window, one.base, one.head) for one in sums] == [("small", 10.0, 20.0), ("large", 400.0, 100.0)]
    facts = report.Facts(
        bench="toy",
        base="a",
        head="b",
        cpu_per="message",
        limit=0.03,
        rounds=6,
        seconds=1.0,
        stopped="so many",
        load=(0.0, 0.0),
    )
    rows = [report.row(figure, pairs, 0.03) for figure in figures]
    told = report.markdown(facts, rows, report.cpu_rows("small", pairs), sums)
    assert "| sum without ray and broker, small | 10 | 20 | 0.500 | 0.500 to 0.500 |" in told
    assert "| sum without ray and broker, large | 400 | 100 | 4.000 | 4.000 to 4.000 |" in told
    assert report.as_json(facts, rows, [], sums, pairs)["cpu_sum_us"]["large"]["ratio"]["median"] == 4.0


def test_a_figure_that_one_side_lacks_is_not_compared() -> None:
    figures = [Figure(name="msg_s", window="empty"), Figure(name="new_s", window="empty")]
    base, head = _round(1.0), Measured(result={"msg_s": 1.0, "new_s": 2.0}, cpu_us={"empty": {}})
    assert report.comparable(figures, [(base, head)]) == figures[:1]


def test_the_environment_is_made_by_what_the_makefile_names_wherever_it_lies(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="PREPARE"):
        prepare_script(tmp_path)
    for place in ("cluster/deploy/install/prepare.sh", "elsewhere/make-env"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
        assert prepare_script(tmp_path) == tmp_path / "cluster/deploy/install/prepare.sh"
    (tmp_path / "Makefile").write_text("PREPARE := elsewhere/make-env\n")
    assert prepare_script(tmp_path) == tmp_path / "elsewhere/make-env"
    assert prepare_script(ROOT).is_file()


# --- whole comparisons

BENCH_MAIN = """
import json, sys
from bench import toy
assert sys.argv[1:] == ["toy", "--quick", "--json"]
print("noise", file=sys.stderr)
print(json.dumps(toy.run(quick=True)))
"""

TOY = """
import os, signal, subprocess, sys
SPEED = {speed}
def run(*, quick):
    pid = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=2).pid if {forgets} else os.getpid()
    with open(os.environ["TOY_LOG"], "a") as log:
        print(SPEED, pid, os.environ["RABBITMQ_URL"], sys.executable, os.getcwd(), file=log)
    assert SPEED, "no speed at all"
    SPEED < 0 and signal.pause()
    return {{"msg_s": SPEED, "wait_ms": 5.0, "messages": 7}}
"""

MAKE_ENVIRONMENT = """#!/bin/sh
test "$1" = python && mkdir -p .venv/bin && echo made >>.venv/made
printf '#!/bin/sh\\nexec {python} "$@"\\n' >.venv/bin/python
chmod 755 .venv/bin/python
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A project with commits whose bench has a speed, and what its rounds left in a log."""

    folder: Path
    log: Path

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=toy", "-c", "user.email=toy@example.org")
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, speed: float, *, forgets: bool = False) -> str:
        """`forgets`: its bench leaves a daemon behind."""
        (self.folder / "bench" / "toy.py").write_text(TOY.format(speed=speed, forgets=forgets))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"speed {speed}")
        return self.git("rev-parse", "HEAD")

    def compare(self, base: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As `make bench-ab` would; six rounds are the fewest that have an interval."""
        command, environment = self.command(base, *arguments), self.environment()
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)

    def command(self, base: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "bench.ab", base, "toy", "--repository", str(self.folder), *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "TOY_LOG": str(self.log), "RABBITMQ_URL": "amqp://given"}

    def rounds(self) -> list[list[str]]:
        """Of each round of a side: speed, pid of its bench or of what that left, broker, interpreter, folder."""
        return [line.split() for line in self.log.read_text().splitlines()]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    project = Toy(folder=tmp_path / "project", log=tmp_path / "log")
    (project.folder / "bench").mkdir(parents=True)
    (project.folder / "bench" / "__init__.py").touch()
    (project.folder / "bench" / "__main__.py").write_text(BENCH_MAIN)
    (project.folder / "Makefile").write_text("PREPARE := ./make-environment\n")
    prepare = project.folder / "make-environment"
    prepare.write_text(MAKE_ENVIRONMENT.format(python=sys.executable))
    prepare.chmod(0o755)
    project.git("init", "--quiet")
    return project


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_equal_commits_pass_in_turns_each_in_its_worktree_and_its_environment(toy: Toy) -> None:
    base = toy.commit(100.0)
    toy.commit(100.5, forgets=True)
    (toy.folder / "bench" / "toy.py").write_text("raise SystemExit('not committed')")

    done = toy.compare(base, "--rounds", "6")
    assert done.returncode == 0, done.stderr
    assert "uncommitted changes are not measured" in done.stderr
    assert "| msg_s | 100 | 100.5 | 1.005 | 1.005 to 1.005 | not worse than 3 % |" in done.stdout
    assert "| wait_ms | 5 | 5 | 1.000 | 1.000 to 1.000 | not worse than 3 % |" in done.stdout
    assert "| CPU, µs per run | base | head |" in done.stdout
    assert "| bench |" in done.stdout
    assert "Rounds in turn: 6" in done.stdout
    assert "messages" not in done.stdout

    rounds = toy.rounds()
    assert [one[0] for one in rounds] == ["100.0", "100.5", "100.5", "100.0"] * 3
    assert {one[2] for one in rounds} == {"amqp://given"}
    cache = toy.folder / ".bench-ab"
    assert {one[4] for one in rounds} == {str(cache / "base"), str(cache / "head")}
    for side in ("base", "head"):
        assert (cache / side / ".venv" / "made").read_text() == "made\n"
    assert all(eventually_sync(lambda pid=int(one[1]): _gone(pid)) for one in rounds)


def test_a_worse_commit_fails_and_the_json_has_every_round(toy: Toy) -> None:
    base = toy.commit(100.0)
    head = toy.commit(90.0)
    done = toy.compare(base, "--rounds", "6", "--json", "--python", sys.executable)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["base"], found["head"], found["rounds"]) == (base, head, 6)
    assert found["figures"]["msg_s"]["ratio"] == {"median": 0.9, "low": 0.9, "high": 0.9}
    assert found["figures"]["msg_s"]["verdict"] == "worse, by 10 %"
    assert found["figures"]["wait_ms"]["outcome"] == "not worse"
    assert [one["head"]["result"]["msg_s"] for one in found["each_round"]] == [90.0] * 6
    assert toy.compare(base, "--rounds", "6", "--limit", "20", "--python", sys.executable).returncode == 0


def test_the_worktrees_are_used_again_and_nothing_of_an_earlier_commit_stays(toy: Toy) -> None:
    first = toy.commit(100.0)
    toy.commit(100.0)
    assert toy.compare(first, "--rounds", "1").returncode == 1, "one round tells nothing"
    (toy.folder / ".bench-ab" / "head" / "bench" / "toy.py").write_text("raise SystemExit('changed by hand')")
    (toy.folder / ".bench-ab" / "head" / "bench" / "json.py").write_text("raise SystemExit('left over')")
    toy.commit(50.0)
    toy.log.unlink()

    toy.compare("HEAD", "--rounds", "1")
    assert [one[0] for one in toy.rounds()] == ["50.0", "50.0"]
    assert len(toy.git("worktree", "list").splitlines()) == 3
    assert (toy.folder / ".bench-ab" / "head" / ".venv" / "made").read_text() == "made\n" * 2


def test_a_side_that_cannot_be_measured_is_no_verdict(toy: Toy) -> None:
    base = toy.commit(100.0)
    toy.commit(0, forgets=True)
    done = toy.compare(base, "--python", sys.executable)
    assert done.returncode == 2
    assert "a round of toy failed at head" in done.stderr
    assert "no speed at all" in done.stderr
    assert all(eventually_sync(lambda pid=int(one[1]): _gone(pid)) for one in toy.rounds())


def test_when_it_is_terminated_nothing_of_a_round_stays(toy: Toy) -> None:
    base = toy.commit(-1.0, forgets=True)
    with subprocess.Popen(toy.command(base, "--python", sys.executable), cwd=ROOT, env=toy.environment()) as driver:
        eventually_sync(lambda: toy.log.exists() and toy.rounds())
        driver.terminate()
        driver.terminate()  # as make and `timeout` do between them
        assert driver.wait(60) == 128 + signal.SIGTERM
    assert all(eventually_sync(lambda pid=int(one[1]): _gone(pid)) for one in toy.rounds())


def test_what_cannot_be_compared_is_refused_in_one_line(toy: Toy) -> None:
    toy.commit(100.0)
    refused = toy.compare("no-such-commit")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert toy.compare("HEAD", "--limit", "0").returncode == 2
    assert toy.compare("").returncode == 2

    (toy.folder / ".bench-ab").mkdir()
    with (toy.folder / ".bench-ab" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = toy.compare("HEAD")
    assert refused.returncode == 2
    assert "another comparison" in refused.stderr


def test_an_unknown_bench_is_refused_with_the_names() -> None:
    command = [sys.executable, "-m", "bench.ab", "HEAD", "no-such-bench"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "stations, store, throughput, worker" in refused.stderr

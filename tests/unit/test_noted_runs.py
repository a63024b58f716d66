"""The counts of a crash series see what they are there to see."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tests.kit.noted_runs import Tally, keys_run, tally

RUNS = [
    "1.0,on-time,0", "3.5,on-time,1",
    "2.0,early,0", "3.5,early,1",
    "5.0,twice,0", "5.5,twice,0",
    "9.0,lost,0",
]  # fmt: skip


def test_what_is_lost_doubled_early_and_run_again_is_counted(tmp_path: Path) -> None:
    results, runs = tmp_path / "results.duckdb", tmp_path / "runs.csv"
    with duckdb.connect(str(results)) as con:
        con.execute("CREATE TABLE results AS SELECT unnest(['on-time', 'early', 'twice', 'twice', 'strange']) AS key")
        con.execute("CREATE TABLE dead_letters AS SELECT 'parked' AS key")
    runs.write_text("".join(f"{line}\n" for line in RUNS))
    keys = ["on-time", "early", "twice", "lost"]
    assert keys_run(runs) == set(keys)
    assert tally(runs, results, keys, delay_s=2.0, since=5.2) == Tally(
        lost=1, doubled=1, again=1, early=1, retried=2, stall_s=3.5, late_s=0.5, dead=1
    )

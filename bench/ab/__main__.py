"""`python -m bench.ab BASE BENCH [--limit 3] [--rounds N] [--json]`: is HEAD not worse than BASE in this bench?

Exit code 0: not worse in any figure, 1: worse, or it cannot be told, 2: wrong usage, or nothing could be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench.__main__ import lower_is_better, names
from bench.ab import report
from bench.ab.comparison import Comparison, node
from bench.ab.plans import PLANS
from bench.ab.rules import LEAST_ROUNDS, exit_code
from bench.ab.sides import Repository, Unusable

ROOT = Path(__file__).parents[2]
USAGE = "make bench-ab BASE=commit BENCH=name"


def compare(given: argparse.Namespace) -> int:
    """The whole comparison; the exit code."""
    repository = Repository(given.repository)
    base, head = repository.commit(given.base), repository.commit("HEAD")
    _refuse_unknown(given.bench, repository, base, head)
    if repository.changed():
        _say("uncommitted changes are not measured: head is HEAD")
    began, load = time.monotonic(), _load()
    with repository.locked():
        _say(f"worktrees and environments in {repository.cache}")
        sides = repository.side("base", base, given.python), repository.side("head", head, given.python)
        comparison = Comparison(given.bench, *sides, _lower(given.bench))
        with node(needed=given.bench not in PLANS or PLANS[given.bench].broker) as broker:
            stopped = comparison.run(broker, limit=given.limit / 100, most_rounds=given.rounds)
    facts = report.Facts(
        bench=given.bench,
        base=base,
        head=head,
        cpu_per="message" if given.bench in PLANS else "run",
        limit=given.limit / 100,
        rounds=len(comparison.pairs),
        seconds=round(time.monotonic() - began, 1),
        stopped=stopped,
        load=(load, _load()),
    )
    return _print(facts, comparison, as_json=given.json)


def _print(facts: report.Facts, comparison: Comparison, *, as_json: bool) -> int:
    figures, pairs = comparison.figures(), comparison.pairs
    rows = [report.row(figure, pairs, facts.limit) for figure in figures]
    cpu, sums = report.cpu_rows(figures[0].window, pairs), report.cpu_sums(figures, pairs)
    found = (facts, rows, cpu, sums)
    print(json.dumps(report.as_json(*found, pairs)) if as_json else report.markdown(*found))
    return exit_code(row.verdict for row in rows if row.verdict)


def _refuse_unknown(bench: str, repository: Repository, base: str, head: str) -> None:
    known = repository.benches(base, PLANS) & repository.benches(head, PLANS)
    if bench not in known:
        raise Unusable(f"no bench {bench!r} in both commits, but {', '.join(sorted(known)) or 'none at all'}: {USAGE}")


def _lower(bench: str) -> tuple[str, ...]:
    return tuple(lower_is_better(bench)) if bench in names() else ()


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _say(line: str) -> None:
    print(f"bench-ab: {line}", file=sys.stderr, flush=True)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ab", description="Compare HEAD with BASE in one bench.")
    parser.add_argument("base", help=f"a commit; {USAGE}")
    parser.add_argument("bench", help=f"{', '.join(PLANS)}; or any other bench, in its quick form")
    parser.add_argument("--limit", type=float, default=3.0, help="percent that HEAD may be worse (3)")
    parser.add_argument(
        "--rounds", type=int, help=f"so many rounds; else {LEAST_ROUNDS} or more, until the interval is narrow"
    )
    parser.add_argument("--json", action="store_true", help="exactly one JSON value on standard output")
    parser.add_argument("--python", help="an interpreter for both sides, instead of an environment for each")
    parser.add_argument("--repository", type=Path, default=ROOT, help="another repository than this one")
    given = parser.parse_args(words)
    if not given.base or not given.bench:
        parser.error(USAGE)
    if not 0 < given.limit < 100 or (given.rounds is not None and given.rounds < 1):
        parser.error("LIMIT is a percentage between 0 and 100, ROUNDS at least 1")
    return given


def _terminated(*_: object) -> None:
    """Once: `timeout` and make may say it twice, which must not break off the cleaning up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def main(words: Sequence[str] | None = None) -> int:
    """Ends what it started also when it is terminated."""
    given = _arguments(words)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return compare(given)
    except Unusable as error:
        _say(str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 # Python's own exit code, 1, would say that HEAD is worse
        traceback.print_exc()
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench NAME [--json] [--quick]`: run one bench, or `list`, `all`, `compare BASE`, `check NAME`.

A bench is a module in this folder that defines `run(*, quick: bool) -> dict | list` and
`table(result) -> str` (Markdown). Ratios are better when higher, save those whose dotted path stands in the
module's `LOWER_IS_BETTER` tuple, in full or from some dot on.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.contracts import CONTRACTS, broken, paths
from bench.machine import surroundings

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ALLOWED_LOSS = 0.10
OTHERS = ("list", "all", "page", "compare", "check")


def names() -> list[str]:
    """Every bench in this folder, by name: the modules that define `run`."""
    sources = {path.stem: path for path in HERE.glob("*.py")}
    sources |= {path.parent.name: path for path in HERE.glob("*/__init__.py")}
    return sorted(name for name, path in sources.items() if _defines_run(path))


def _defines_run(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in _body(path))


def _body(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text()).body


def lower_is_better(name: str) -> set[str]:
    """Paths of `name`'s ratios that are better when lower; read without importing the bench."""
    path = next(path for path in (HERE / f"{name}.py", HERE / name / "__init__.py") if path.exists())
    for node in _body(path):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "LOWER_IS_BETTER":
            return set(ast.literal_eval(node.value))  # type: ignore[attr-defined] # an assignment has a value
    return set()


@contextmanager
def _only_result_on_stdout() -> Iterator[int]:
    """A descriptor for the result; whatever else is printed, also by child processes, goes to stderr."""
    sys.stdout.flush()
    result = os.dup(1)
    os.dup2(2, 1)
    try:
        yield result
    finally:
        sys.stdout.flush()
        os.dup2(result, 1)
        os.close(result)


def run_one(name: str, *, quick: bool, as_json: bool) -> None:
    """Run a bench, print its result, and keep it in `results/` unless it is a quick one."""
    with _only_result_on_stdout() as out:
        bench = importlib.import_module(f"bench.{name}")
        began = time.monotonic()
        result = bench.run(quick=quick)
        took_s = round(time.monotonic() - began, 1)
        if not quick:
            record = {"bench": name, **surroundings(), "took_s": took_s, "result": result}
            _write(RESULTS / f"{name}.json", record)
        text = json.dumps(result) if as_json else f"## {name}\n\n{bench.table(result)}"
        os.write(out, f"{text}\n".encode())


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def run_all(*, quick: bool, without: list[str]) -> int:
    """Run every bench in a process of its own and write one Markdown page; returns how many failed."""
    pages, failed = [], []
    for name in [one for one in names() if one not in without]:
        print(f"bench {name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "bench", name, *(["--quick"] if quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent, check=False)
        verdict = "done" if done.returncode == 0 else f"FAILED ({done.returncode})"
        print(f"bench {name}: {verdict} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        pages.append(done.stdout.strip())
        failed += [name] if done.returncode else []
    print(_page(pages, failed, quick))
    if not quick:
        write_page(failed)
    return len(failed)


def write_page(failed: list[str], results: Path = RESULTS) -> None:
    """Write README.md and all.json beside the kept results; each table says from when its result is."""
    _write_combined(results)
    kept = {name: one for name in names() if (one := _kept(name, results)) is not None}
    pages = [_kept_page(name, record) for name, record in kept.items()]
    (results / "README.md").write_text(_page(pages, failed, quick=False))


def _kept_page(name: str, record: dict[str, Any]) -> str:  # Any: JSON values
    try:
        table = importlib.import_module(f"bench.{name}").table(record["result"])
    except (KeyError, TypeError) as error:
        table = f"Kept by an earlier version of this bench ({error!r}): run `python -m bench {name}` again."
    return f"## {name}\n\n{record['date'][:10]}, commit {record['commit']}\n\n{table}"


def _page(pages: list[str], failed: list[str], quick: bool) -> str:
    facts = surroundings()
    rows = [
        ("date", facts["date"]),
        ("commit", facts["commit"]),
        *facts["machine"].items(),
        *facts["versions"].items(),
    ]
    rows += [("settings", ", ".join(f"{key}={value}" for key, value in facts["settings"].items()) or "defaults")]
    head = ["# Benches" + (" (quick: not for comparing)" if quick else ""), "", "| | |", "|---|---|"]
    head += [f"| {key} | {value} |" for key, value in rows]
    head += ["", f"Failed: {', '.join(failed)}"] if failed else []
    return "\n\n".join(["\n".join(head), *filter(None, pages)]) + "\n"


def _write_combined(results: Path) -> None:
    singles = [path for path in sorted(results.glob("*.json")) if path.stem != "all"]
    _write(results / "all.json", {path.stem: json.loads(path.read_text()) for path in singles})


def ratios(result: object, path: str = "") -> dict[str, float]:
    """Every number in a result whose dotted path ends in a key with the word `ratio`, as in `ratio_to_bare`."""
    if isinstance(result, dict):
        items = [(str(key), value) for key, value in result.items()]
    elif isinstance(result, list):
        items = [(_row_name(index, value), value) for index, value in enumerate(result)]
    elif isinstance(result, int | float) and "ratio" in path.rpartition(".")[2].split("_"):
        return {path: float(result)}
    else:
        return {}
    found: dict[str, float] = {}
    for key, value in items:
        found |= ratios(value, f"{path}.{key}" if path else key)
    return found


def _row_name(index: int, row: object) -> str:
    """The texts in a row, which name it wherever it stands, e.g. `step.rabbitray`; its place if it has none."""
    texts = [value for value in row.values() if isinstance(value, str)] if isinstance(row, dict) else []
    return ".".join(texts) or str(index)


def worse(name: str, before: object, after: object) -> list[str]:
    """One line for each ratio that got more than 10 % worse or is no longer measured."""
    lower = tuple(f".{path}" for path in lower_is_better(name))
    now, lines = ratios(after), []
    for path, was in ratios(before).items():
        if path not in now:
            lines.append(f"{name}.{path}: {was:.3f} -> not measured")
            continue
        loss = _loss(was, now[path], lower=f".{path}".endswith(lower))
        if loss > ALLOWED_LOSS:
            lines.append(f"{name}.{path}: {was:.3f} -> {now[path]:.3f} ({loss:.0%} worse)")
    return lines


def _loss(was: float, now: float, *, lower: bool) -> float:
    """By how much of `was` it got worse, negative: better. From 0, any loss is infinite."""
    lost = now - was if lower else was - now
    if was == 0:
        return math.inf if lost > 0 else 0.0
    return lost / abs(was)


def compare(base: Path) -> int:
    """Compare `results/` with an earlier `all.json` or `NAME.json`; returns the exit code.

    0: no ratio got worse, 1: one did, or is missing, 2: there was nothing to compare, which proves nothing.
    """
    found = json.loads(base.read_text())
    before = {found["bench"]: found} if "bench" in found else found
    after = {name: _kept(name) for name in before}
    if base.resolve().parent == RESULTS.resolve() and before == after:
        print(f"nothing compared: {base} holds the results that it would be compared with")
        return 2
    lines: list[str] = []
    for name, record in before.items():
        now = after[name]
        if now is None:
            lines.append(f"{name}: no result to compare, run `python -m bench {name}`")
        else:
            lines += worse(name, record["result"], now["result"])
    compared = sum(len(ratios(before[name]["result"])) for name, now in after.items() if now)
    if not compared:
        print("\n".join([*lines, f"nothing compared: no ratio in {base} that bench/results could be held against"]))
        return 2
    print("\n".join([*lines, f"{compared} ratios compared, {len(lines)} worse than {base} by more than 10 %"]))
    return min(1, len(lines))


def _kept(name: str, results: Path = RESULTS) -> dict[str, Any] | None:  # Any: JSON values
    """The last result of a bench, None without one."""
    path = results / f"{name}.json"
    return json.loads(path.read_text()) if name in names() and path.exists() else None


def check(name: str, text: str) -> int:
    """Whether what `python -m bench NAME --json` printed keeps to its contract; returns how much is wrong."""
    try:
        wrong = broken(name, json.loads(text))
    except ValueError as error:
        wrong = [f"{name}: not one JSON value: {error}"]
    print("\n".join(wrong or [f"{name}: all {len(paths(name))} figures of its contract are there"]))
    return len(wrong)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benches: " + ", ".join(names()))
    parser.add_argument("name", choices=[*names(), *OTHERS], metavar="|".join(["NAME", *OTHERS]))
    parser.add_argument("base", nargs="?", help="compare: an earlier all.json or NAME.json; check: a NAME")
    parser.add_argument("--json", action="store_true", help="exactly one JSON value on standard output")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; keeps no result")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="all: leave this one out")
    given = parser.parse_args()
    if given.name == "compare" and not (given.base and Path(given.base).is_file()):
        parser.error(f"compare needs the file of an earlier run, not {given.base}: make bench-compare BASE=file")
    if given.name == "check" and given.base not in CONTRACTS:
        parser.error(f"check needs a bench, one of {', '.join(CONTRACTS)}, and its JSON on standard input")
    return given


def main() -> int:
    """0: fine, 1: a bench failed, a ratio got worse or a figure is missing, 2: wrong usage, nothing to compare."""
    given = _arguments()
    if given.name == "list":
        print("\n".join(names()))
    elif given.name == "all":
        return min(1, run_all(quick=given.quick, without=given.without))
    elif given.name == "page":
        write_page([])
    elif given.name == "compare":
        return compare(Path(given.base))
    elif given.name == "check":
        return min(1, check(given.base, sys.stdin.read()))
    else:
        run_one(given.name, quick=given.quick, as_json=given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

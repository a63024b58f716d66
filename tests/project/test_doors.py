"""The targets of make, who imports what, and what a stranger takes for granted: help, pins, licence."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as bench
from tests.kit.root import ROOT

TARGETS = (
    "help",
    "demo",
    "test",
    "test-unit",
    "test-ray",
    "lint",
    "docs",
    "bench",
    "bench-compare",
    "bench-ab",
    "faults",
)


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment or None)


def _pins() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", text, re.MULTILINE))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _tracked() -> Iterator[tuple[str, str]]:
    listed = _run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.split()
    for name in listed:
        path = ROOT / name
        if path.suffix not in {".png", ".gif", ".lock"} and path.is_file():
            yield name, path.read_text(errors="replace")


def test_help_is_the_default_and_lists_every_target() -> None:
    shown = _run("make")
    assert shown.returncode == 0
    assert shown.stdout == _run("make", "help").stdout
    for target in TARGETS:
        assert re.search(rf"^  make {target} +\S", shown.stdout, re.MULTILINE), target


def test_what_rests_on_the_inside_of_ray_stands_in_one_module() -> None:
    """A later Ray may change it without a word: `make test-ray` tries that module, and nothing else."""
    floors = ("actors/", "autoscale/", "cluster/")
    inside = {
        name for name, text in _tracked() if name.startswith(floors) and re.search(r"ray\._(private|raylet)", text)
    }
    assert inside == {"actors/remote/compat/inside.py"}


def test_an_old_or_missing_python_is_one_line() -> None:
    refused = _run("cluster/deploy/install/prepare.sh", "python", PYTHON="no-such-python", PATH="/usr/bin:/bin")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "3.11" in refused.stderr


def test_what_is_there_is_not_installed_again() -> None:
    again = _run("cluster/deploy/install/prepare.sh", "broker")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_the_lock_has_every_direct_dependency_in_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    wanted = [*project["project"]["dependencies"], *(one for group in groups for one in group)]
    pins = {_plain(name) for name in _pins()}
    names = {_plain(re.match(r"[A-Za-z0-9._-]+", one).group()) for one in wanted}  # type: ignore[union-attr] # a requirement begins with its name
    assert names <= pins


def test_the_environment_is_what_the_lock_says() -> None:
    from importlib.metadata import version

    pins = _pins()
    for name in ("ray", "aio-pika", "duckdb", "pytest"):
        assert version(name) == pins[name]


def test_every_pin_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash)", text, re.MULTILINE)


def test_no_file_names_a_registry_host_or_a_path_of_a_machine() -> None:
    hosts = "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "deb" + r"\.debian\.org", "npm" + r"js\.org"))
    forbidden = re.compile(
        rf"{hosts}|(?<![\w.])/(?:work|farm|home/(?!ubuntu/|ray/)[a-z]+|Users)/|https?://\S+\.(?:whl|deb|tgz)\b"
    )
    found = [f"{name}: {hit.group()}" for name, text in _tracked() for hit in forbidden.finditer(text)]
    assert found == []


def test_the_otel_sdk_has_one_door() -> None:
    """Import-linter cannot tell `opentelemetry.sdk` from the API."""
    wrong = []
    for package in ("actors", "autoscale", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            inside = name.startswith("cluster/telemetry/")
            if not inside and any(one.startswith("opentelemetry.sdk") for one in _imports(path)):
                wrong.append(name)
    assert wrong == []


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_licence_is_the_one_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_an_unknown_bench_is_refused_with_the_names() -> None:
    refused = _run(sys.executable, "-m", "bench", "no-such-bench")
    assert refused.returncode == 2
    assert "compare" in refused.stderr


@pytest.fixture
def bench_folder(tmp_path: Path) -> Path:
    """A project with one bench that prints where it should not."""
    (tmp_path / "bench").mkdir()
    for name in ("__init__.py", "__main__.py", "contracts.py", "machine.py"):
        shutil.copy(ROOT / "bench" / name, tmp_path / "bench" / name)
    (tmp_path / "bench" / "toy.py").write_text(
        "LOWER_IS_BETTER = ('latency_ratio',)\n"
        "def run(*, quick):\n"
        "    print('noise')\n"
        "    return {'msg_s': 10 if quick else 20, 'ratio_to_bare': 0.9, 'latency_ratio': 1.0}\n"
        "def table(result):\n"
        "    return f'| {result[\"msg_s\"]} |'\n"
    )
    return tmp_path


def _bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=path)


def test_a_bench_prints_one_json_value_and_keeps_its_result(bench_folder: Path) -> None:
    assert _bench(bench_folder, "list").stdout == "toy\n"
    shown = _bench(bench_folder, "toy", "--json", "--quick")
    assert json.loads(shown.stdout)["msg_s"] == 10
    assert "noise" in shown.stderr
    assert not (bench_folder / "bench" / "results").exists()

    whole = _bench(bench_folder, "all")
    assert whole.returncode == 0
    page = (bench_folder / "bench" / "results" / "README.md").read_text()
    assert "| cores |" in page
    assert "| 20 |" in page
    kept = json.loads((bench_folder / "bench" / "results" / "toy.json").read_text())
    assert {"machine", "versions", "settings", "date", "result"} <= kept.keys()


def test_compare_fails_on_a_ratio_that_got_worse(bench_folder: Path) -> None:
    results = bench_folder / "bench" / "results"
    _bench(bench_folder, "all")
    earlier = json.loads((results / "all.json").read_text())
    base = bench_folder / "base.json"

    base.write_text(json.dumps(earlier))
    assert _bench(bench_folder, "compare", str(base)).returncode == 0

    earlier["toy"]["result"] |= {"ratio_to_bare": 1.2, "latency_ratio": 0.8}
    base.write_text(json.dumps(earlier))
    told = _bench(bench_folder, "compare", str(base))
    assert told.returncode == 1
    assert "toy.ratio_to_bare: 1.200 -> 0.900 (25% worse)" in told.stdout
    assert "toy.latency_ratio: 0.800 -> 1.000 (25% worse)" in told.stdout
    assert _bench(bench_folder, "compare", "missing.json").returncode == 2


def test_only_numbers_under_a_key_named_ratio_are_compared() -> None:
    result = {"ratio_to_bare": 1, "msg_s": 5, "sizes": [{"ratio": 0.5}], "ratios": {"a": 2.0}, "text_ratio": "x"}
    assert bench.ratios(result) == {"ratio_to_bare": 1.0, "sizes.0.ratio": 0.5}


BOUNDS_AND_NAMES = {"MessageLimits", "MessageFormat", "DEFAULT_LIMITS", "TypeCodes", "REPORT_CODES"}
READS_NO_PAYLOAD = {
    *("count_records", "is_packed_type", "plain_size", "read_head", "read_record_head", "split", "with_compression")
}


def test_the_router_reads_no_body_of_a_stranger() -> None:
    """It may stop or end whoever reads it, and the router is one for all."""
    places = [ROOT / "actors/message/parcel.py", *(ROOT / "actors/router").rglob("*.py")]
    imports = [
        node for place in places for node in ast.walk(ast.parse(place.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    of_wire = [node for node in imports if (node.module or "").startswith("rabbitray.actors.message.wire")]
    assert {one.name for node in of_wire for one in node.names} <= BOUNDS_AND_NAMES | READS_NO_PAYLOAD

"""What `pip install` gives: `import rabbitray`, the program `rabbitray`, and no other name, however it was built."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kit.installed import Installed, pip, shop
from tests.kit.root import ROOT

FLOORS = ("actors", "autoscale", "cluster")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION, NEEDED, EXTRAS = PROJECT["version"], PROJECT["dependencies"], PROJECT["optional-dependencies"]
NAME = f"rabbitray-{VERSION}"
BESIDE = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
"""What a source archive holds beside the code; the last two are hatchling's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was built from the tree, and a second wheel, from the archive."""

    archive: Path
    wheel: Path
    wheel_of_archive: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(folder)]
    subprocess.run(hatchling, cwd=ROOT, capture_output=True, check=True)
    archive, wheel = folder / f"{NAME}.tar.gz", folder / f"{NAME}-py3-none-any.whl"
    pip("wheel", "--no-deps", "--wheel-dir", str(folder / "again"), str(archive))
    return Built(archive=archive, wheel=wheel, wheel_of_archive=folder / "again" / wheel.name)


WAYS: dict[str, Callable[[Built], tuple[str, ...]]] = {
    "wheel": lambda built: (str(built.wheel),),
    "archive": lambda built: (str(built.archive),),
    "wheel of the archive": lambda built: (str(built.wheel_of_archive),),
    "pip install .": lambda _: (".",),
    "pip install -e .": lambda _: ("--editable", "."),
}


SAME_AS_THE_WHEEL = pytest.param("wheel of the archive", marks=pytest.mark.long)  # byte for byte, see below


@pytest.fixture(scope="module", params=[SAME_AS_THE_WHEEL if way == "wheel of the archive" else way for way in WAYS])
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed") / "env", *WAYS[request.param](built))


def tracked() -> set[str]:
    """The project's own files below `rabbitray/`, by the names under which they are installed."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "rabbitray", *FLOORS]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    files = [name for name in names if (ROOT / name).is_file()]
    return {name if name.startswith("rabbitray/") else f"rabbitray/{name}" for name in files}


def wheel_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


# what is packed


def test_a_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    code = {name for name in wheel_files(built.wheel) if not name.startswith(f"{NAME}.dist-info/")}
    assert code == tracked()
    assert "rabbitray/py.typed" in code, "type checkers read the types of the package"
    assert {Path(name).suffix for name in code} >= {".py", ".j2", ".css", ".js", ".json", ".yml", ".yaml", ".conf"}


def test_a_wheel_of_the_archive_is_the_wheel_of_the_tree(built: Built) -> None:
    assert wheel_files(built.wheel_of_archive) == wheel_files(built.wheel)


def test_an_archive_holds_the_package_and_what_a_reader_looks_for(built: Built) -> None:
    with tarfile.open(built.archive) as opened:
        members = opened.getmembers()
    assert all(member.isfile() for member in members), "a link leads nowhere once it is unpacked"
    assert {member.name.removeprefix(f"{NAME}/") for member in members} == tracked() | BESIDE


# what is installed

FOUND = """\
import json, pkgutil, sys
from importlib.util import find_spec
names = ("rabbitray", "actors", "autoscale", "cluster", "tests", "bench", "docs")
print(json.dumps({"names": [name for name in names if find_spec(name)], "path": sys.path}))
"""
PUBLIC = """\
import json, rabbitray
assert rabbitray.errors.Reject is rabbitray.Reject and rabbitray.testing.work
from rabbitray import Job, Publisher, PublisherConfig, Reject, Retry, SyncPublisher, batch
from rabbitray.testing import work
outcomes = work("shop:handle", [Job(payload={"n": 1}), Job()])
print(json.dumps([rabbitray.__file__, [[one.status, one.result] for one in outcomes]]))
"""


def test_one_name_is_importable(installed: Installed, tmp_path: Path) -> None:
    found = installed.answer(FOUND, tmp_path)
    assert found["names"] == ["rabbitray"]
    assert str(ROOT) not in found["path"]
    refused = installed.run(installed.python, "-c", "import actors", cwd=tmp_path)
    assert refused.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'actors'"


def test_nothing_else_lies_in_the_site_packages(installed: Installed) -> None:
    """An editable install has a line of the path, which names a folder with one link in it."""
    ours = {f"{NAME}.dist-info", "rabbitray", "_rabbitray.pth"}
    assert {path.name for path in installed.packages.iterdir()} - {"dependencies.pth", "__pycache__"} <= ours


def test_every_way_needs_the_same_packages(installed: Installed) -> None:
    """uv takes them from pyproject.toml, pip from what was built."""
    metadata = Parser().parsestr((installed.packages / f"{NAME}.dist-info" / "METADATA").read_text())
    listed = {Requirement(one) for one in metadata.get_all("Requires-Dist", [])}
    assert {one for one in listed if "extra" not in str(one.marker)} == {Requirement(one) for one in NEEDED}
    extras = {(name, canonicalize_name(Requirement(one).name)) for name, wanted in EXTRAS.items() for one in wanted}
    assert {
        (name, canonicalize_name(one.name))
        for one in listed
        for name in EXTRAS
        if f'extra == "{name}"' in str(one.marker)
    } == extras


def test_a_checkout_called_rabbitray_hides_nothing_in_the_folder_above(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "rabbitray" / "rabbitray").mkdir(parents=True)
    assert installed.answer("from rabbitray import Job; print(len([Job]))", tmp_path) == 1


def test_the_program_tells_its_version(installed: Installed, tmp_path: Path) -> None:
    for command in ([installed.program], [installed.python, "-m", "rabbitray"]):
        assert installed.run(*command, "--version", cwd=tmp_path).stdout == f"rabbitray, version {VERSION}\n"


def test_a_project_with_names_of_ours_tests_its_handler(installed: Installed, tmp_path: Path) -> None:
    file, (done, rejected) = installed.answer(PUBLIC, shop(tmp_path / "shop"))
    assert Path(file).is_relative_to(installed.packages) or Path(file).resolve() == ROOT / "rabbitray" / "__init__.py"
    assert done[0] == "DONE"
    assert set(done[1]["own"].values()) == {"shop"}
    assert rejected[0] == "DEAD"


# in a checkout


@pytest.mark.parametrize("name", FLOORS)
def test_a_bare_name_in_a_checkout_is_refused_with_the_right_one(name: str) -> None:
    for statement in (f"import {name}", f"import {name}.anything"):
        ran = subprocess.run([sys.executable, "-c", statement], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert ran.stderr.splitlines()[-1].startswith("ImportError: ")
        assert ran.stderr.splitlines()[-1].endswith(f"`{name}` is imported as `rabbitray.{name}`")


def test_no_file_says_an_old_name() -> None:
    """The change log tells the old names, and this file asks for one."""
    listing = ["git", "grep", "-nP", rf"(?<![\w.])(-m|from|import) ({'|'.join(FLOORS)})\b"]
    except_here = [":!CHANGELOG.md", f":!{Path(__file__).relative_to(ROOT)}"]
    found = subprocess.run([*listing, "--", *except_here], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")

"""A folder of wheels, as a company's own index would be: ours, built here, and what it depends on."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.kit.root import ROOT


def wheels(folder: Path, packages: str) -> Path:
    """Makes a folder from which `pip install rabbitray` works without a network.

    The wheel of the project is the one that a release would have. Those of its dependencies hold their names, versions
    and programs, and a path to `packages`, where the files of all of them lie: installing takes a second instead of a
    minute and a gigabyte for each host.
    """
    folder.mkdir()
    _build(folder)
    ours = next(folder.glob("rabbitray-*.whl"))
    for needed in _requirements(ours):
        _stand_in(distribution(needed.name), folder, packages)
    return folder


def _build(folder: Path) -> None:
    quiet = ("--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check")
    how = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder))
    command = [sys.executable, "-m", "pip", *quiet, "wheel", *how, "."]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _requirements(wheel: Path) -> list[Requirement]:
    """What it needs without any extra."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (one for one in opened.namelist() if one.endswith(".dist-info/METADATA"))
        lines = opened.read(name).decode().partition("\n\n")[0].splitlines()
    found = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def _stand_in(real: Distribution, folder: Path, packages: str) -> None:
    name = real.name.replace("-", "_")
    info = f"{name}-{real.version}.dist-info"
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in real.metadata.get_all("Provides-Extra") or ())
    programs = "".join(f"{one.name} = {one.value}\n" for one in real.entry_points if one.group == "console_scripts")
    files = {
        f"{name}_of_the_tests.pth": f"{packages}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {real.name}\nVersion: {real.version}\n{extras}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{programs}",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{real.version}-py3-none-any.whl", "w") as out:
        for file, text in files.items():
            out.writestr(file, text)

"""The first process of a host in namespaces: `python host_init.py`, with a plan of `hosts.Host` on stdin.

Mounts the host's own file system, starts its sshd and waits for orphans until it is killed. It runs before anything of
ours can be imported, so it knows the standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

SHARED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt")
"""What the hosts have of the machine, read-only. /etc is a copy; everything else is a host's own."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def bind(source: Path, target: Path, *, writable: bool = False) -> None:
    """Shows a file or folder of the machine at another place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    mount("--rbind", source, target)
    if not writable:
        mount("-o", "remount,bind,ro", target)


def show_shared(root: Path) -> None:
    for name in SHARED:
        source = Path("/", name)
        if source.is_symlink():
            if not (root / name).is_symlink():
                (root / name).symlink_to(source.readlink())
        elif source.is_dir():
            bind(source, root / name)


def mount_own(root: Path) -> None:
    """What a machine makes anew when it boots: /tmp, /run, /dev, /proc."""
    for name, mode in {"tmp": "1777", "run": "755", "dev": "755"}.items():
        (root / name).mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", root / name)
    for name in DEVICES:
        bind(Path("/dev", name), root / "dev" / name, writable=True)
    for name in ("dev/pts", "dev/shm", "run/sshd", "proc", "sys"):
        (root / name).mkdir(exist_ok=True)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", root / "dev/pts")
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "dev/shm")
    mount("-t", "proc", "proc", root / "proc")
    mount("--rbind", "/sys", root / "sys")


def furnish(root: Path, files: dict[str, str]) -> None:
    """The disk of a new machine: a copy of /etc, an empty home of root. A second boot finds it as it was left."""
    if (root / "etc").exists():
        return
    shutil.copytree("/etc", root / "etc", symlinks=True)
    for name in ("srv", "var/log", "var/tmp"):
        (root / name).mkdir(parents=True)
    (root / "var/log/lastlog").touch()
    shutil.copytree("/etc/skel", root / "root")
    for name, text in files.items():
        (root / name).parent.mkdir(mode=0o700, exist_ok=True)
        (root / name).touch(mode=0o600 if name.startswith("root/") else 0o644)
        (root / name).write_text(text)


def enter(root: Path) -> None:
    """`root` is / from here on, and nothing of the machine is left below it."""
    (root / ".machine").mkdir(exist_ok=True)
    os.chdir(root)
    subprocess.run(["pivot_root", ".", ".machine"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/.machine"], check=True)


def main(plan: dict[str, Any]) -> None:
    os.umask(0o022)
    root = Path(plan["root"])
    mount("--make-rprivate", "/")
    mount("--bind", root, root)
    show_shared(root)
    furnish(root, plan["files"])
    mount_own(root)
    for source, target in plan["shown"].items():
        bind(Path(source), root / target.lstrip("/"), writable=target in plan["writable"])
    enter(root)
    socket.sethostname(plan["name"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-o", plan["sshd"]], stdin=subprocess.DEVNULL)
    while True:
        os.wait()


if __name__ == "__main__":
    main(json.load(sys.stdin))

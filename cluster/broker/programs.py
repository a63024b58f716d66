"""Which RabbitMQ a private node runs: the machine's own, or one in a folder beside it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.settings import private_node

INSTALL_HINT: Final = (
    "RabbitMQ is not installed: run `apt-get install --no-install-recommends rabbitmq-server` as root, "
    "or set RABBITMQ_URL to a broker that runs"
)
FETCH: Final = "cluster/deploy/install/rabbitmq.sh"
SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

_SERIES: Final = re.compile(r"\d+\.\d+")
_PACKAGED: Final = Path("/usr/lib/rabbitmq/bin")
_UNPACKED: Final = Path("root/usr/lib")  # as FETCH leaves it
_RELEASE: Final = re.compile(r"rabbitmq_server-([0-9][^/]*)")


@dataclass(frozen=True, slots=True)
class Programs:
    """RabbitMQ's scripts and Erlang's programs. `folder`: of an unpacked RabbitMQ; None for the machine's own.

    Such a folder is one that FETCH made (RabbitMQ with its own Erlang), or RabbitMQ's own archive for any Unix
    (`sbin/` in it), which runs on the machine's Erlang.
    """

    folder: Path | None = None

    def script(self, name: str) -> str:
        """Path of one of RabbitMQ's own scripts; ConfigurationError with what to install where there is none.

        Distribution packages put a wrapper on the PATH that changes user and directory, so the real script is
        looked for first.
        """
        if self.folder is not None:
            return _first(name, self.folder / _UNPACKED / "rabbitmq/bin", self.folder / "sbin") or self._missing(name)
        packaged = _first(name, _PACKAGED)
        if packaged is not None:
            return packaged
        found = _on_path(name)
        if found is None:
            raise ConfigurationError(INSTALL_HINT)
        return str(Path(found).resolve())

    def erlang(self, name: str) -> str:
        """Path of one of Erlang's programs, `erl` or `epmd`; ConfigurationError where there is none."""
        own = _first(name, self.folder / _UNPACKED / "erlang/bin") if self.folder is not None else None
        found = own or _on_path(name)
        if found is None:
            raise ConfigurationError(f"`{name}` of Erlang is missing. {INSTALL_HINT}")
        return found

    @property
    def version(self) -> str:
        """RabbitMQ's version, e.g. `4.3.6`, from where its scripts lie; empty where that does not tell."""
        match = _RELEASE.search(str(Path(self.script("rabbitmq-server")).resolve()))
        return match[1] if match else ""

    def _missing(self, name: str) -> str:
        raise ConfigurationError(f"there is no RabbitMQ in {self.folder}: {name} is missing")


MACHINES: Final = Programs()


def programs(choice: str | None = None, machines: Programs = MACHINES) -> Programs:
    """The RabbitMQ of a choice; None: what RABBITRAY_RABBITMQ says. `machines`: the machine's own.

    Empty: the machine's own. A series (`4.3`): the machine's own where it is of that series, else what FETCH put into
    the user's cache. Anything else is a folder. Raises ConfigurationError where it is not there.
    """
    wanted = private_node()
    choice = wanted.rabbitmq if choice is None else choice
    if not choice:
        return machines
    if not _SERIES.fullmatch(choice):
        return _with_scripts(Programs(Path(choice).expanduser().absolute()))
    if _version(machines).startswith(f"{choice}."):
        return machines
    folder = wanted.cache / f"rabbitmq-{choice}"
    if not folder.exists():
        raise ConfigurationError(f"RabbitMQ {choice} is not here: run `{FETCH} {choice}`, which puts it into {folder}")
    return _with_scripts(Programs(folder))


def _with_scripts(found: Programs) -> Programs:
    found.script("rabbitmq-server")
    return found


def _version(found: Programs) -> str:
    try:
        return found.version
    except ConfigurationError:
        return ""


def _first(name: str, *folders: Path) -> str | None:
    return next((str(folder / name) for folder in folders if (folder / name).exists()), None)


def _on_path(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)

"""The edge where errors become lines: each public exception that can come this far is one line with the next step."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import pkgutil
import ssl
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import aio_pika.exceptions
import aiormq.exceptions
import duckdb
import pamqp.exceptions
import pyarrow as pa
import pytest
import ray.exceptions
from aiormq.abc import DeliveredMessage
from click.exceptions import Exit
from pamqp.commands import Basic
from pamqp.header import ContentHeader

import rabbitray
from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.secret import NO_SECRETS
from rabbitray.cluster.cli.errors import STEPS, errors_told, foreseen, tell_end

TEXT = "something was said"
RETURNED = DeliveredMessage(
    delivery=Basic.Return(312, "NO_ROUTE", "", "jobs"),
    header=ContentHeader(properties=Basic.Properties()),
    body=b"",
    channel=None,  # type: ignore[arg-type] # none is needed
)
FACTS: dict[str, Any] = {  # what the constructors of some ask for
    "DecodeError": ("bad_json", TEXT),
    "StoreLockedError": (TEXT, 7),
    "DeliveryError": (None, Basic.Nack(delivery_tag=1)),
    "PublishError": (RETURNED, Basic.Ack(delivery_tag=1)),
    "RayTaskError": ("f", TEXT, ValueError(TEXT)),
    "UnserializableException": (TEXT,),
    "NodeDiedError": (TEXT,),
    "UnmarshalingException": ("Basic.Deliver", TEXT),
    "ActorUnavailableError": (TEXT, None),
    "ReferenceCountingAssertionError": ("ab", "", ""),
    "ObjectLostError": ("ab", "", ""),
}


def made(kind: type[BaseException]) -> BaseException:
    """One of that class, as far as it lets itself be made."""
    for arguments in (FACTS.get(kind.__name__), (TEXT,), ("ab", "", ""), (), (None,)):
        if arguments is None:
            continue
        try:
            return kind(*arguments)
        except Exception:  # noqa: BLE001 # it wants other arguments
            continue
    found = kind.__new__(kind)
    found.args = (TEXT,)
    return found


def classes(module: Any, base: type[BaseException] = Exception) -> list[type[BaseException]]:
    """The public exceptions of a module."""
    found = [one for name, one in inspect.getmembers(module, inspect.isclass) if not name.startswith("_")]
    return sorted({one for one in found if issubclass(one, base)}, key=lambda one: one.__name__)


def subclasses(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for one in base.__subclasses__():
        yield from subclasses(one)


def of_ours() -> list[type[BaseException]]:
    """Every class below RabbitrayError, in whatever module it is."""
    for module in pkgutil.walk_packages(rabbitray.__path__, "rabbitray."):
        if "__main__" not in module.name:
            import_module(module.name)
    return sorted(set(subclasses(RabbitrayError)), key=lambda one: one.__name__)


FOREIGN = [
    *(one for one in classes(aiormq.exceptions) if one.__module__.startswith("aiormq")),
    *(one for one in classes(aio_pika.exceptions) if one.__module__.startswith(("aio_pika", "aiormq"))),
    *classes(pamqp.exceptions),
    *(one for one in classes(ray.exceptions) if one.__module__.startswith("ray")),
    *classes(duckdb, duckdb.Error),
    *classes(pa, pa.ArrowException),
    *(one for one in subclasses(OSError) if one.__module__ in ("builtins", "socket", "ssl", "shutil")),
    MemoryError,
    asyncio.TimeoutError,
    ssl.SSLCertVerificationError,
]


def told(error: Exception, capfd: pytest.CaptureFixture[str]) -> str:
    """The line, without its mark."""
    assert tell_end(error, NO_SECRETS) in (1, 2, 3)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err.removeprefix("error: ").strip()


def test_each_error_of_libraries_and_system_is_one_line_with_a_step(capfd: pytest.CaptureFixture[str]) -> None:
    kinds = set(FOREIGN)
    assert len(kinds) > 150
    for kind in kinds:
        error = made(kind)
        assert isinstance(error, Exception)
        line = told(error, capfd)
        said, _, step = line.rpartition("; ")
        assert said, (kind, line)
        assert len(step) > 8, (kind, line)


def test_each_error_of_ours_is_its_own_line(capfd: pytest.CaptureFixture[str]) -> None:
    kinds = of_ours()
    assert len(kinds) > 20
    for kind in kinds:
        error = made(kind)
        assert isinstance(error, RabbitrayError)
        assert tell_end(error, NO_SECRETS) == error.exit_code
        err = capfd.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize("code", [*STEPS, errno.EIO, errno.ECONNRESET], ids=errno.errorcode.get)
def test_the_systems_errors_name_the_place_and_the_step(code: int, capfd: pytest.CaptureFixture[str]) -> None:
    line = told(OSError(code, os.strerror(code), "out/all.parquet"), capfd)
    assert line.startswith(f"out/all.parquet: {os.strerror(code)}; ")
    assert line.endswith(STEPS.get(code, "looks at all that a pool needs"))


def test_words_of_libraries(capfd: pytest.CaptureFixture[str]) -> None:
    lost = ray.exceptions.RaySystemError("first\n  Traceback (of another process)\nlast words")
    assert told(lost, capfd).startswith("Ray: ")
    refused = aiormq.exceptions.ConnectionNotAllowed("NOT_ALLOWED - vhost x not found")
    assert "vhost refused (NOT_ALLOWED - vhost x not found); check the path" in told(refused, capfd)
    assert "no answer in time; run it again" in told(TimeoutError(), capfd)
    assert told(pa.ArrowInvalid("no such column\nsecond line"), capfd).startswith("Arrow: no such column; ")


def test_a_file_that_hides_pythons_own_module_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`queue.py` is what one calls a handler for a queue."""
    monkeypatch.chdir(tmp_path)
    assert foreseen(ImportError("cannot import name Queue"), NO_SECRETS) is None
    hiding = ModuleType("queue")
    hiding.__file__ = str(tmp_path / "queue.py")
    monkeypatch.setitem(sys.modules, "queue", hiding)
    line = told(ImportError("cannot import name Queue"), capfd)
    assert (
        line == f"{tmp_path}/queue.py hides a module of Python that has its name; rename it, or work in another folder"
    )


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), TypeError("x"), AssertionError("x")])
def test_a_mistake_of_ours_keeps_its_traceback(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    assert foreseen(error, NO_SECRETS) is None
    with pytest.raises(Exit) as ended, errors_told(NO_SECRETS):
        raise error
    assert ended.value.exit_code == 1
    assert "Traceback" in capfd.readouterr().err


def test_each_mistake_in_the_settings_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert tell_end(ConfigurationError("one\ntwo"), NO_SECRETS) == 2
    assert capfd.readouterr().err == "error: one\nerror: two\n"

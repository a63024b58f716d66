"""Our log lines go on whatever the user's code does to Python's logging; what it sets up for itself stays."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rabbitray import Job
from rabbitray.actors.errors import HandlerLoadError
from rabbitray.actors.worker.handler.loading import find, load
from rabbitray.cluster.telemetry.logs import LogConfig, start_logging
from tests.kit.worker_batches import buffer, whole
from tests.unit.worker.test_worker import handler, worker_of

BY_DICT = {"version": 1, "handlers": {"null": {"class": "logging.NullHandler"}}, "root": {"handlers": ["null"]}}
WAYS: dict[str, str] = {
    "dictConfig": f"import logging.config; logging.config.dictConfig({BY_DICT})",
    "dictConfig at WARNING": "import logging.config; logging.config.dictConfig("
    "{'version': 1, 'handlers': {}, 'root': {'level': 'WARNING', 'handlers': []}})",
    "basicConfig": "import logging; logging.basicConfig(force=True, level='ERROR')",
    "only disables": "import logging.config; logging.config.dictConfig({'version': 1})",
    "handlers cleared": "import logging; logging.getLogger().handlers.clear()",
}

ours = logging.getLogger("rabbitray.test_own_logging")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Our log, as a process of the pool has it; afterwards all of Python's logging is as it was."""
    root, package = logging.getLogger(), logging.getLogger("rabbitray")
    handlers, levels = root.handlers[:], (root.level, package.level)
    stream = io.StringIO()
    start_logging(LogConfig(), "worker", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


def lines(log: io.StringIO) -> list[str]:
    ours.info("goes on")
    return [line.split(": ", 1)[1] for line in log.getvalue().splitlines()]


SAID = "The handler's code has set up Python's logging anew: our lines go on beside its own"


@pytest.mark.parametrize("way", WAYS)
def test_importing_the_users_module_takes_no_line_of_ours(
    way: str, log: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"sets_up_logging_{list(WAYS).index(way)}"
    (tmp_path / f"{name}.py").write_text(f"{WAYS[way]}\ndef handle(job): pass\n")
    find(f"{name}:handle")
    assert lines(log) == [SAID, "goes on"]
    assert ("null" in {handler.get_name() for handler in logging.getLogger().handlers}) == (way == "dictConfig")


def test_nor_does_setting_up_or_a_module_that_cannot_be_imported(
    log: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = f"class Handler:\n  def setup(self):\n    {WAYS['dictConfig']}\n  def __call__(self, job): pass\n"
    (tmp_path / "sets_up_logging_late.py").write_text(text)
    load("sets_up_logging_late:Handler")
    assert lines(log) == [SAID, "goes on"]
    (tmp_path / "sets_up_logging_and_fails.py").write_text(f"{WAYS['dictConfig']}\nraise OSError\n")
    with pytest.raises(HandlerLoadError):
        find("sets_up_logging_and_fails:handle")
    assert lines(log) == [SAID, "goes on", SAID, "goes on"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_takes_the_lines_until_its_part_only(way: str, log: io.StringIO) -> None:
    call: Callable[[Job], None] = lambda job: exec(WAYS[way])  # noqa: E731 # our own text
    async with worker_of(handler(call)) as worker:
        await whole(worker, buffer(1))
        assert lines(log) == [SAID, "goes on"]


def test_logging_of_ones_own_that_takes_nothing_from_us_is_not_mentioned(
    log: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "import logging\nlogging.getLogger('mine').addHandler(logging.NullHandler())\ndef handle(job): pass\n"
    (tmp_path / "sets_up_its_own.py").write_text(text)
    find("sets_up_its_own:handle")
    assert lines(log) == ["goes on"]

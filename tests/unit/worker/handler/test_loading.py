"""Loading the user's code: shapes, and errors in one line that say what to do."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

from rabbitray.actors.errors import HandlerLoadError, RabbitrayError
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.worker.actor import _load
from rabbitray.actors.worker.handler.loading import find, load
from rabbitray.actors.worker.handler.users_modules import FOLDERS_MOST, where_it_lies
from tests.kit.canary import new_canary
from tests.kit.root import ROOT

SAMPLES = "tests.kit.sample_handlers"


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("plain", "sync"),
        ("asynchronous", "async"),
        ("many", "batch"),
        ("many_asynchronous", "async_batch"),
        ("WithSetUp", "sync"),
        ("AsynchronousWithSetUp", "async"),
        ("ManyWithSetUp", "batch"),
    ],
)
def test_the_shape_of_a_handler_is_found(name: str, style: str) -> None:
    assert load(f"{SAMPLES}:{name}").style == style


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nothing", "is not of the form module:attr"),
        (":handle", "is not of the form module:attr"),
        ("module:", "is not of the form module:attr"),
        ("no_such_module:handle", "no module named 'no_such_module'"),
        ("tests.no_such_module:handle", "no module named 'tests.no_such_module'"),
        (f"{SAMPLES}:plian", "did you mean 'plain'?"),
        (f"{SAMPLES}:plain.nothing", "has no 'nothing'"),
        (f"{SAMPLES}:NOT_CALLABLE", "is of type int, not a function or a class"),
        (f"{SAMPLES}:NotCallable", "is a class without __call__"),
        (f"{SAMPLES}:AsynchronousSetUp", "setup must be a plain function"),
        (f"{SAMPLES}:two_arguments", "is called with one argument, the job: missing a required argument: 'database'"),
        (f"{SAMPLES}:no_argument", "is called with one argument, the job: too many positional arguments"),
        (f"{SAMPLES}:named_only", "is called with one argument, the job: too many positional arguments"),
        (f"{SAMPLES}:needs_a_name", "is called with one argument, the job: missing a required argument: 'database'"),
        (f"{SAMPLES}:many_and_one_more", "is called with one argument, the list of jobs: missing a required argument"),
        (f"{SAMPLES}:WithSetUp.__call__", "is called with one argument, the job: missing a required argument: 'job'"),
        (f"{SAMPLES}:CallOfTwo", "is called with one argument, the job: missing a required argument: 'database'"),
        (f"{SAMPLES}:MadeOfOne", "is a class that is made without arguments: missing a required argument: 'database'"),
        (f"{SAMPLES}:SetUpOfOne", "setup is called without arguments: missing a required argument: 'database'"),
        (f"{SAMPLES}:generator", "is a generator: return a result instead of yielding"),
        (f"{SAMPLES}:asynchronous_generator", "is a generator: return a result instead of yielding"),
        (f"{SAMPLES}:GeneratorCall", "is a generator: return a result instead of yielding"),
        (f"{SAMPLES}:PARTIAL_GENERATOR", "is a generator: return a result instead of yielding"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(path: str, says: str) -> None:
    with pytest.raises(HandlerLoadError) as caught:
        find(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import numpyy_not_installed", "needs 'numpyy_not_installed', which is not installed"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(HandlerLoadError) as caught:
        find(f"{name}:handle")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["injected", "with_defaults", "any_arguments", "PARTIAL", "CallIsStatic", "print"])
def test_a_signature_that_takes_a_job_is_taken(name: str) -> None:
    """A decorator may fill in what the function that it wraps needs."""
    find(f"{SAMPLES}:{name}" if name != "print" else "builtins:print")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ExitsInSetUp", "could not be set up: SystemExit: MAIL_TOKEN is not set"),
        ("ExitsWhenMade", "could not be made: SystemExit: MAIL_TOKEN is not set"),
        ("InterruptsSetUp", "could not be set up: KeyboardInterrupt:"),
        ("SetUpIsAwaitable", "setup must be a plain function, and returned an awaitable"),
    ],
)
def test_what_would_end_the_process_in_set_up_is_a_start_error_in_words(name: str, says: str) -> None:
    with pytest.raises(HandlerLoadError, match=says):
        load(f"{SAMPLES}:{name}")


def test_an_error_of_the_users_set_up_passes_through() -> None:
    with pytest.raises(RuntimeError, match="no database"):
        load(f"{SAMPLES}:FailingSetUp")


def test_finding_sets_nothing_up() -> None:
    assert find(f"{SAMPLES}:FailingSetUp").__name__ == "FailingSetUp"


def test_what_ray_shows_of_a_failed_set_up_holds_no_secret_not_even_in_a_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "careless_set_up.py").write_text(
        "class Handler:\n"
        "    def setup(self):\n"
        f"        try: raise OSError({url!r})\n"
        "        except OSError as error: raise RuntimeError('no model') from error\n"
        "    def __call__(self, job): pass\n"
    )
    with pytest.raises(RabbitrayError) as failed:
        _load("handler", "careless_set_up:Handler", load, Redactor(Secret(url)))
    shown = "".join(traceback.format_exception(failed.value))
    assert "RuntimeError: no model" in str(failed.value)
    assert canary.word not in shown
    assert "The handler careless_set_up:Handler could not be set up" in caplog.text


FOLDER = {
    "jobs/__init__.py": "",
    "jobs/work.py": "import helper\ndef handle(job): ...",
    "jobs/helper.py": "",
    "src/own_work.py": "def handle(job): ...",
    "top_work.py": "import srcmod",
    "src/srcmod.py": "",
    "foreign_work.py": "import nowhere_to_be_found",
    "json/__init__.py": "",
    "json/work.py": "def handle(job): ...",
    "queue.py": "def handle(job): ...",
}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("jobs.work:handle", "needs 'helper', which is jobs/helper.py, but not on the path: set PYTHONPATH={}/jobs, or "
         "write `from jobs import helper`"),
        ("own_work:handle", "no module named 'own_work', which is src/own_work.py, but not on the path: set PYTHON"),
        ("top_work:handle", "needs 'srcmod', which is src/srcmod.py, but not on the path"),
        ("foreign_work:handle", "needs 'nowhere_to_be_found', which is not installed, nor anywhere in {}"),
        ("json.work:handle", "json/__init__.py has that name too and comes before json; rename yours"),
        ("queue:handle", "queue.py has that name too and comes before queue.py; rename yours"),
        ("src/own_work.py:handle", "names a file; write the module: src.own_work:handle"),
        ("./top_work.py:handle", "names a file; write the module: top_work:handle"),
        ("top_work.py:handle", "names a file; write the module: top_work:handle"),
    ],
)  # fmt: skip
def test_a_module_in_the_users_folder_is_not_called_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, says: str
) -> None:
    for name, source in FOLDER.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *(entry for entry in sys.path if entry not in ("", str(ROOT)))])
    with pytest.raises(HandlerLoadError) as caught:
        find(path)
    assert says.format(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for name in ("jobs", "jobs.work", "top_work", "foreign_work"):
        sys.modules.pop(name, None)


def test_a_large_folder_is_not_looked_through_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(FOLDERS_MOST + 10):
        (tmp_path / f"f{number}" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f3" / "below" / "deep.py").touch()
    assert where_it_lies("deep", "work") is None

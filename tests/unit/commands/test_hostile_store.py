"""Every command that reads results, over a file that a stranger filled: what people get of it, and programs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow.csv
import pyarrow.parquet
import pytest

from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.cli.tables import encoded
from tests.kit.command_line import Ran, Run
from tests.kit.hostile import FORGED, LONG, hostile_file, unfit
from tests.kit.results_file import empty_file
from tests.kit.root import ROOT

pytestmark = pytest.mark.slow

FILE = "hostile.duckdb"
SEED = int(os.environ.get("SEED", "1"))
"""Another file: `SEED=7 make test ARGS="-k hostile"`."""

MOST = 200_000
"""Characters that people get of a file in which a single value has a million."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, which no test changes."""
    path = tmp_path_factory.mktemp("hostile") / FILE
    hostile_file(path, SEED)
    return path


@pytest.fixture
def hostile(run: Run, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on the file."""
    shutil.copy(filled, tmp_path / FILE)
    monkeypatch.setenv("RABBITRAY_RESULTS", FILE)
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", "60000")  # a busy machine is no failure
    return run


def require_fit(ran: Ran, code: int = 0) -> Ran:
    """It ended well, said nothing that a terminal obeys, and no line is a stranger's."""
    assert ran.code == code, ran.err
    assert not unfit(ran.out + ran.err)
    assert "Traceback" not in ran.err
    assert not [line for line in (ran.out + ran.err).split("\n") if line.startswith(FORGED)]
    return ran


def told(ran: Ran, code: int = 0) -> Ran:
    """For people: bounded, too."""
    assert len(require_fit(ran, code).out) < MOST
    return ran


def values(column: str, table: str) -> list[str]:
    rows = read_only_query(Path(FILE), f"SELECT {column} AS v FROM {table}").to_pylist()
    return [row["v"] for row in rows]


@pytest.mark.parametrize("table", ["results", "conflicts", "dead_letters", "decisions"])
def test_query_shows_and_gives_out_whatever_is_there(hostile: Run, table: str) -> None:
    sql = f"SELECT * FROM {table}"
    told(hostile("query", sql))
    assert hostile("query", sql, "-o", "table.txt").code == 0
    assert not unfit(Path("table.txt").read_text())
    whole = read_only_query(Path(FILE), sql)
    found = require_fit(hostile("query", sql, "--json")).json
    texts = [name for name in whole.column_names if pyarrow.types.is_string(whole[name].type)]
    assert found
    assert [{name: row[name] for name in texts} for row in found] == whole.select(texts).to_pylist(), "nothing is lost"
    assert hostile("query", sql, "-o", "all.parquet").code == 0
    assert pyarrow.parquet.read_table("all.parquet").equals(whole.replace_schema_metadata(None))
    assert hostile("query", sql, "-o", "all.csv").code == 0
    if "key" in texts:
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        read = pyarrow.csv.ReadOptions(block_size=64 * 1024 * 1024)
        keys = pyarrow.csv.read_csv("all.csv", parse_options=parsing, read_options=read)["key"]
        assert keys.to_pylist() == whole["key"].to_pylist()


def test_dlq_lists_and_shows_every_letter(hostile: Run) -> None:
    said = ("--connect-timeout-s", "0.2")
    told(hostile("dlq", "ls", *said))
    listed = require_fit(hostile("dlq", "ls", "--json", *said)).json["groups"]
    assert sum(group["count"] for group in listed) == len(values("id", "dead_letters"))
    for name in values("id", "dead_letters"):
        told(hostile("dlq", "show", name))
        found = require_fit(hostile("dlq", "show", name, "--json")).json
        (row,) = read_only_query(Path(FILE), f"SELECT key, error FROM dead_letters WHERE id = '{name}'").to_pylist()
        assert (found["key"], found["error"]) == (row["key"], row["error"])


def test_trace_tells_every_story(hostile: Run) -> None:
    for key in [*values("key", "results")[:4], *values("key", "dead_letters")[-4:]]:
        told(hostile("trace", "--", key))
        assert require_fit(hostile("trace", "--json", "--", key)).json[0]["key"] == key
    told(hostile("trace", "\x1b[2Jnobody\u202e"), code=1)


def test_report_export_and_check_end_well(hostile: Run) -> None:
    told(hostile("report"))
    page = Path("report.html").read_text()
    assert not unfit(page)
    assert "<script>alert" not in page
    assert LONG not in page
    require_fit(hostile("report", "--json"))
    tables = ("results", "conflicts", "dead_letters", "decisions")
    require_fit(hostile("export", "out", *(word for table in tables for word in ("--table", table))))
    keys = pyarrow.parquet.read_table("out/dead_letters.parquet")["key"].to_pylist()
    assert sorted(keys) == sorted(values("key", "dead_letters"))
    told(hostile("replay", "--recorded", "--duration", "60s"), code=0)
    told(hostile("check", "--no-ray", "--connect-timeout-s", "0.2", "--pool", "\x1b[2J"), code=2)


DUCKDB_VALUES = (
    "NULL", "true", "170141183460469231731687303715884105727::HUGEINT", "0.1::DECIMAL(3,1)",
    "12345678901234567890123456789.123456789::DECIMAL(38,9)", "'NaN'::DOUBLE", "'-inf'::FLOAT", "uuid()",
    "INTERVAL '-3 months 2 days 00:00:01.5'", "'infinity'::TIMESTAMP", "'-infinity'::TIMESTAMPTZ",
    "'290000-01-01 00:00:00+00'::TIMESTAMPTZ", "'infinity'::DATE", "'5000000-01-01'::DATE", "'0044-03-15 (BC)'::DATE",
    "'2020-01-01 00:00:00.123456789'::TIMESTAMP_NS", "'2020-01-01'::TIMESTAMP_S", "'24:00:00'::TIME",
    "'12:34:56+02'::TIMETZ", "'12:00:00.123456789'::TIME_NS", "'101010'::BIT", "'a'::ENUM('a','b')",
    "MAP{'\\[/x]':1}", "MAP{'infinity'::TIMESTAMP: INTERVAL 1 DAY}", "{'a': 'NaN'::DOUBLE, 'b': [NULL, 1.5]}",
    "[1,2]::INTEGER[2]", "'\\x00\\xff'::BLOB",
    "union_value(k := 'x')", "{'u': [union_value(k := 1)]}", "MAP{'m': union_value(k := INTERVAL 1 DAY)}",
    "'{\"a\":1}'::JSON", f"'{'9' * 5_000}'::VARINT", "chr(0) || chr(27) || chr(8238)", "[[[[[INTERVAL 1 MONTH]]]]]",
)  # fmt: skip


def test_every_type_of_duckdb_has_every_form(run: Run, empty_results: None) -> None:
    """Each value alone, for one alone could make a form fail; a name that is there twice is two."""
    for value in DUCKDB_VALUES:
        table = read_only_query(
            Path("results.duckdb"), f"SELECT {value} AS v, {value} AS v UNION ALL SELECT NULL, NULL"
        )
        first, second = json.loads(encoded(table, "json"))
        assert (list(first), second) == (["v", "v:1"], {"v": None, "v:1": None})
        assert pyarrow.parquet.read_table(BytesIO(encoded(table, "parquet"))).num_rows == 2
        assert encoded(table, "csv").startswith(b'"v","v:1"\n'), value
    columns = ", ".join(f'{value} AS "\\[/x]"' for value in DUCKDB_VALUES)
    sql = f"SELECT {columns} UNION ALL SELECT {', '.join(['NULL'] * len(DUCKDB_VALUES))}"
    for form in ("table", "json"):
        require_fit(run("query", sql, "--format", form))


COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("command", [("query", "SELECT * FROM dead_letters"), ("dlq", "ls")])
def test_a_terminal_gets_colours_and_nothing_else_to_obey(hostile: Run, command: tuple[str, ...]) -> None:
    """In a pipe click takes escape sequences out by itself; rich and click pass them on to a terminal."""
    outer, inner = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "RABBITRAY_CONNECT_TIMEOUT_S": "0.2"}
    with subprocess.Popen([sys.executable, "-m", "rabbitray", *command], stdout=inner, stderr=inner, env=environment):
        os.close(inner)
        shown = COLOURS.sub("", b"".join(read_all(outer)).decode()).replace("\r\n", "\n")
    os.close(outer)
    assert len(shown) > 100
    assert not unfit(shown)


def read_all(descriptor: int) -> Iterator[bytes]:
    """What a terminal shows until nobody writes to it any more."""
    with contextlib.suppress(OSError):  # that is how a pseudo-terminal ends
        while data := os.read(descriptor, 65_536):
            yield data


def test_csv_is_faithful_in_a_pipe_and_printable_on_a_terminal(
    run: Run, empty_results: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("query", "SELECT '\x1b[2J\u202e' AS v", "--format", "csv")
    assert run(*asked).out == '"v"\n"\x1b[2J\u202e"\n'
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(*asked).out == '"v"\n"\\x1b[2J\\u202e"\n'


SAID: Final = (
    ("'infinity'::TIMESTAMP", "infinity"),
    ("'-infinity'::TIMESTAMPTZ", "-infinity"),
    ("'290000-02-29 01:02:03.5+00'::TIMESTAMPTZ", "+290000-02-29T01:02:03.500000Z"),
    ("'0044-03-15 (BC)'::DATE", "-0043-03-15"),
    ("'24:00:00'::TIME", "24:00:00"),
    ("'2020-01-01 00:00:00.123456789'::TIMESTAMP_NS", "2020-01-01T00:00:00.123456789"),
    ("INTERVAL '14 months 2 days 00:00:01.5'", "P14M2DT1.5S"),
    ("INTERVAL '-1.5 seconds'", "PT-1.5S"),
    ("INTERVAL 0 DAY", "PT0S"),
    ("'NaN'::DOUBLE", "NaN"),
    ("[1e400::DOUBLE]", ["Infinity"]),
    ("0.1::DECIMAL(3,1)", 0.1),
    ("12345678901234567890.12::DECIMAL(38,2)", "12345678901234567890.12"),
    ("2::DECIMAL(38,0)", 2),
    ("MAP{'a': 1}", [["a", 1]]),
    ("[union_value(k := 'x'), NULL]", ["x", None]),
    ("'\\x00\\xff'::BLOB", "AP8="),
)


def test_json_says_what_it_has_no_type_for(run: Run, empty_results: None) -> None:
    columns = ", ".join(f"{value} AS v{number}" for number, (value, _) in enumerate(SAID))
    assert list(run("query", f"SELECT {columns}", "--json").json[0].values()) == [said for _, said in SAID]


@pytest.fixture
def empty_results(run: Run) -> None:
    empty_file(Path("results.duckdb"))


def test_what_is_no_text_is_an_error_of_one_line(run: Run, empty_results: None) -> None:
    """A word of the command line that is no UTF-8 arrives with surrogates in it."""
    for arguments in (("query", "SELECT '\udcff'"), ("trace", "\udcff"), ("dlq", "show", "\udcff\n" + FORGED)):
        ran = require_fit(run(*arguments), code=1)
        assert (ran.out, ran.err.count("\n")) == ("", 1)
        assert ran.err.startswith("error: ")


def test_an_error_that_quotes_a_stranger_is_one_line(run: Run, empty_results: None) -> None:
    ran = require_fit(run("query", f"SELECT error('\x1b[2Jx\u2028{FORGED}\u202e')"), code=1)
    assert ran.err.count("\n") == 1


def test_mistakes_on_the_command_line_are_shown_printable(run: Run) -> None:
    for arguments in (("\x1b[2J",), ("query", "x", "--\x1b[2J"), ("publish", "\x1b[2J\n" + FORGED), ("scale", "\x9b")):
        require_fit(run(*arguments), code=2)


def test_what_the_encoding_of_the_terminal_lacks_is_an_escape(run: Run, empty_results: None) -> None:
    """JSON goes out in UTF-8 whatever it is."""

    def program(*more: str) -> bytes:
        command = [
            sys.executable,
            "-m",
            "rabbitray",
            "query",
            "SELECT 'å中' AS v",
            "--results",
            "results.duckdb",
            *more,
        ]
        environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout

    assert b"\\xe5\\u4e2d" in program()
    assert json.loads(program("--json")) == [{"v": "å中"}]

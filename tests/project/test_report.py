"""The run report: its figures, its markup, and how it looks and behaves in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jinja2 import UndefinedError

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.cli.app import group
from rabbitray.cluster.cli.tables import rows
from rabbitray.cluster.results.report import RecordedRun, page, read_run
from rabbitray.cluster.results.report.page import templates
from rabbitray.cluster.results.report.recorded_run import Row
from tests.kit.chrome import Tab, chromium
from tests.kit.recorded import kept_results, unpack_results, version_of
from tests.kit.results_file import (
    CONFLICTS_KEYS,
    DEAD,
    HOSTILE,
    JOBS,
    REPLAYED,
    STILL_DEAD,
    empty_file,
    eventful_file,
    replayed_file,
)

CHARTS_WITH_SIZE = """[...document.querySelectorAll('figure.chart svg')].map(svg => {
  const sized = one => one.getBBox().width + one.getBBox().height > 0;
  const drawn = [...svg.querySelectorAll('path.line, rect.bar')].filter(sized);
  const box = svg.getBoundingClientRect();
  return {label: svg.getAttribute('aria-label'), width: box.width, height: box.height, drawn: drawn.length};
})"""
PIXELS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
CONTRAST = """(() => {
  const style = getComputedStyle(document.body);
  const light = c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
  return [light(style.backgroundColor), light(style.color)];
})()"""


def run_of(path: Path, since: datetime | None = None) -> RecordedRun:
    return read_run(lambda sql: rows(read_only_query(path, sql)), path.name, since=since)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eventful_file(tmp_path_factory.mktemp("report") / "results.duckdb")


@pytest.fixture(scope="module")
def report(results: Path) -> Path:
    """The page, made by the command."""
    output = results.with_name("report.html")
    found = CliRunner().invoke(group, ["report", str(results), "-o", str(output), "--json"])
    assert found.exit_code == 0, found.output
    return output


def test_the_figures_are_those_of_the_file(results: Path) -> None:
    run = run_of(results)
    assert (run.done, run.dead, run.workers, run.queues, run.pools) == (JOBS, DEAD, 4, ("orders",), ("orders",))
    assert run.retried == JOBS // 40
    assert sum(run.latency.counts.values()) == JOBS
    assert run.series is not None
    assert (sum(run.series.done), sum(run.series.dead)) == (JOBS, DEAD)
    assert sum(run.series.published) == JOBS + DEAD
    assert run.series.backlog[-1] == 0
    assert max(run.series.backlog) > 1_000
    assert {row["error_class"]: row["jobs"] for row in run.errors}["ValueError"] == 29  # one of 30 is the hostile one
    assert [decision.had for decision in run.decisions[:3]] == [1, 2, 3]
    assert run.decisions[0].backlog == 3_120
    slowest = [row["handler_ms"] for row in run.slowest]
    assert slowest == sorted(slowest, reverse=True)
    assert slowest[0] == pytest.approx(409)


def test_a_dead_letter_tells_where_it_failed(results: Path) -> None:
    run = run_of(results)
    [row] = [row for row in run.dead_letters if row["key"] == "dead-58"]
    assert row["raised_in"] == "shop/jobs.py:9"
    assert "shop/jobs.py:9 in handle: raise QuotaError" in page(run, made_at=datetime(2026, 1, 2, tzinfo=UTC))


def test_keys_with_another_messages_result_are_counted_and_their_newest_messages_shown(
    results: Path, tmp_path: Path
) -> None:
    run = run_of(results)
    assert run.conflicts == run.summary()["conflicts"] == CONFLICTS_KEYS
    assert [row["key"] for row in run.conflicting] == [f"job-{n}" for n in reversed(range(10, CONFLICTS_KEYS))]
    assert run_of(results, datetime(2026, 1, 2, 3, 3, 0, tzinfo=UTC)).conflicts == 15, "of the last 15 messages"
    printed = CliRunner().invoke(group, ["report", str(results), "-o", str(tmp_path / "r.html")]).output
    assert f"{CONFLICTS_KEYS} keys with another message's result" in printed
    assert "Other messages under a known key" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_replayed_message_waits_from_its_replay_and_counts_once(tmp_path: Path) -> None:
    """No backlog for the eleven minutes in which all was dead."""
    run = run_of(replayed_file(tmp_path / "replayed.duckdb"))
    assert (run.done, run.dead, run.dead_messages) == (REPLAYED - STILL_DEAD, REPLAYED + STILL_DEAD, STILL_DEAD)
    assert run.summary()["dead_messages"] == STILL_DEAD
    assert (run.latency.p50_ms, run.latency.p99_ms) == (1_000.0, 1_000.0)
    assert run.series is not None
    idle = [left for at, left in enumerate(run.series.backlog) if 10 <= at * run.series.width_s < 650]
    assert len(idle) > 50
    assert set(idle) == {0}
    assert sum(run.series.published) == run.done + run.dead
    assert "5 messages, 0.62% of all" in page(run, made_at=datetime(2026, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize("archive", [one for one in kept_results() if version_of(one) <= 2], ids=lambda one: one.name)
def test_a_file_of_an_earlier_schema_version_has_a_report_too(archive: Path, tmp_path: Path) -> None:
    run = run_of(unpack_results(archive, tmp_path))
    assert run.done > 0
    conflicts = version_of(archive) - 1  # there was no table of them in version 1; one is in the file of version 2
    assert (run.conflicts, len(run.conflicting)) == (conflicts, conflicts)
    assert ("Other messages" in page(run, made_at=datetime(2026, 1, 2, tzinfo=UTC))) == bool(conflicts)
    assert {row["traceback"] for row in run.dead_letters} == {None}


def test_only_what_ended_since(results: Path) -> None:
    whole = run_of(results)
    late = run_of(results, datetime(2026, 1, 2, 3, 2, 0, tzinfo=UTC))
    assert 0 < late.done < whole.done
    assert 0 < late.dead < whole.dead
    assert late.series is not None
    assert sum(late.series.done) == late.done
    assert late.begin is not None
    nothing = run_of(results, datetime(2030, 1, 1, tzinfo=UTC))
    assert (nothing.done, nothing.series) == (0, None)


def test_the_command_prints_the_figures_and_says_what_is_missing(results: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(group, ["report", str(results), "-o", str(tmp_path / "r.html"), "--json"])
    figures = json.loads(found.stdout)
    assert (figures["done"], figures["dead"], figures["decisions"]) == (JOBS, DEAD, 13)
    missing = CliRunner().invoke(group, ["report", str(tmp_path / "none.duckdb")])
    assert missing.exit_code == ConfigurationError.exit_code
    assert missing.stderr.startswith("error: there is no results file")


@pytest.mark.parametrize("output", ["no_folder/r.html", "results.duckdb/r.html"])
def test_a_page_that_cannot_be_written_is_one_line(results: Path, output: str) -> None:
    found = CliRunner().invoke(group, ["report", str(results), "-o", str(results.parent / output)])
    assert (found.exit_code, found.stdout) == (ConfigurationError.exit_code, "")
    assert re.fullmatch(r"error: cannot write \S+r\.html: (No such file|Not a) [a-z ]+\n", found.stderr)


def test_the_page_loads_nothing_and_escapes_everything(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "<img" not in text
    assert text.count("<script>") == 1
    assert not re.search(r"<[a-z][^<>]*\s(src|href|srcset|action|data)\s*=", text)
    for loading in ("url(", "@import", "http:", "https:", "fetch(", "XMLHttpRequest"):
        assert loading not in text, loading
    assert "Content-Security-Policy" in text


def test_an_empty_file_makes_a_page_too(tmp_path: Path) -> None:
    text = page(run_of(empty_file(tmp_path / "results.duckdb")), made_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert "nothing was worked" in text
    assert "There are no dead letters." in text


async def test_in_a_browser(report: Path) -> None:
    async with chromium() as tab:
        for width, dark, phone in ((1_200, False, False), (1_200, True, False), (390, False, True), (390, True, True)):
            await tab.look_like(width=width, dark=dark, phone=phone)
            await tab.open(report.as_uri())
            await _well_drawn(tab)
            scrolled, seen = await tab.run(PIXELS)
            assert scrolled <= seen <= width, f"scrolls sideways at {width} px: {scrolled} > {seen}"
            ground, ink = await tab.run(CONTRAST)
            assert (ground < ink) is dark
            assert abs(ground - ink) > 400
        assert await tab.run("document.title") == "rabbitray report: orders"
        assert tab.errors == []
        assert {address.partition(":")[0] for address in tab.requests} == {"file"}
        assert len(set(tab.requests)) == 1


async def _well_drawn(tab: Tab) -> None:
    charts: list[dict[str, Any]] = await tab.run(CHARTS_WITH_SIZE)
    titles = [chart["label"].partition(":")[0] for chart in charts]
    assert titles == [
        "Backlog",
        "Workers",
        "Jobs per second",
        "Publish to result",
        "Publish to result",
        "In the handler",
    ]
    for chart in charts:
        assert chart["width"] > 200, chart
        assert chart["height"] > 100, chart
        assert chart["drawn"] > 0, chart


async def test_pointing_at_a_chart_tells_its_numbers(report: Path) -> None:
    async with chromium() as tab:
        await tab.look_like(width=1_200)
        await tab.open(report.as_uri())
        x, y = await tab.run(
            "(() => {const b = document.querySelector('.plot').getBoundingClientRect();"
            "return [b.left + b.width / 3, b.top + b.height / 2]})()"
        )
        await tab.point_at(x, y)
        told = await tab.run("document.querySelector('.plot .tip').innerText")
        assert told.startswith("03:0")
        assert "in the system" in told
        assert tab.errors == []


class Seen(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, its texts, the JSON of its charts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.numbers: list[Any] = []  # Any: JSON values
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside = "numbers" if ("type", "application/json") in attrs else tag

    def handle_data(self, data: str) -> None:
        if self._inside == "numbers":
            self.numbers.append(json.loads(data))
            self._inside = ""
        elif text := data.strip(" \n"):
            self.texts.append(text)


def named_in_all_places(run: RecordedRun, word: str) -> RecordedRun:
    """The run with a word wherever a text of somebody else's can stand."""

    def rows_with_it(given: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple({name: word if isinstance(value, str) else value for name, value in row.items()} for row in given)

    return replace(
        run,
        source=word,
        queues=(word,),
        pools=(word,),
        decisions=tuple(replace(one, event="decided", reason=word) for one in run.decisions),
        errors=rows_with_it(run.errors),
        types=rows_with_it(run.types),
        slowest=rows_with_it(run.slowest),
        dead_letters=rows_with_it(run.dead_letters),
        conflicting=rows_with_it(run.conflicting),
    )


@pytest.mark.parametrize(
    "hostile", [HOSTILE, "'\"><svg onload=x>", "&lt;b&gt;", "{{ 7 * 7 }}{% raw %}", "\u2028</script>"]
)
def test_what_somebody_else_wrote_stays_text_wherever_it_stands(results: Path, hostile: str) -> None:
    run, made_at = run_of(results), datetime(2026, 1, 2, tzinfo=UTC)
    plain, seen = (Seen(page(named_in_all_places(run, word), made_at=made_at)) for word in ("plain", hostile))
    assert seen.elements == plain.elements
    assert seen.attributes == plain.attributes
    shown = hostile.replace("\u2028", r"\u2028")
    assert seen.texts == [text.replace("plain", shown) for text in plain.texts]
    assert [mark[1].partition(": ")[2] for mark in seen.numbers[0]["marks"]] == [shown] * len(plain.numbers[0]["marks"])
    assert len(plain.numbers[0]["marks"]) > 1
    assert sum("plain" in text for text in plain.texts) > 200


def test_templates_escape_text_attributes_and_data() -> None:
    made = templates().from_string('<p title="{{ word }}">{{ word }}</p><script>{{ {"a": word} | tojson }}</script>')
    text = made.render(word="</script>&\u2028\"'<b>")
    assert text.startswith('<p title="&lt;/script&gt;&amp;\\u2028&#34;&#39;&lt;b&gt;">&lt;/script&gt;')
    numbers = text.partition("<script>")[2].removesuffix("</script>")
    assert not set("<>&\u2028") & set(numbers)
    assert json.loads(numbers) == {"a": "</script>&\u2028\"'<b>"}
    with pytest.raises(UndefinedError):
        templates().from_string("{{ nobody_gave_it }}").render()


def make_screenshots(results: Path, folder: Path) -> None:
    """For the documentation: `python -c` calls it, no test does."""

    async def shoot() -> None:
        output = results.with_suffix(".html")
        output.write_text(page(run_of(results), made_at=datetime.now(UTC)), encoding="utf-8")
        async with chromium() as tab:
            await tab.look_like(width=1_100, height=1_150)
            await tab.open(output.absolute().as_uri())
            (folder / "report.png").write_bytes(await tab.screenshot())

    asyncio.run(shoot())

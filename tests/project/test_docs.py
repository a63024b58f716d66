"""README and docs say what is true: snippets run, commands and options exist, links lead somewhere, alerts have a page.

How each block is exercised is told in `doc_blocks`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import yaml

from rabbitray.actors import errors
from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact, declare
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.secret import Secret
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.cli.app import COMMANDS
from rabbitray.cluster.cli.errors import OUTPUT_GONE
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate import running_pool
from rabbitray.cluster.settings import load
from tests.kit.doc_blocks import DOCUMENTS, PLAIN, ROOT, Block, all_flags, blocks, check, commands, known_variable
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.results_file import eventful_file
from tests.kit.running_pool import RunningPool, pool_of

EVERY_BLOCK = [block for document in DOCUMENTS for block in blocks(document)]
FOLDERS = ("rabbitray", "actors", "autoscale", "cluster", "tests", "bench", "docs")
FREE = ("text", "py", "sql", "toml", "jsonl", "yaml")
SESSIONS = [document for document in DOCUMENTS if any(block.runs for block in blocks(document))]
PROSE = [document for document in DOCUMENTS if document.name not in ("seed.md", "configuration.md", "CHANGELOG.md")]
CALL_TESTS = "\nfor _name in [name for name in globals() if name.startswith('test_')]: globals()[_name]()\n"


def name_of(one: Path | Block) -> str:
    return one.name if isinstance(one, Path) else one.where


def inline(document: Path) -> list[str]:
    """What stands between single backticks, outside of the blocks."""
    prose = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


# blocks


@pytest.fixture
def newcomer(tmp_path: Path, amqp_url: str) -> dict[str, str]:
    """The environment of somebody who follows a document: `rabbitray` on the path, a broker at RABBITMQ_URL."""
    program = tmp_path / "bin" / "rabbitray"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rabbitray "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": f"{ROOT}", "RABBITMQ_URL": amqp_url}


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.parametrize("document", SESSIONS, ids=name_of)
def test_the_blocks_of_a_document_run_in_order(document: Path, newcomer: dict[str, str], tmp_path: Path) -> None:
    for block in blocks(document):
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.text)
        if not block.runs:
            continue
        text = block.text + (CALL_TESTS if block.language == "python" else "")
        program = (
            [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        )
        ran = subprocess.run(program, cwd=tmp_path, env=newcomer, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{block.where}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("block", [one for one in EVERY_BLOCK if one.language == "bash"], ids=name_of)
def test_commands_and_their_options_exist(block: Block) -> None:
    found = list(commands(block))
    assert found
    for words in found:
        check(words)


def test_every_block_is_exercised_in_some_way() -> None:
    unknown = [one.where for one in EVERY_BLOCK if one.language not in ("bash", "python", *FREE)]
    assert not unknown
    assert all(set(one.marks) <= {"test", "file"} for one in EVERY_BLOCK)


@pytest.mark.parametrize("block", [one for one in EVERY_BLOCK if one.language == "toml"], ids=name_of)
def test_settings_in_the_docs_are_taken(block: Block, tmp_path: Path) -> None:
    assert tomllib.loads(block.text)
    file = tmp_path / "rabbitray.toml"
    file.touch(mode=0o600)
    file.write_text(block.text)
    load({}, {}, file)


def test_queries_in_the_docs_have_answers(tmp_path: Path) -> None:
    file = eventful_file(tmp_path / "results.duckdb")
    queries = [one for one in EVERY_BLOCK if one.language == "sql"]
    assert queries
    for block in queries:
        assert read_only_query(file, block.text).num_rows, block.where


def test_a_wrong_command_would_be_noticed() -> None:
    for line in ("rabbitray run --no-such-flag", "ray job submit --no-such-flag", "make nothing", "frobnicate"):
        with pytest.raises(Exception, match=r"[Nn]o such|what is"):
            check(line.split())


# prose


@pytest.mark.parametrize("document", PROSE, ids=name_of)
def test_flags_and_variables_that_are_named_exist(document: Path) -> None:
    words = [word for code in inline(document) if code.split()[0] not in PLAIN for word in code.split()]
    flags = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z0-9-]*(=.*)?", word)}
    assert flags <= all_flags()
    variables = {word.partition("=")[0] for word in words if re.fullmatch(r"[A-Z]+_[A-Z_]+(=.*)?", word)}
    assert not {name for name in variables if not known_variable(name)}
    asked = {code.split()[1] for code in inline(document) if re.match(r"rabbitray [a-z]", code)}
    assert asked <= COMMANDS.keys()


@pytest.mark.parametrize("document", PROSE, ids=name_of)
def test_files_and_tests_that_are_named_exist(document: Path) -> None:
    for code in inline(document):
        path, _, test = code.partition("::")
        if re.fullmatch(r"\w+\.py", path):
            assert any(place for folder in FOLDERS for place in (ROOT / folder).rglob(path)), f"{document.name}: {code}"
        if not re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w/.-]*", path):
            continue
        assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), f"{document.name}: {code}"
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{document.name}: {code}"


def test_the_path_of_a_message_leads_through_every_folder() -> None:
    page = ROOT / "docs/how-it-works.md"
    named = [code for code in inline(page) if "/" in code]
    floors = [init.parent for floor in ("actors", "autoscale") for init in (ROOT / floor).rglob("__init__.py")]
    folders = [folder.relative_to(ROOT).as_posix() for folder in [*floors, ROOT / "cluster/driver"]]
    missing = [folder for folder in sorted(folders) if not any(code.startswith(f"{folder}/") for code in named)]
    assert not missing, f"docs/how-it-works.md names nothing in {', '.join(missing)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        place = (document.parent / file).resolve() if file else document
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_images_are_there_and_each_one_is_shown() -> None:
    """With words for those who do not see it; a text among the images stands in the document itself."""
    shown = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for bang, words, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]*images/[^)\s]+)\)", text):
            image = (document.parent / target).resolve()
            assert words, f"{document.name}: {target} has no words"
            assert bang or image.read_text(encoding="utf-8") in text, f"{document.name}: {target} is another text"
            shown.add(image)
    assert {path.resolve() for path in (ROOT / "docs/images").iterdir()} == shown


def test_submitted_jobs_say_in_their_metadata_whose_they_are() -> None:
    lines = [words for block in EVERY_BLOCK if block.language == "bash" for words in commands(block)]
    submits = [words for words in lines if words[:3] == ["ray", "job", "submit"]] + submits_of_the_cluster_files()
    assert len(submits) == 3
    for words in submits:
        queue = words[words.index("--queue") + 1]
        assert json.loads(words[words.index("--metadata-json") + 1]) == {"app": "rabbitray", "queue": queue}


def submits_of_the_cluster_files() -> list[list[str]]:
    """The words of the `ray job submit` in the comments of what we give for `ray up`."""
    found = []
    for file in ("ray-cluster.yaml", "cluster/deploy/local.yaml"):
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        comments = "\n".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        found.append(shlex.split(comments[comments.index("ray job submit") :].replace("\\\n", " ").splitlines()[0]))
    return found


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in ROOT.glob("docs/*.md") if f"(docs/{page.name}" not in readme]


# the run-book


def test_every_alert_has_a_run_book_entry_and_every_entry_an_alert() -> None:
    rules = yaml.safe_load((ROOT / "cluster/deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    alerts = [rule for one in rules["groups"] for rule in one["rules"] if "alert" in rule]
    page = ROOT / "docs/operations.md"
    entries = re.findall(r"^#+ (Rabbitray\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(entries) == sorted(rule["alert"] for rule in alerts)
    assert all(rule["annotations"]["runbook"].partition("#")[2] in anchors(page) for rule in alerts)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = set(re.findall(r"^\| (\d+) \|", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.MULTILINE))
    classes = [one for module in (errors, running_pool) for one in vars(module).values()]
    codes = {one.exit_code for one in classes if isinstance(one, type) and issubclass(one, RabbitrayError)}
    assert {str(code) for code in codes} | {"0", "130", str(OUTPUT_GONE)} == told
    assert ConfigurationError.exit_code == 2


# figures that stand in the code


def test_how_long_an_idle_worker_waits_is_what_the_router_does() -> None:
    assert f"waits up to {RouterConfig().burst_wait_ms:g} ms" in (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


# the rights of the broker's user


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(180)
async def test_the_rights_in_the_docs_are_enough_for_a_pool(
    broker: PrivateBroker, amqp_url: str, tmp_path: Path
) -> None:
    """Queues made beforehand; then a user with these rights works, retries and parks, and may declare nothing."""
    (line,) = re.findall(r"^rabbitmqctl set_permissions .*rabbitray '(.*)' '(.*)' '(.*)'$", security(), re.MULTILINE)
    vhost, user = urlsplit(amqp_url).path.lstrip("/"), f"worker-{uuid.uuid4().hex[:8]}"
    broker.api("PUT", f"/api/users/{user}", {"password": user, "tags": ""})
    rights = dict(zip(("configure", "write", "read"), line, strict=True))
    broker.api("PUT", f"/api/permissions/{quote(vhost, safe='')}/{user}", rights)
    mine = amqp_url.replace("guest:guest@", f"{user}:{user}@")
    loaded = settings_for(mine, tmp_path, queue="orders")
    async with contact(Secret(amqp_url), within_s=10.0) as connection:
        await declare(connection, compose.topology(loaded.settings))
    async with pool_of(loaded) as pool:
        steps = [{"do": "ok"}, {"do": "raise", "times": 1}, {"do": "reject"}]
        async with Publisher(PublisherConfig(url=amqp_url, queue="orders")) as publisher:
            sent = await publisher.publish_many([Job(payload=step) for step in steps])
        async with Publisher(PublisherConfig(url=amqp_url, queue="orders.dropped")) as dropping:
            await dropping.publish(Job(id="dropped"))
        assert sent.ok
        report = await pool.acked(5)  # two runs of the one that fails once, and what was dropped
        await eventually(lambda: dead(pool, 2), message="what was dropped is not collected")
    assert report.counts.done == 2
    reasons = pool.rows("SELECT reason FROM dead_letters ORDER BY reason")
    assert [row["reason"] for row in reasons] == ["broker_unknown", "rejected"]
    broker.api("DELETE", f"/api/users/{user}")


async def dead(pool: RunningPool, count: int) -> bool:
    return bool((await pool.report()).counts.dead == count)


def security() -> str:
    return (ROOT / "docs/security.md").read_text(encoding="utf-8")

"""docs/security.md: each claim names a test, and the claims are about what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from rabbitray.actors.store.schema import TABLES
from tests.kit.root import ROOT

PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
HOLDER = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
HEAD = "| claim | held by |"
TOLD_OF_DEAD_LETTERS = {"body", "headers", "raw_properties", "error", "traceback"}


def claims() -> Iterator[tuple[str, str]]:
    """Each claim of the page, and what holds it."""
    for table in PAGE.split(HEAD)[1:]:
        rows = table.partition("\n\n")[0].strip().splitlines()[1:]
        yield from (tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in rows)  # type: ignore[misc]


def test_the_page_has_claims_of_each_kind() -> None:
    assert len(list(claims())) > 30
    for who in ("may publish", "may query", "reaches Ray's ports"):
        assert f"\n## Whoever {who}\n" in PAGE


@pytest.mark.parametrize(("claim", "held_by"), list(claims()))
def test_each_claim_is_held_by_a_test_or_says_that_it_is_not(claim: str, held_by: str) -> None:
    holders = HOLDER.findall(held_by)
    assert (HOLDER.sub("", held_by).strip(", ") == "") == bool(holders), f"{claim}: {held_by}"
    assert holders or held_by.startswith("no test: "), claim
    for path, name in holders:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{claim}: there is no {path}::{name}"


def test_what_the_file_holds_of_strangers_is_told() -> None:
    """A column that holds what a stranger wrote belongs on the page: who adds one reads this."""
    assert TABLES["dead_letters"].keys() >= TOLD_OF_DEAD_LETTERS
    told = "results conflicts dead_letters failures decisions control runs store"
    assert TABLES.keys() == set(told.split())

"""Streams that a coverage-guided search kept, and the search itself: scanner and full reader agree, or one refuses."""

from __future__ import annotations

import random

import pytest

from tests.kit.coverage_search import search
from tests.kit.stream_fuzzer import FILES, changed, check, kept


@pytest.mark.parametrize("stream", kept(), ids=range(len(kept())))
def test_a_kept_stream_is_read_alike_or_refused(stream: bytes) -> None:
    check(stream)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_search_finds_no_stream_that_is_read_in_two_ways(rounds: int) -> None:
    """`python -m tests.kit.stream_fuzzer` keeps what it finds."""
    found = search(kept(), 20_000 * rounds, random.Random(), changed=changed, check=check, files=FILES)
    assert len(found) >= 20

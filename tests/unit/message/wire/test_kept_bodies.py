"""Bodies that once reached a line of their own in a reader, and a search for more of them in `make faults`."""

from __future__ import annotations

import random

import pytest

from tests.kit.body_fuzzer import Case, check, kept, search


@pytest.mark.parametrize("case", kept())
def test_each_reader_takes_a_kept_body_as_it_promises(case: Case) -> None:
    check(case)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_body_is_found_that_a_reader_does_not_take_as_it_promises(rounds: int) -> None:
    """`python -m tests.kit.body_fuzzer` keeps what it finds."""
    assert search(kept(), 5_000 * rounds, random.Random())

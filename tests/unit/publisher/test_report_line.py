"""`print(report)` of a publish is one line that says what became of the jobs."""

from __future__ import annotations

import pytest

from rabbitray.actors.errors import RefusedError, UncertainError, UnroutableError
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher.report import PublishReport, report


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ([], "nothing published"),
        ([None] * 10_000, "10,000 confirmed"),
        (
            [None, UnroutableError("no queue 'orders'"), RefusedError("full")],
            "1 confirmed, 1 unroutable, 1 refused (first: job 'o-1': no queue 'orders')",
        ),
        ([UncertainError("a\nb\x1b[31m")], r"1 uncertain (first: job 'o-0': a\nb\x1b[31m)"),
    ],
)
def test_it_is_one_line_for_people(errors: list[Exception | None], line: str) -> None:
    found = report((Job(id=f"o-{number}"), error) for number, error in enumerate(errors))
    assert str(found) == line


def test_a_long_error_and_a_long_id_are_cut() -> None:
    found = report([(Job(id="i" * 250), RefusedError("e" * 10_000))])
    assert len(str(found)) < 400


def test_its_repr_still_has_everything() -> None:
    assert "Job(id='o-1'" in repr(PublishReport(confirmed=(Job(id="o-1"),)))

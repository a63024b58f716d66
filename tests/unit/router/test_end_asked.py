"""The router's own node is drained: its pool drains in the time that is left."""

from __future__ import annotations

import pytest

from rabbitray.actors.router.end_asked import DRAIN_ASKED, DRAIN_SHARE, ENDS_WELL, NODE_DRAINS, EndAsked

NOW_S = 1_760_000_000.0


def asked() -> EndAsked:
    return EndAsked(clock=lambda: 50.0, wall=lambda: NOW_S)


def until_ms(left_s: float) -> int:
    return int((NOW_S + left_s) * 1000)


@pytest.mark.parametrize(
    ("deadline_ms", "within_s", "takes_s"),
    [
        (until_ms(30), 30.0, 30 * DRAIN_SHARE),  # Ray's default is as long as ours: the whole would be cut
        (until_ms(600), 30.0, 30.0),
        (until_ms(-5), 30.0, 0.0),
        (0, 30.0, 30.0),  # no deadline
    ],
)
def test_what_is_in_flight_has_as_long_as_the_node_leaves_it(deadline_ms: int, within_s: float, takes_s: float) -> None:
    end = asked()
    end.by_node("home", {"other": until_ms(1), "home": deadline_ms})
    assert end.event.is_set()
    assert (end.why, end.why in ENDS_WELL) == (NODE_DRAINS, True)
    assert end.in_time(within_s) == pytest.approx(takes_s)


def test_another_node_that_drains_ends_nothing() -> None:
    end = asked()
    end.by_node("home", {"other": until_ms(1)})
    assert not end.event.is_set()
    end.by_command()
    end.by_node("home", {"home": until_ms(10)})
    assert (end.why, end.in_time(30.0)) == (DRAIN_ASKED, 30.0), "who asked first"

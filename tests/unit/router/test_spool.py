"""Bodies in files: how many there may be, and when they are gone."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from rabbitray.actors.router.spool import Spool


def test_a_body_is_in_a_file_without_a_name_until_nobody_has_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    body = spool.begin(10)
    body.write([b"first", b"-"])
    body.write([b"last"])
    assert (body.read(0, 10), body.read(6, 100), body.error) == (b"first-last", b"last", None)
    assert (spool.size, list(tmp_path.iterdir())) == (10, [])
    del body
    assert spool.size == 0


def test_all_bodies_together_are_bounded_and_one_alone_always_fits(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=100)
    alone = spool.begin(1_000)
    refused = spool.begin(1)
    refused.write([b"x"])
    assert alone.error is None
    assert refused.error is not None
    assert "no room for its body of 1 bytes: 1,000 of others wait" in refused.error
    with pytest.raises(OSError, match="no room"):
        refused.read(0, 1)
    del alone
    fitting = [spool.begin(50), spool.begin(50)]
    assert [body.error for body in fitting] == [None, None]
    assert spool.begin(1).error is not None


def test_what_is_not_all_there_is_not_read(tmp_path: Path) -> None:
    body = Spool(tmp_path).begin(10)
    with pytest.raises(OSError, match="nothing was written"):
        body.read(0, 10)
    body.write([b"short"])
    assert body.read(0, 5) == b"short"
    with pytest.raises(OSError, match="ends early"):
        body.read(0, 10)


def test_bodies_that_nobody_can_reach_take_no_room(tmp_path: Path) -> None:
    """An error and the frames of its traceback hold each other, and with them what was sent when it came."""
    spool = Spool(tmp_path, most_bytes=100)
    lost: list[object] = [spool.begin(100)]
    lost.append(lost)
    del lost
    gc.disable()
    try:
        assert spool.begin(60).error is None
    finally:
        gc.enable()

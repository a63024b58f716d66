"""What an intake says of its connection."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitray.actors.router.intake.connection import frame_warnings


class _Agreed:
    """A connection whose broker agreed on frames of so many bytes."""

    def __init__(self, frame_max: int) -> None:
        self.transport = self
        self.connection = self
        self.connection_tune = self
        self.frame_max = frame_max


@pytest.mark.parametrize(("agreed", "wanted", "lines"), [(131072, 131072, 0), (4096, 0, 0), (65536, 131072, 1)])
def test_frames_of_another_size_than_set_are_said(agreed: int, wanted: int, lines: int) -> None:
    connection: Any = _Agreed(agreed)
    found = frame_warnings(connection, wanted)
    assert len(found) == lines
    assert all(str(agreed) in line and str(wanted) in line for line in found)

"""Names and times of the dead letters in tests."""

from __future__ import annotations

import datetime as dt

DEAD = "jobs.dead"
AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

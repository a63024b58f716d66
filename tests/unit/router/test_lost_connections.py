"""The router while its connection dies: what RabbitMQ delivers again is neither copied nor run for the old delivery."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.eventually import eventually
from tests.kit.plain_path import PlainPath, mixed


@pytest.mark.parametrize("verdict", ["retry", "dead"])
async def test_a_job_that_fails_while_its_connection_is_lost_leaves_nothing_behind(verdict: Any) -> None:
    path = PlainPath()
    await path.start()
    path.publish("k0")
    for _ in range(4):
        worker, batch = await path.batch()
        path.intake.lose()
        part, rows = mixed(["k0"], {0: verdict}, [0])
        worker.answer(batch, part, rows)
        await eventually(lambda batch=batch: path.running and path.running[0][1] != batch)
    await path.work()
    assert path.rows() == {"k0": 1}
    assert (path.in_rungs(), path.dead(), path.store.dead) == ([], [], [])
    await path.stop()

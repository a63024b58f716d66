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


async def test_what_waits_is_not_run_once_its_connection_is_gone() -> None:
    """The router hears of a loss a moment later than it happens."""
    path = PlainPath()
    await path.start(workers=0)
    path.publish("k0")
    path.intake.connected = False
    path.pool.resize(1)
    await eventually(lambda: path.pool.count("ready") == 1 and not path.pool.members[0].batches)
    assert not path.running
    path.intake.connected = True
    path.intake.lose()
    await path.work()
    assert (path.rows(), path.pool.members[0].jobs) == ({"k0": 1}, 1)
    await path.stop()


async def test_a_suspect_is_not_run_when_its_connection_died_while_its_run_was_counted() -> None:
    path = PlainPath()
    await path.start()
    path.publish("k0")
    worker, _ = await path.batch()
    worker.die()
    worker, _ = await path.batch()  # alone
    await path.store.close()  # the count waits for it
    worker.die()
    await eventually(lambda: [one for one in path.isolated.members if one.batches and one.handle is not worker])
    path.intake.lose()
    await path.store.open()
    await path.work()
    assert (path.rows(), path.settler.tally.duplicates) == ({"k0": 1}, 0)
    await eventually(lambda: path.crashes == {}, message="no crash is left counted")
    await path.stop()

"""Where a message that is not recorded may be: counted in the queue and its rungs."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.store.read_only import ReadOnlyFile
from rabbitray.cluster.commands.trace import whereabouts
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.message_story import Whereabouts
from rabbitray.cluster.results.reader import FileReader
from tests.kit.pool_settings import settings_for
from tests.kit.queue_access import declare
from tests.kit.results_file import empty_file


async def test_a_message_in_a_retry_rung_is_counted_there(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path)
    topology = compose.topology(loaded.settings)
    rung = topology.rung(topology.rung_delays_ms[1])  # the others do not exist: they hold none
    for name, count in ((topology.queue, 2), (rung, 1)):
        await declare(amqp_url, name)
        async with Publisher(replace(compose.publisher(loaded.settings), queue=name, routing_key=None)) as publisher:
            assert (await publisher.publish_many(Job(payload={}) for _ in range(count))).ok
    path = await asyncio.to_thread(empty_file, tmp_path / "nothing.duckdb")
    with closing(ReadOnlyFile(path)) as file:
        found = await asyncio.to_thread(whereabouts, loaded, FileReader(path=path, file=file))
    assert found == Whereabouts(queue=topology.queue, ready=2, waiting=1, held=0)

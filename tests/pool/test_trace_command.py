"""`rabbitray trace` through a running pool."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.cluster.commands.trace import stories_of, whereabouts
from rabbitray.cluster.operate.running_pool import RunningPool as Reached
from rabbitray.cluster.results.message_story import Whereabouts
from rabbitray.cluster.results.reader import PoolReader
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import pool_of
from tests.kit.stories import whats


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
async def test_live_through_a_running_pool(amqp_url: str, tmp_path: Path) -> None:
    """A job that needed a retry: its message id and its key are the same in both runs."""
    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded) as pool:
        refused = [Job(id="bad", payload={"do": "reject"})]
        await pool.publish([Job(id="twice", payload={"do": "raise", "times": 1}), *refused])
        await pool.acked(3)
        reader = PoolReader(pool=Reached(name=loaded.settings.pool, namespace=loaded.settings.ray_namespace))
        (story,) = await asyncio.to_thread(stories_of, reader, "twice")
        assert (story.ended, story.key) == ("done", "twice")
        assert whats(story) == ["published", "received", "started", "finished", "committed", "settled"]
        assert story.attempts == 2
        assert "run 2 on" in story.steps[2].detail
        assert story.message_ids == ("twice",)
        (parked,) = await asyncio.to_thread(stories_of, reader, "bad")
        assert (parked.ended, whats(parked)[-2:]) == ("dead", ["recorded", "settled"])
        assert await asyncio.to_thread(whereabouts, loaded, reader) == Whereabouts(
            queue=loaded.settings.queue, ready=0, waiting=0, held=0
        )

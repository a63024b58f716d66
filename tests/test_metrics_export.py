"""A running pool shows every measurement on Ray's Prometheus endpoint: right names, labels and totals."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors import kpi
from actors.job import Job
from tests.eventually import eventually
from tests.pool import pool_of, settings_for
from tests.prometheus_text import Sample, scrape

SCRAPE_WITHIN_S = 45.0  # Ray gathers every 10 s

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def series(samples: list[Sample], name: str) -> list[Sample]:
    return [one for one in samples if one.name == name]


def total(samples: list[Sample], name: str) -> float:
    return sum(one.value for one in series(samples, name))


def names_of(one: kpi.Kpi) -> set[str]:
    """The series that a measurement has on the endpoint."""
    return (
        {one.prometheus + end for end in ("_bucket", "_sum", "_count")} if one.kind == "histogram" else {one.prometheus}
    )


def jobs() -> list[Job]:
    fine = [Job(id=f"job-{n}", payload={"n": n}) for n in range(500)]
    twice = [Job(id=f"twice-{n}", payload={"do": "raise", "times": 1}) for n in range(10)]
    return [*fine, *twice, *(Job(id=f"bad-{n}", payload={"do": "reject"}) for n in range(5))]


async def test_every_measurement_of_the_table_is_exported(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path, retry_delay_ms=100)
    async with pool_of(loaded) as pool:
        await pool.publish(jobs())
        await pool.acked(525)
        wanted = {name for one in kpi.TABLE.values() for name in names_of(one)}

        async def complete() -> list[Sample] | None:
            samples = await scrape(loaded.settings.pool)
            counted = total(samples, kpi.CONSUMED.prometheus) >= 525
            return samples if counted and wanted <= {one.name for one in samples} else None

        samples = await eventually(complete, within_s=SCRAPE_WITHIN_S, message=f"not all of {sorted(wanted)}")
        assert samples is not None
        assert total(samples, kpi.DONE.prometheus) == 510
        assert total(samples, kpi.RETRIED.prometheus) == 10
        assert total(samples, kpi.DEAD.prometheus) == 5
        assert total(samples, kpi.COMMIT_ROWS.prometheus + "_sum") == 510
        assert total(samples, kpi.WRITE_DURATION.prometheus + "_count") == 15  # ten retry copies, five dead letters
        assert total(samples, kpi.CONNECTED.prometheus) == 1
        assert total(samples, kpi.HOLD.prometheus) == 0
        assert total(samples, kpi.QUEUE_DEPTH.prometheus) == 0
        assert 10 * kpi.MB < min(one.value for one in series(samples, kpi.WORKER_MEMORY.prometheus)) < 2_000 * kpi.MB
        check_labels(samples, loaded.settings.pool, loaded.settings.queue)


def check_labels(samples: list[Sample], pool: str, queue: str) -> None:
    """Bounded labels: pool, queue, and a worker where the table says so; nothing about a message."""
    for one in kpi.TABLE.values():
        for sample in (found for name in names_of(one) for found in series(samples, name)):
            own = {label: value for label, value in sample.labels.items() if label in kpi.WORKER}
            assert set(own) == set(one.labels), sample
            assert (own["pool"], own["queue"]) == (pool, queue)
            assert own.get("worker", f"{pool}-worker-").startswith(f"{pool}-worker-")
            assert not any("job-" in value or "bad-" in value for value in sample.labels.values())


async def test_switched_off_nothing_is_exported(amqp_url: str, tmp_path: Path) -> None:
    """A second pool, which measures, shows when Ray has gathered: by then the first one's would be there, too."""
    off = settings_for(amqp_url, tmp_path, metrics_enabled=False, initial_size=1, min_size=1)
    (tmp_path / "on").mkdir()
    on = settings_for(amqp_url, tmp_path / "on", initial_size=1, min_size=1)
    async with pool_of(off) as silent, pool_of(on) as measured:
        await silent.publish([Job(id=f"job-{n}") for n in range(20)])
        await silent.acked(20)
        await measured.publish([Job(id=f"job-{n}") for n in range(20)])
        await measured.acked(20)

        async def shown() -> bool:
            return total(await scrape(on.settings.pool), kpi.CONSUMED.prometheus) == 20

        await eventually(shown, within_s=SCRAPE_WITHIN_S, message="the pool that measures shows nothing")
        assert await scrape(off.settings.pool) == []

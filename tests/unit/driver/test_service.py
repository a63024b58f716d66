"""The three actors of a pool, each of them lost in each way that Ray has: the pool goes on, and its end is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rabbitray.actors.remote.calls import ActorLostError
from rabbitray.actors.router.report import Drained
from rabbitray.cluster.driver.service import Service
from rabbitray.cluster.driver.session import Session
from tests.kit.eventually import eventually
from tests.kit.fake_actors import raised_in_actor
from tests.kit.fake_service_actors import FakeMaker
from tests.kit.pool_settings import HANDLE, settings_for
from tests.kit.pool_status import QUIET_REPORT
from tests.kit.ray_errors import named, ray_errors
from tests.kit.virtual_time import in_virtual_time

SESSION = Session(node_id="n", job_id="01", local=True, max_size=4, fits=4, on_head=True, dashboard=None)
ERRORS = [*ray_errors(), raised_in_actor(KeyError("x")), RuntimeError("Ray is shut down")]


def service_of(maker: FakeMaker, folder: Path) -> Service:
    return Service(settings_for("amqp://127.0.0.1:1/", folder), HANDLE, SESSION, actors=maker)


@pytest.mark.parametrize("victim", ["store", "router", "autoscaler"])
@pytest.mark.parametrize("error", ERRORS, ids=named)
@in_virtual_time
async def test_each_actor_in_turn_is_lost_and_comes_back(tmp_path: Path, victim: str, error: Exception) -> None:
    maker = FakeMaker(router={"report": QUIET_REPORT, "drain": Drained(clean=True)})
    service = service_of(maker, tmp_path)
    await service.start()
    (first,) = maker.made[victim]
    first.die(error)
    await eventually(lambda: getattr(service, victim).restarts == 1, within_s=60)
    assert await service.report() is QUIET_REPORT
    assert (await service.stop()).clean
    assert len(maker.made[victim]) == 2
    assert sum(map(len, maker.made.values())) == 4, "the others were left alone"


@in_virtual_time
async def test_the_name_of_an_actor_that_died_in_its_first_start_is_waited_for(tmp_path: Path) -> None:
    maker = FakeMaker(router={"drain": Drained(clean=True)})
    maker.refused = [ActorLostError("killed")]
    service = service_of(maker, tmp_path)
    await service.start()
    store, pool = service.store.name, [service.router.name, service.autoscaler.name]
    assert maker.asked_again == [(store, False), (store, True), *((name, False) for name in pool)]
    assert (await service.stop()).clean


@pytest.mark.parametrize("error", ERRORS, ids=named)
@in_virtual_time
async def test_without_a_report_the_driver_goes_on(tmp_path: Path, error: Exception) -> None:
    service = service_of(FakeMaker(router={"report": error}), tmp_path)
    await service.start()
    assert await service.report() is None
    await service.stop()


@in_virtual_time
async def test_a_router_that_gives_no_report_is_told_once_and_then_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="rabbitray.cluster.driver.service")
    maker = FakeMaker(router={"report": RuntimeError("it is restarted")})
    service = service_of(maker, tmp_path)
    await service.start()
    (router,) = maker.made["router"]
    for _ in range(2):
        for _ in range(20):
            assert await service.report() is None
        router.answers["report"] = QUIET_REPORT
        for _ in range(20):
            assert await service.report() is QUIET_REPORT
        router.answers["report"] = RuntimeError("it is restarted")
    await service.stop()
    told = [record.getMessage() for record in caplog.records if "report" in record.getMessage()]
    assert told == ["The router gives no report now: it is restarted", "The router reports again"] * 2


@pytest.mark.parametrize("method", ["autoscaler stop", "router drain", "store close"])
@pytest.mark.parametrize("error", ERRORS, ids=named)
@in_virtual_time
async def test_an_error_of_one_step_never_skips_the_next(tmp_path: Path, method: str, error: Exception) -> None:
    role, failing = method.split()
    answers: dict[str, Any] = {"router": {"drain": Drained(clean=True)}}
    maker = FakeMaker(**(answers | {role: {failing: error}}))
    service = service_of(maker, tmp_path)
    await service.start()
    drained = await service.stop()
    assert await service.stop() is drained
    assert drained.clean == (role != "router")
    last = {role: actors[-1].called[-1] for role, actors in maker.made.items()}
    assert last == {"autoscaler": "stop", "router": "drain", "store": "close"}
    assert {name.rpartition("-")[2] for name, _ in maker.ended} == {"autoscaler", "router", "store"}

"""What we rest on that Ray does not promise: its inside, the wording of its errors, options without documentation.

`make test-ray` runs these on the newest Ray, `make test-ray RAY=2.57.0` on that one: what fails here is what must be
mended in `actors/remote/compat` before the bounds of pyproject.toml may be moved.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import ray
from ray._private.runtime_env.packaging import create_package
from ray.exceptions import RayActorError
from ray.experimental import get_object_locations

from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.remote.compat.texts import NO_EXIT_CODE
from rabbitray.actors.remote.gcs import require_gcs
from rabbitray.actors.remote.inline import INLINE_BYTES, RAYS_BYTES, inline_environment
from rabbitray.actors.remote.node_versions import NodeVersions, node_versions
from rabbitray.actors.remote.nodes import cluster_room, growable, is_head, waits_for_place
from rabbitray.actors.remote.placement.kind import WorkerKind, gpu_share
from rabbitray.actors.remote.placement.room import room
from rabbitray.actors.remote.raylets import Raylets
from rabbitray.cluster.settings.job import job_server_access
from rabbitray.cluster.submit.server import JobServer
from tests.kit.eventually import eventually_sync
from tests.kit.second_node import SESSION_GPUS, Place, on, second_node

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("120")]


class Victim:
    """An actor that ends in different ways."""

    def pid(self) -> int:
        """Of its process, once it is there."""
        return os.getpid()

    def sized(self, size: int) -> bytes:
        """So many bytes."""
        return bytes(size)

    def end(self, code: int) -> None:
        """Its process ends at once."""
        os._exit(code)

    @ray.method(num_returns="streaming", _generator_backpressure_num_objects=4)
    async def stream(self, count: int) -> AsyncIterator[float]:
        """When each of them was made."""
        for _ in range(count):
            yield time.monotonic()


def home() -> str:
    """The node of this process."""
    return str(ray.get_runtime_context().get_node_id())


def victim() -> Any:
    """An actor that is there. Any: a handle of Ray's."""
    actor = ray.remote(Victim).options(num_cpus=0).remote()
    ray.get(actor.pid.remote(), timeout=60)
    return actor


@pytest.mark.parametrize("size", [RAYS_BYTES + 1, INLINE_BYTES // 2])
def test_the_environment_bounds_what_goes_inline(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what goes through the object store Ray knows where it lies."""
    monkeypatch.delenv("RAY_max_direct_call_object_size", raising=False)
    plain, wide = (
        ray.remote(Victim).options(num_cpus=0, runtime_env={"env_vars": variables}).remote()
        for variables in ({}, inline_environment())
    )
    through_store, inline = plain.sized.remote(size), wide.sized.remote(size)
    assert [len(body) for body in ray.get([through_store, inline], timeout=60)] == [size, size]
    places = get_object_locations([through_store, inline])
    assert places[through_store]["node_ids"] == [home()]
    assert places[inline]["node_ids"] == []
    for actor in (plain, wide):
        ray.kill(actor)


def test_nodes_tell_what_is_free_and_which_of_them_drain() -> None:
    assert inside.draining() == {}
    free = inside.free_of_nodes()
    assert free is not None
    assert free[home()]["CPU"] > 0
    assert is_head(home())


def test_an_actor_without_a_place_is_told_from_one_that_has_one() -> None:
    placed = ray.remote(Place).options(num_cpus=0).remote()
    ray.get(placed.ready.remote(), timeout=60)
    waiting = ray.remote(Place).options(num_cpus=1_000).remote()
    try:
        eventually_sync(lambda: inside.waits_for_place(waiting), message="it has no place, and Ray does not say so")
        assert inside.waits_for_place(placed) is False
        assert waits_for_place(waiting)
    finally:
        ray.kill(placed)
        ray.kill(waiting)


KINDS = (
    WorkerKind(num_cpus=0, num_gpus=gpu_share(1 / 3)),
    WorkerKind(num_cpus=0, num_gpus=2),
    WorkerKind(num_cpus=5, resources=(("license", 0.1),)),
    WorkerKind(num_cpus=0, resources=(("license", 1.0),)),
)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.words for kind in KINDS])
def test_ray_places_as_many_as_there_is_room_for_and_not_one_more(kind: WorkerKind) -> None:
    """Counted for free nodes, and again once they are full."""
    options = kind.options | {"scheduling_strategy": on(home())}
    free = room(cluster_room().free, [kind])[0].workers
    assert free == {"GPU": SESSION_GPUS * 3 if kind.num_gpus < 1 else 1}.get(next(iter(kind.bundle)), 3)
    placed = [ray.remote(Place).options(**options).remote() for _ in range(free + 1)]
    try:
        eventually_sync(lambda: sum(map(waits_for_place, placed)) == 1, within_s=60, message="not all but one")
        eventually_sync(lambda: room(cluster_room().free, [kind])[0].workers == 0, message="Ray calls it free")
    finally:
        for actor in placed:
            ray.kill(actor)
    eventually_sync(lambda: room(cluster_room().free, [kind])[0].workers == free, message="not free again")


def test_ray_takes_label_selectors_as_we_do() -> None:
    """The session's node has the label zone=a; one that is not there is none of the values that are ruled out."""
    pairs = [("zone", wanted) for wanted in ("a", "b", "!a", "!b", "in(b,a)", "!in(a,b)")] + [("other", "!a")]
    kinds = [WorkerKind(num_cpus=0.01, selectors=((pair,),)) for pair in pairs]
    counted = [bool(found.workers) for found in room(cluster_room().free, kinds)]
    assert counted == [True, False, False, True, True, False, True]
    actors = [ray.remote(Place).options(**kind.options).remote() for kind in kinds]
    try:
        ray.get([actor.ready.remote() for actor, fits in zip(actors, counted, strict=True) if fits], timeout=60)
        waiting = [waits_for_place(actor) for actor in actors]
    finally:
        for actor in actors:
            ray.kill(actor)
    assert waiting == [not fits for fits in counted]


@pytest.mark.long
def test_other_labels_are_tried_where_no_node_with_the_first_has_room(ray_cluster: str) -> None:
    """So nodes with either count as room."""
    kind = WorkerKind(num_cpus=0, resources=(("seat", 1.0),), selectors=((("zone", "x"),), (("zone", "y"),)))
    seat = ["--resources", '{"seat": 1}', "--labels"]
    with (
        second_node(ray_cluster, cpus=1, options=[*seat, "zone=x"]),
        second_node(ray_cluster, cpus=1, options=[*seat, "zone=y"]),
    ):
        assert room(cluster_room().free, [kind])[0].workers == 2
        actors = [ray.remote(Place).options(**kind.options).remote() for _ in range(2)]
        ray.get([actor.ready.remote() for actor in actors], timeout=60)
        for actor in actors:
            ray.kill(actor)


def test_without_a_node_autoscaler_nothing_is_known_of_node_types() -> None:
    assert inside.node_types() == []
    assert growable(WorkerKind()) is None


async def test_a_raylet_answers_for_itself() -> None:
    raylets = Raylets()
    assert await raylets.alive() == {home()}
    assert await raylets.silent([home()]) == set()
    nobody = inside.open_raylet("127.0.0.1:1")
    assert nobody is not None
    assert await asyncio.wait_for(nobody(0.3), 5) is False


def _exit_0(actor: Any) -> None:
    actor.end.remote(0)


def _exit_3(actor: Any) -> None:
    actor.end.remote(3)


def _killed(actor: Any) -> None:
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)


def _by_ray(actor: Any) -> None:
    ray.kill(actor)


@pytest.mark.parametrize(
    ("ends", "words"),
    [(_exit_0, NO_EXIT_CODE), (_exit_3, NO_EXIT_CODE), (_killed, NO_EXIT_CODE), (_by_ray, "killed by ray.kill")],
)
def test_what_ray_says_of_a_death_is_read(ends: Callable[[Any], None], words: str) -> None:
    actor = victim()
    ends(actor)

    def error() -> RayActorError | None:
        try:
            ray.get(actor.pid.remote(), timeout=5)
        except RayActorError as dead:
            return None if type(dead).__name__ == "ActorUnavailableError" else dead
        return None

    dead = eventually_sync(error, within_s=20, message="Ray does not say that it died")
    assert last_line(dead) == words


def test_a_stream_waits_for_who_reads_it() -> None:
    """`export` streams a table of any size: what is not read yet must not be made."""
    actor = victim()
    stream = iter(actor.stream.remote(20))
    ray.get(next(stream))
    time.sleep(1.0)
    read_at = time.monotonic()
    made = [ray.get(item) for item in stream]
    assert sum(at > read_at for at in made) >= 10, "made only when what was before it had been read"
    ray.kill(actor)


def test_the_gcs_is_asked_before_ray_is() -> None:
    address = ray.get_runtime_context().gcs_address
    assert inside.connect_to_gcs(address) is not None
    require_gcs(address, within_s=10)
    assert address in inside.gcs_addresses_here()


def test_each_node_tells_its_versions() -> None:
    found, silent = node_versions(within_s=60)
    assert set(found.values()) == {NodeVersions.here()}
    assert silent == set()


async def test_the_gcs_tells_its_dashboard_and_gives_a_package_once() -> None:
    address = ray.get_runtime_context().gcs_address
    dashboard = inside.dashboard_of(address, within_s=10)
    assert dashboard == ray._private.worker.global_worker.node.webui_url
    async with JobServer(f"http://{dashboard}", job_server_access()) as server:
        assert await server.ray_version() == ray.__version__
        await server.put_package("rabbitray_sent_of_a_test.zip", b"A=1")
    uri = "gcs://rabbitray_sent_of_a_test.zip"
    assert inside.take_package(address, uri, within_s=10) == b"A=1"
    assert inside.take_package(address, uri, within_s=10) is None


def test_the_files_of_a_package_are_those_that_ray_packs(tmp_path: Path) -> None:
    for name in ("a/x.py", "a/x.log", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / ".gitignore").write_text("*.log")
    ours = inside.files_of_package(tmp_path, [".git"], gitignore=True)
    assert ours is not None
    create_package(str(tmp_path), tmp_path.parent / "by-ray.zip", include_gitignore=True, excludes=[".git"])
    with ZipFile(tmp_path.parent / "by-ray.zip") as packed:
        assert sorted(path.relative_to(tmp_path).as_posix() for path in ours) == sorted(packed.namelist())

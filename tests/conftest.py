"""Fixtures that every test may use: a RabbitMQ node, a fresh vhost, rounds for the crash series.

Ray reads its token settings from the environment when it is imported, so they are set here, first of all; and so is
where Python keeps bytecode, which every process of a pool would have to make again.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.rabbitmq.versions import parse_version
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.broker.programs import programs
from rabbitray.cluster.settings.private_node import RABBITMQ_VARIABLE
from tests.on_rabbitmq import EACH_RABBITMQ

WHOLE_CLUSTER = "WHOLE_CLUSTER"
"""Set in the environment by `make test-cluster`."""
pytest_plugins = ["tests.kit.fixtures"]


def _keep_bytecode(folder: Path) -> None:
    """In `folder`, where the environment wants none beside the sources: half of a process's start is compiling."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def _private_ray(folder: Path) -> dict[str, str]:
    """Ray with token auth whose token is of this test run only: nothing is read from or written to HOME."""
    token = folder / "ray-token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "1000",  # a node that was killed is seen dead in 5 s instead of 15
        "RAY_metrics_report_interval_ms": "3000",  # what a test scrapes is 3 s old instead of 10
    }


def _settled_rabbitmq() -> str:
    """The version that private nodes run. As a folder it is the same for a process whose home is another."""
    try:
        found = programs()
        version = found.version
    except ConfigurationError as missing:
        return str(missing)  # tests/unit needs none; whoever does is told the same
    os.environ[RABBITMQ_VARIABLE] = str(found.folder or "")
    return version


_keep_bytecode(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
os.umask(0o077)
_SESSION_FOLDER = Path(tempfile.mkdtemp(prefix="rr-tests-"))  # short: Ray's sockets lie below, 107 characters at most
_RABBITMQ = _settled_rabbitmq()
LARGE_MESSAGES = "max_message_size = 134217728"
"""As before RabbitMQ 4, which takes 16 MiB unless told otherwise: a stranger's message may be larger than ours."""
os.environ.pop("RAY_AUTH_TOKEN", None)
os.environ.update(_private_ray(_SESSION_FOLDER))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: a crash series; ROUNDS in the environment says how often")
    config.addinivalue_line("markers", "long: `make faults` runs it, `make test` something shorter of its kind")
    config.addinivalue_line("markers", "ray: needs a local Ray")
    config.addinivalue_line(
        "markers",
        "versions(since): RabbitMQ's differ here: `make test` runs it on the newest, too; never before `since`",
    )
    config.addinivalue_line(
        "markers", "each_rabbitmq: a whole pool, some seconds: `make test-rabbitmq` and `make faults` run it"
    )
    config.addinivalue_line("markers", "whole_cluster: minutes on hosts in namespaces: `make test-cluster` runs it")
    config.addinivalue_line(
        "markers", "alone: nothing may run beside it: left out by `-n 2`, run by `make test` at its end"
    )
    config.addinivalue_line("markers", "slow: some seconds: `make test-unit` leaves it out")
    settings.register_profile("thorough", deadline=None)  # a busy machine is no failure
    settings.register_profile("tests", parent=settings.get_profile("thorough"), max_examples=25)
    settings.register_profile("quick", parent=settings.get_profile("tests"), max_examples=20)  # `make test-unit`
    settings.load_profile(
        config.getoption("--hypothesis-profile") or ("thorough" if "ROUNDS" in os.environ else "tests")
    )


def pytest_report_header() -> str:
    return f"rabbitmq: {_RABBITMQ}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here, elsewhere = [], []
    for item in items:
        (here if _in_time(item) and _concerned(item) and _undisturbed(item) else elsewhere).append(item)
    items[:] = here
    config.hook.pytest_deselected(items=elsewhere)  # told in the summary


def _in_time(item: pytest.Item) -> bool:
    """Whether this run has time for a test, see markers `long`, `each_rabbitmq` and `whole_cluster`."""
    if item.get_closest_marker("whole_cluster") is not None:
        return WHOLE_CLUSTER in os.environ
    if "ROUNDS" in os.environ:
        return True
    if item.get_closest_marker("each_rabbitmq") is not None:
        return EACH_RABBITMQ in os.environ
    return item.get_closest_marker("long") is None


def _undisturbed(item: pytest.Item) -> bool:
    """Whether a test may run beside others, or does not, see marker `alone`."""
    side_by_side = hasattr(item.config, "workerinput") or item.config.getoption("numprocesses", 0)
    return not side_by_side or item.get_closest_marker("alone") is None


def _concerned(item: pytest.Item) -> bool:
    """Whether the RabbitMQ of this run is new enough for a test, see marker `versions`."""
    since = [str(mark.kwargs["since"]) for mark in item.iter_markers("versions") if "since" in mark.kwargs]
    return all(parse_version(_RABBITMQ) >= parse_version(one) for one in since)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """What a test logged may hold half a surrogate pair, which a process of `pytest -n 2` could not send on."""
    shown = [
        (when, name, text.encode("utf-8", "backslashreplace").decode()) for when, name, text in item._report_sections
    ]
    item._report_sections[:] = shown


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_SESSION_FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often a crash series runs: ROUNDS in `make faults`, once in `make test`."""
    return int(os.environ.get("ROUNDS", "1"))


@pytest.fixture(scope="session")
def broker() -> Iterator[PrivateBroker]:
    """A running private node for the whole test run: use a vhost of your own in it, do not stop it."""
    with PrivateBroker(configuration=LARGE_MESSAGES) as node:
        yield node


@pytest.fixture
def amqp_url(broker: PrivateBroker) -> Iterator[str]:
    """Address of a fresh vhost of `broker`, removed afterwards."""
    vhost = f"test-{uuid.uuid4().hex[:12]}"
    yield broker.add_vhost(vhost)
    broker.remove_vhost(vhost)


@pytest.fixture(scope="session")
def second_broker() -> Iterator[PrivateBroker]:
    """The node behind `own_broker`."""
    with PrivateBroker(configuration=LARGE_MESSAGES) as node:
        yield node


@pytest.fixture
def own_broker(second_broker: PrivateBroker) -> PrivateBroker:
    """A running private node that this test may stop, kill or alarm, and leave down: the next one starts it again.

    Nobody else is connected meanwhile. What earlier tests left in it stays: use `own_url`.
    """
    return second_broker.start()


@pytest.fixture
def own_url(own_broker: PrivateBroker) -> str:
    """Address of a fresh vhost of `own_broker`."""
    return own_broker.add_vhost(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The GCS address of a local Ray with a dashboard, for the whole test run; this process is connected to it."""
    import ray
    from ray._private.parameter import RayParams

    from tests.kit.second_node import SESSION_GPUS

    folder = _SESSION_FOLDER / "ray"
    with pytest.MonkeyPatch.context() as patch:
        # Two Rays on one machine (`pytest -n 2`): both would want the agent's fixed port, which serves jobs
        # and logs (`ray.init` has no argument for it, 2.60), and a job asks a file in this folder which Ray is its own.
        # The log monitor would read every line of every process for drivers that do not want them.
        ours = functools.partialmethod(RayParams.__init__, dashboard_agent_listen_port=0, include_log_monitor=False)
        patch.setattr(RayParams, "__init__", ours)
        context = ray.init(
            address="local",
            num_cpus=16,
            num_gpus=SESSION_GPUS,  # invented ones: for Ray they are a number
            resources={"license": 3},
            labels={"zone": "a"},
            include_dashboard=True,
            namespace="rabbitray",
            log_to_driver=False,
            dashboard_port=0,
            _temp_dir=str(folder),
        )
    address = str(context.address_info["gcs_address"])
    (folder / "ray_current_cluster").write_text(address)
    yield address
    ray.shutdown()

"""What may happen to a RabbitMQ cluster of three under a running pool: how each fault begins and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rabbitray.cluster.broker import PrivateBroker
from tests.kit.broker_cluster import BrokerCluster
from tests.kit.eventually import eventually_sync


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """`connected`: whom pool and publisher talk to as long as it lives; `leader`: of the queue and its rungs."""

    cluster: BrokerCluster
    connected: PrivateBroker
    leader: PrivateBroker


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`begin` and `end` block. `lasts_s`: None where the pool must go on before it ends, else how long it lasts.
    `blocks`: nothing may be confirmed to a publisher meanwhile.
    """

    begin: Callable[[Roles], object]
    end: Callable[[Roles], object]
    lasts_s: float | None = None
    blocks: bool = False


def _kill_two(roles: Roles) -> None:
    roles.connected.kill()
    roles.leader.kill()


def _alarm(command: str, value: str, sign: str) -> Callable[[Roles], None]:
    """Begins an alarm at the leader's node, which stops publishers on each, and waits until the node tells of it."""

    def begin(roles: Roles) -> None:
        roles.leader.ctl(command, value)
        eventually_sync(lambda: roles.cluster.alarmed(roles.leader, sign), message=f"no {sign}")

    return begin


FAULTS: Final[dict[str, Fault]] = {
    "leader killed": Fault(
        begin=lambda roles: roles.leader.kill(),
        end=lambda roles: roles.leader.start(),
    ),
    "leader stopped in order": Fault(
        begin=lambda roles: roles.leader.stop(),
        end=lambda roles: roles.leader.start(),
    ),
    "leader frozen": Fault(
        begin=lambda roles: roles.cluster.freeze(roles.leader),
        end=lambda roles: roles.cluster.thaw(roles.leader),
    ),
    "leader cut off": Fault(
        begin=lambda roles: roles.cluster.cut_off(roles.leader),
        end=lambda roles: roles.cluster.join_again(roles.leader),
    ),
    "connected node killed": Fault(
        begin=lambda roles: roles.connected.kill(),
        end=lambda roles: roles.connected.start(),
    ),
    "connected node stopped in order": Fault(
        begin=lambda roles: roles.connected.stop(),
        end=lambda roles: roles.connected.start(),
    ),
    "connected node frozen": Fault(
        begin=lambda roles: roles.cluster.freeze(roles.connected),
        end=lambda roles: roles.cluster.thaw(roles.connected),
    ),
    "connected node cut off": Fault(
        begin=lambda roles: roles.cluster.cut_off(roles.connected),
        end=lambda roles: roles.cluster.join_again(roles.connected),
        lasts_s=20.0,
    ),
    "two of three killed": Fault(
        begin=_kill_two,
        end=lambda roles: roles.cluster.start(roles.connected, roles.leader),
        lasts_s=10.0,
    ),
    "memory alarm": Fault(
        begin=_alarm("set_vm_memory_high_watermark", "0.000001", "mem_alarm"),
        end=lambda roles: roles.leader.ctl("set_vm_memory_high_watermark", "0.6"),
        lasts_s=10.0,
        blocks=True,
    ),
    "disk alarm": Fault(
        begin=_alarm("set_disk_free_limit", "1000000GB", "disk_free_alarm"),
        end=lambda roles: roles.leader.ctl("set_disk_free_limit", "50MB"),
        lasts_s=10.0,
        blocks=True,
    ),
}

"""Which raylets are asked, and what is made of those that cannot be."""

from __future__ import annotations

from collections.abc import Mapping

from rabbitray.actors.remote.raylets import Ask, Raylets


class Cluster:
    """Addresses and raylets by node."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {"a": "h:1", "b": "h:2"}
        self.answers = {"h:1": True, "h:2": False}
        self.opened: list[str] = []
        self.away = False

    def find(self) -> Mapping[str, str]:
        if self.away:
            raise RuntimeError("no GCS")
        return dict(self.addresses)

    def open(self, address: str) -> Ask | None:
        self.opened.append(address)

        async def ask(within_s: float) -> bool:
            return self.answers[address]

        return ask


async def test_each_is_opened_once_and_asked_each_time() -> None:
    cluster = Cluster()
    raylets = Raylets(find=cluster.find, open_raylet=cluster.open)
    assert await raylets.silent(["a", "b"]) == {"b"}
    cluster.answers = {"h:1": False, "h:2": True}
    assert await raylets.silent(["a", "b"]) == {"a"}
    assert cluster.opened == ["h:1", "h:2"]
    assert await raylets.alive() == {"a", "b"}


async def test_who_cannot_be_asked_is_not_called_silent() -> None:
    cluster = Cluster()
    cluster.away = True
    raylets = Raylets(find=cluster.find, open_raylet=cluster.open)
    assert await raylets.silent(["a"]) == set()
    assert await raylets.alive() is None
    cluster.away = False
    assert await raylets.silent(["b"]) == {"b"}
    doorless = Raylets(find=cluster.find, open_raylet=lambda _: None)
    assert await doorless.silent(["b"]) == set(), "a later Ray without that door"

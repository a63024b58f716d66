"""Which broker a command works at: this machine's own, that of the running pool, or the default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rabbitray.actors.secret import Secret
from rabbitray.cluster.operate import pools_broker, running_pool
from rabbitray.cluster.operate.pools_broker import with_broker
from rabbitray.cluster.operate.running_pool import NotRunningError
from rabbitray.cluster.settings import load
from tests.kit.fake_pool import FakePool

OWN, OF_POOL = "amqp://127.0.0.1:1/", "amqp://u:the-password@broker:5672/v"


@contextmanager
def pool(_: object) -> Iterator[Any]:
    yield FakePool(autoscaler_broker=Secret(OF_POOL))


@contextmanager
def no_pool(_: object) -> Iterator[Any]:
    raise NotRunningError("no pool 'default' runs")
    yield


def asked(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], *, ray_here: bool, runs: bool) -> tuple[str, str]:
    monkeypatch.setattr(pools_broker, "raylet_here", lambda: ray_here)
    monkeypatch.setattr(running_pool, "running", pool if runs else no_pool)
    loaded, where = with_broker(load({}, environ, None))
    return loaded.settings.rabbitmq_url.reveal(), where


def test_the_pool_is_asked_where_this_machine_knows_of_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    url, where = asked(monkeypatch, {}, ray_here=True, runs=True)
    assert url == OF_POOL
    assert where == "at the broker of the running pool 'jobs'"
    url, _ = asked(monkeypatch, {"RAY_ADDRESS": "head:6379"}, ray_here=False, runs=True)
    assert url == OF_POOL


def test_its_password_is_known_as_a_secret_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_broker, "raylet_here", lambda: True)
    monkeypatch.setattr(running_pool, "running", pool)
    loaded, _ = with_broker(load({}, {}, None))
    assert Secret(OF_POOL) in loaded.secrets


def test_what_this_machine_names_is_taken_before_any_pool_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, {"RABBITMQ_URL": OWN}, ray_here=True, runs=True) == (OWN, "")


def test_without_a_pool_it_is_the_default_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    default = load({}, {}, None).settings.rabbitmq_url.reveal()
    assert asked(monkeypatch, {}, ray_here=False, runs=True) == (default, ""), "no Ray is here"
    url, where = asked(monkeypatch, {}, ray_here=True, runs=False)
    assert url == default
    assert "the default address is tried; no pool 'default' runs" in where

"""A unit test needs neither a broker nor Ray: whoever asks for one is in the wrong folder."""

from __future__ import annotations

import pytest


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> None:
    """Refuses: also through `amqp_url`."""
    pytest.fail(f"{request.node.nodeid} asks for a RabbitMQ node: it belongs into tests/broker")


@pytest.fixture
def own_broker(request: pytest.FixtureRequest) -> None:
    """Refuses."""
    pytest.fail(f"{request.node.nodeid} asks for a RabbitMQ node: it belongs into tests/broker")


@pytest.fixture
def ray_cluster(request: pytest.FixtureRequest) -> None:
    """Refuses."""
    pytest.fail(f"{request.node.nodeid} asks for a Ray: it belongs into tests/pool")

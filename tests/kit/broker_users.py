"""Users of the test's broker with certain rights in the test's vhost."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from rabbitray.actors.rabbitmq.versions import behaviour, parse_version
from rabbitray.cluster.broker import PrivateBroker


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Regular expressions over names, as `rabbitmqctl set_permissions` takes them."""

    configure: str = "^$"
    write: str = "^$"
    read: str = "^$"


DOCUMENTED = Rights(write=r"^jobs\.(rabbitray|dead|retry\.[0-9]+)$", read=r"^jobs(\.dropped)?$")
"""Those of docs/security.md for the queue `jobs`."""
OF_OLD = Rights(write=r"^jobs\.rabbitray$", read=r"^jobs(\.dropped)?$")
"""Those that it had before RabbitMQ asked for a right to look."""
PRODUCER = Rights(write=r"^(amq\.default)?$")
NONE = Rights()


def look_needs_a_right(broker: PrivateBroker) -> bool:
    """Whether this broker answers a look with 403 where the user has no right at all on what is looked at."""
    return behaviour(parse_version(broker.version)).look_needs_right


def give(broker: PrivateBroker, user: str, amqp_url: str, rights: Rights) -> None:
    """Sets the rights of a user in the vhost of this URL."""
    vhost = quote(urlsplit(amqp_url).path.lstrip("/"), safe="")
    body = {"configure": rights.configure, "write": rights.write, "read": rights.read}
    broker.api("PUT", f"/api/permissions/{vhost}/{user}", body)


@contextmanager
def user_with(broker: PrivateBroker, amqp_url: str, rights: Rights) -> Iterator[str]:
    """The URL of a new user with these rights; the user is removed afterwards."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    broker.api("PUT", f"/api/users/{user}", {"password": f"{user}-secret", "tags": ""})
    give(broker, user, amqp_url, rights)
    try:
        yield amqp_url.replace("guest:guest@", f"{user}:{user}-secret@")
    finally:
        broker.api("DELETE", f"/api/users/{user}")

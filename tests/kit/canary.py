"""A password that nobody writes by chance, of characters that every way of writing a text escapes differently."""

from __future__ import annotations

import contextlib
import json
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from rabbitray.cluster.broker import PrivateBroker

NASTY = string.punctuation + " é"
"""Every printable character of ASCII that is neither a letter nor a digit, and one beyond."""


@dataclass(frozen=True, slots=True)
class Canary:
    """`word` is looked for: it stands on both sides of what is escaped, so that no half of the password is missed."""

    word: str

    @property
    def in_url(self) -> str:
        """The password with as little encoded as a client can still read."""
        return "".join(quote(char, safe="") if char in "/?#[]%\\ " else char for char in self.password)

    @property
    def password(self) -> str:
        """As the broker knows it."""
        return f"{self.word}{NASTY}{self.word}"

    def careless(self, url: str) -> str:
        """The text of an error that tells the URL, and the password in every form."""
        plain, host = self.password, urlsplit(url).netloc.rpartition("@")[2]
        forms = (url, unquote(url), plain, repr(plain), json.dumps(plain), repr(json.dumps(plain)), quote(plain))
        return f"cannot reach amqp://{host} by {', '.join(forms)}"


def new_canary() -> Canary:
    """One that stands nowhere else."""
    return Canary("canary" + secrets.token_hex(8))


@contextlib.contextmanager
def canary_url(broker: PrivateBroker, amqp_url: str, canary: Canary) -> Iterator[str]:
    """The vhost of `amqp_url`, for a user with that password."""
    vhost, user = urlsplit(amqp_url).path.lstrip("/"), f"user-{secrets.token_hex(4)}"
    broker.api("PUT", f"/api/users/{user}", {"password": canary.password, "tags": ""})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.api("PUT", f"/api/permissions/{quote(vhost, safe='')}/{user}", everything)
    yield amqp_url.replace("guest:guest@", f"{user}:{canary.in_url}@")
    broker.api("DELETE", f"/api/users/{user}")

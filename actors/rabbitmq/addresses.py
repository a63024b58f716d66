"""The URLs of a broker: one, or several of its nodes, separated by blanks or lines; and the file they came from.

All of them travel in one `Secret`, so that whatever hides a URL hides each. Pure but for reading that file.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rabbitray.actors.printable import printable
from rabbitray.actors.secret import Secret, several

NO_VERIFY: Final = "no_verify_ssl"
PORTS: Final = {"amqp": 5672, "amqps": 5671}

_PORT: Final = re.compile(r":\d+$")
_NO_PLACE_FOR: Final = re.compile(r"[\s\\]")


class BrokerUrls(Secret):
    """URLs of a broker that were read from `file`, which is read again whenever a connection is made.

    `unverified`: TLS certificates need not be verified, whatever stands in the file.
    """

    __slots__ = ("file", "unverified")

    def __init__(self, value: str | Secret, file: Path, unverified: bool = False) -> None:
        super().__init__(value)
        self.file = file
        self.unverified = unverified

    def again(self) -> Secret:
        """What the file holds now. Raises ValueError saying why it cannot be used, without its text."""
        found = checked(self.with_text(read_text(self.file)))
        return without_checks(found) if self.unverified else found

    def with_text(self, text: str) -> BrokerUrls:
        """Other URLs from the same file."""
        return BrokerUrls(text, self.file, self.unverified)

    def __reduce__(self) -> tuple[type[Secret], tuple[object, ...]]:
        return BrokerUrls, (self._value, self.file, self.unverified)


def of(value: object) -> Secret:
    """The URLs as a Secret, and as what they are where they are one."""
    return value if isinstance(value, Secret) else Secret(str(value))


def read_text(file: Path) -> str:
    """The text of a file that holds URLs. Raises ValueError where it cannot be read, or others can read it."""
    try:
        text = file.read_text(encoding="utf-8").strip()
        mode = stat.S_IMODE(file.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path that can be none
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None
    if mode & 0o077:
        raise ValueError(f"others can read the password (mode {mode:04o}); run chmod 600 {printable(str(file))}")
    return text


def checked(urls: Secret) -> Secret:
    """The same URLs, one blank between two. Raises ValueError, whose text says which one is none and never holds it."""
    if not urls.reveal().strip():
        raise ValueError("is empty")
    if (number := first_unusable(urls)) is not None:
        raise ValueError(f"{nth(urls, number)}not an AMQP URL")
    return _joined(urls, (one.reveal() for one in several(urls)))


def first_unusable(urls: Secret) -> int | None:
    """Which of these URLs is none, from 0."""
    return next((at for at, one in enumerate(several(urls)) if not _usable(one.reveal())), None)


def nth(urls: Secret, number: int) -> str:
    """Which one, in words before what is wrong with it: `URL 2 of 3: `; nothing where there is one alone."""
    count = len(several(urls))
    return f"URL {number + 1} of {count}: " if count > 1 else ""


def without_checks(urls: Secret) -> Secret:
    """The same, each `amqps://` URL saying that certificates need not be verified, unless it speaks of that itself."""
    if isinstance(urls, BrokerUrls):
        urls = BrokerUrls(urls, urls.file, unverified=True)
    return _joined(urls, (_unverified(one.reveal()) for one in several(urls)))


def address(url: Secret) -> str:
    """host:port/vhost of one URL, without user, password and parameters."""
    text = url.reveal()
    head = text.partition("?")[0]
    if "@" in text and "@" not in head:
        head = text  # a password with a ? that is not encoded
    host, slash, path = head.rpartition("@")[2].rpartition("://")[2].partition("/")
    port = "" if _PORT.search(host) else f":{PORTS.get(text.partition('://')[0], PORTS['amqp'])}"
    return f"{host}{port}{slash}{path}"


def host_and_port(url: Secret) -> tuple[str, int]:
    """Of the first of these URLs."""
    parts = urlsplit(several(url)[0].reveal())
    return parts.hostname or "localhost", parts.port or PORTS.get(parts.scheme, PORTS["amqp"])


def _joined(urls: Secret, texts: Iterable[str]) -> Secret:
    """These texts as what `urls` is."""
    text = " ".join(texts)
    return urls.with_text(text) if isinstance(urls, BrokerUrls) else Secret(text)


def _usable(text: str) -> bool:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False
    encoded = "@" in parts.netloc or "@" not in text  # else a password with a / ? # that is not encoded
    return usable and encoded and not _NO_PLACE_FOR.search(text)


def _unverified(text: str) -> str:
    head, mark, query = text.partition("?")
    if not text.startswith("amqps://") or f"{NO_VERIFY}=" in query:
        return text
    return f"{head}?{query}&{NO_VERIFY}=1" if mark and query else f"{head}?{NO_VERIFY}=1"

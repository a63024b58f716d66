"""Addresses: the nodes of one broker, tried in turn by one who connects to it again and again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pamqp.exceptions import PAMQPException

from rabbitray.actors.hiding import hide_in_log
from rabbitray.actors.rabbitmq.addresses import BrokerUrls, address
from rabbitray.actors.rabbitmq.errors import NoAddressError, describe, is_loss
from rabbitray.actors.secret import Redactor, Secret, several, without_credentials

log = logging.getLogger(__name__)

T = TypeVar("T")

Attempt = Callable[[Secret, float], Awaitable[T]]
"""One attempt to connect: the URL, and seconds that it may take; raises one of CONNECTION_ERRORS."""


class Addresses:
    """Where the broker is. One for each owner of connections, since it knows to which address he was connected.

    `urls`: one URL or several, separated by blanks; a file that they came from is read again before each round.
    `at`: host:port/vhost of the address that was reached last; `redact` hides each password that was ever known here;
    `level`: of the log lines about addresses that failed, where another one took us.
    """

    def __init__(self, urls: Secret, *, level: int = logging.WARNING) -> None:
        self._urls = urls
        self._level = level
        self._turn = several(urls)
        self._reached = False  # the first in turn, and it was not told as lost
        self._file_said = ""
        self.redact = Redactor(urls)
        self.at = ""

    @property
    def where(self) -> str:
        """For people: the one URL without its credentials, or how many there are."""
        return without_credentials(self._turn[0]) if len(self._turn) == 1 else f"{len(self._turn)} addresses"

    @property
    def known(self) -> Secret:
        """All URLs as they are known now, in turn, for a process that has no file to read them from."""
        return Secret(" ".join(url.reveal() for url in self._turn))

    def lost(self) -> None:
        """The connection to the address that was reached last is gone: the next round begins with the one behind.

        May be called twice.
        """
        if self._reached:
            self._reached, self._turn = False, (*self._turn[1:], *self._turn[:1])

    async def connect(self, attempt: Attempt[T], timeout_s: float) -> T:
        """One round: what the first attempt that succeeds returns. Each gets its share of `timeout_s`.

        Raises the error of the one address, or NoAddressError with those of all.
        """
        self._read_again()
        failed: list[tuple[str, BaseException]] = []
        for number, url in enumerate(self._turn):
            try:
                found = await attempt(url, timeout_s / len(self._turn))
            except BaseException as error:
                if not (is_loss(error) or isinstance(error, PAMQPException)):
                    raise
                failed.append((address(url), error))
                continue
            self._turn = (*self._turn[number:], *self._turn[:number])
            self.at, self._reached = address(url), True
            self._tell_of(failed)
            return found
        if len(failed) == 1:
            raise failed[0][1]
        raise NoAddressError(failed)

    def _tell_of(self, failed: list[tuple[str, BaseException]]) -> None:
        """What may need somebody, although there is a connection."""
        for where, error in failed:
            said = describe(error, self.redact)
            log.log(self._level, "RabbitMQ at %s: %s; connected to %s instead", where, said, self.at)

    def _read_again(self) -> None:
        """Takes what the file holds now, keeping the turn; where it cannot be used what is known stays, said once."""
        if not isinstance(self._urls, BrokerUrls):
            return
        try:
            found = self._urls.again()
        except ValueError as error:
            said = f"{self._urls.file}: {error}"
            if said != self._file_said:
                log.warning("RABBITMQ_URL_FILE %s; the URLs that it held before are used on", said)
            self._file_said = said
            return
        self._file_said = ""
        if found == self._urls:
            return
        first = address(self._turn[0])
        self._urls, self._turn = found, several(found)
        self.redact = self.redact.with_secrets(found)
        hide_in_log(found)
        places = [address(url) for url in self._turn]
        begin = places.index(first) if first in places else 0
        self._turn = (*self._turn[begin:], *self._turn[:begin])

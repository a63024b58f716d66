"""Which errors are transient and which permanent."""

from __future__ import annotations

import errno
import sys
import urllib.error
from email.message import Message
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from rabbitray.actors.errors import ConfigurationError, text_of
from rabbitray.actors.worker.outcome.error_text import describe
from rabbitray.actors.worker.outcome.verdict import Categories

CATEGORIES = Categories()


class HttpError(Exception):
    def __init__(self, status: object) -> None:
        super().__init__("request failed")
        self.response = SimpleNamespace(status_code=status)


class GrpcCode(Enum):
    UNAVAILABLE = (14, "unavailable")
    NOT_FOUND = (5, "not found")


class GrpcError(Exception):
    def __init__(self, code: GrpcCode) -> None:
        super().__init__("rpc failed")
        self._code = code

    def code(self) -> GrpcCode:
        return self._code


class Broken(Exception):
    """Everything that one may ask of it raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def status_code(self) -> int:
        raise RuntimeError("no status")

    def code(self, missing: object) -> None: ...


class QuotaError(ValueError): ...


class StillOurQuotaError(QuotaError): ...


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (ConnectionError(), "transient"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "transient"),
        (TimeoutError(), "transient"),
        (MemoryError(), "transient"),
        (ValueError("x"), "permanent"),
        (KeyError("x"), "permanent"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), "permanent"),
        (ZeroDivisionError(), "permanent"),
        (PermissionError(errno.EACCES, "no"), "permanent"),
        (QuotaError(), "permanent"),
        (RuntimeError("whatever"), "unknown"),
        (Exception(), "unknown"),
    ],
)
def test_by_class_and_its_bases(error: Exception, category: str) -> None:
    assert CATEGORIES.of(error) == category
    assert CATEGORIES.of(error) == category, "also when the class is known"


@pytest.mark.parametrize(
    ("number", "category"),
    [(errno.ECONNREFUSED, "transient"), (errno.ENOSPC, "transient"), (errno.EISDIR, "permanent"), (None, "unknown")],
)
def test_by_errno(number: int | None, category: str) -> None:
    error = OSError("x")
    error.errno = number
    assert CATEGORIES.of(error) == category


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (429, "transient"),
        (503, "transient"),
        (404, "permanent"),
        (422, "permanent"),
        (200, "unknown"),
        ("504", "transient"),
    ],
)
def test_by_http_status(status: object, category: str) -> None:
    assert CATEGORIES.of(HttpError(status)) == category


def test_by_the_standard_librarys_http_error() -> None:
    for status, category in ((503, "transient"), (404, "permanent")):
        assert CATEGORIES.of(urllib.error.HTTPError("http://x", status, "x", Message(), None)) == category


def test_by_grpc_status() -> None:
    assert CATEGORIES.of(GrpcError(GrpcCode.UNAVAILABLE)) == "transient"
    assert CATEGORIES.of(GrpcError(GrpcCode.NOT_FOUND)) == "permanent"


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("connect ECONNREFUSED 127.0.0.1:5432", "transient"),
        ("HTTP 503: Service Unavailable", "transient"),
        ("status=404", "permanent"),
        ("code: INVALID_ARGUMENT, bad field", "permanent"),
        ("sent 4040 bytes", "unknown"),
        ("error503", "unknown"),
        ("", "unknown"),
        ("word " * 100_000 + "503", "unknown"),
    ],
)
def test_by_known_codes_in_the_text(text: str, category: str) -> None:
    assert CATEGORIES.of(RuntimeError(text)) == category


def test_the_users_rows_come_first() -> None:
    mine = Categories(
        {"ValueError": "transient", f"{__name__}.QuotaError": "permanent", "E_BUSY": "transient", "503": "permanent"}
    )
    assert mine.of(ValueError()) == "transient"
    assert mine.of(StillOurQuotaError()) == "permanent"
    assert mine.of(RuntimeError("E_BUSY: later")) == "transient"
    assert mine.of(HttpError(503)) == "permanent"


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'sometimes'"):
        Categories({"ValueError": "sometimes"})


class Ends(Exception):
    """Who looks at it gets a SystemExit."""

    def __str__(self) -> str:
        sys.exit(0)

    @property
    def status_code(self) -> int:
        sys.exit(0)


@pytest.mark.parametrize(("error", "name"), [(Broken(), "RuntimeError"), (Ends(), "SystemExit")], ids=["error", "exit"])
def test_an_exception_that_raises_when_looked_at_is_unknown(error: Exception, name: str) -> None:
    assert CATEGORIES.of(error) == "unknown"
    assert name in text_of(error)
    assert name in describe(error)[1]


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (ValueError("x"), "ValueError", "x"),
        (ValueError(), "ValueError", "ValueError"),
        (QuotaError("much"), f"{__name__}.QuotaError", "much"),
        (ValueError("\udc80"), "ValueError", "?"),
    ],
)
def test_an_error_is_described_in_text_that_can_be_sent(error: Exception, name: str, text: str) -> None:
    assert describe(error) == (name, text)


def test_a_description_is_bounded() -> None:
    found: Any = describe(ValueError("x" * 1_000_000))
    assert len(found[1]) == 2_000

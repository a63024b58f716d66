"""From an exception to a verdict: its category (transient or permanent), and retry or dead. Pure."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from rabbitray.actors.errors import ConfigurationError, InvalidPayloadError, Reject, Retry, WorkerBroken, text_of
from rabbitray.actors.message.headers import WAIT_MOST_MS
from rabbitray.actors.message.reply import WORKER_BROKEN, Category
from rabbitray.actors.seconds import seconds_of
from rabbitray.actors.worker.outcome.error_text import NESTED_MOST, cause_of

log = logging.getLogger(__name__)

AFTER_MOST_S = WAIT_MOST_MS / 1000  # longest wait that a handler may ask for
MEMBERS_MOST: Final = 1_000  # of one group, that are judged

_TRANSIENT_CLASSES = (
    "ConnectionError TimeoutError BlockingIOError InterruptedError socket.gaierror ssl.SSLError "
    "http.client.HTTPException "
    "asyncio.exceptions.TimeoutError concurrent.futures._base.TimeoutError "
    "aiohttp.client_exceptions.ClientConnectionError "
    "requests.exceptions.ConnectionError requests.exceptions.Timeout httpx.TransportError urllib3.exceptions.HTTPError "
    "openai.APIConnectionError openai.RateLimitError anthropic.APIConnectionError anthropic.RateLimitError "
    "redis.exceptions.ConnectionError psycopg.OperationalError sqlalchemy.exc.OperationalError MemoryError "
    "rabbitray.actors.errors.HandlerLoadError"
)
_PERMANENT_CLASSES = (
    "TypeError ValueError LookupError AttributeError AssertionError ArithmeticError NotImplementedError ImportError "
    "SyntaxError UnicodeError RecursionError PermissionError FileNotFoundError NameError "
    "pydantic_core._pydantic_core.ValidationError msgspec.ValidationError jsonschema.exceptions.ValidationError"
)
_TRANSIENT_ERRNO = (
    "ECONNREFUSED ECONNRESET ECONNABORTED ETIMEDOUT EPIPE EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN ENETRESET EAGAIN "
    "EBUSY EINTR ENOBUFS ENOMEM EMFILE ENFILE ENOSPC EDQUOT ESTALE ENOTCONN"
)
_PERMANENT_ERRNO = "EACCES EPERM ENOENT EINVAL EISDIR ENOTDIR ENAMETOOLONG EEXIST EROFS"
_TRANSIENT_STATUS = (408, 409, 421, 423, 425, 429, 500, 502, 503, 504, 507, 509, 529)
_PERMANENT_STATUS = (
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    410,
    411,
    412,
    413,
    414,
    415,
    416,
    417,
    422,
    426,
    431,
    451,
    501,
)
_TRANSIENT_GRPC = "CANCELLED DEADLINE_EXCEEDED RESOURCE_EXHAUSTED ABORTED INTERNAL UNAVAILABLE"
_PERMANENT_GRPC = (
    "INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED FAILED_PRECONDITION OUT_OF_RANGE UNIMPLEMENTED "
    "DATA_LOSS UNAUTHENTICATED"
)
_TRANSIENT_CODES = "ENOTFOUND EAI_AGAIN ESOCKETTIMEDOUT"  # Node's names, which the report's services send

_STATUS_ATTRIBUTES = ("status_code", "status", "code", "http_status")
_WORDS_MOST = 64
_TO_SPACES = str.maketrans(dict.fromkeys(".,:;()[]{}<>='\"/\\|!?#@&*+-\n\t", " "))


def _rows(transient: str, permanent: str) -> dict[str, Category]:
    rows: dict[str, Category] = dict.fromkeys(transient.split(), "transient")
    return rows | dict.fromkeys(permanent.split(), "permanent")


_CLASSES = _rows(_TRANSIENT_CLASSES, _PERMANENT_CLASSES)
_GRPC = _rows(_TRANSIENT_GRPC, _PERMANENT_GRPC)
_ERRNO = _rows(_TRANSIENT_ERRNO, _PERMANENT_ERRNO)
_STATUS: dict[str, Category] = _rows(" ".join(map(str, _TRANSIENT_STATUS)), " ".join(map(str, _PERMANENT_STATUS)))
_CODES = _ERRNO | _rows(_TRANSIENT_CODES, "") | _GRPC | _STATUS


class Categories:
    """The tables, with the user's own rows before ours.

    `rows` maps an exception class (`ValueError`, `mylib.QuotaError`) or a code (`E_QUOTA`, `418`) to `transient` or
    `permanent`. Raises ConfigurationError on another word.
    """

    def __init__(self, rows: Mapping[str, str] | None = None) -> None:
        self._own: dict[str, Category] = {}
        for name, category in (rows or {}).items():
            if category not in get_args(Category):
                raise ConfigurationError(
                    f"error category of {name!r} is {category!r}; allowed: transient, permanent, unknown"
                )
            self._own[name] = category  # type: ignore[assignment] # checked above
        self._known: dict[type[BaseException], Category | None] = {}

    def of(self, error: BaseException) -> Category:
        """The category of one exception; about a microsecond for a class seen before."""
        kind = type(error)
        if kind not in self._known:
            self._known[kind] = self._by_class(kind)
        known = self._known[kind]
        if known is not None:
            return known
        try:
            return self._by_value(error)
        except BaseException:  # the user's code: not even SystemExit may end the worker here
            log.exception("The attributes of a %s cannot be read: its category is unknown", kind.__qualname__)
            return "unknown"

    def own(self, kind: type[BaseException]) -> Category | None:
        """What the user's own rows say of a class or its bases, nearest first."""
        if not self._own:
            return None
        for base in kind.__mro__:
            for name in (f"{base.__module__}.{base.__qualname__}", base.__qualname__):
                if name in self._own:
                    return self._own[name]
        return None

    def _by_class(self, kind: type[BaseException]) -> Category | None:
        """By the class and its bases, nearest first; None where the value decides (OSError, unknown classes)."""
        if (own := self.own(kind)) is not None:
            return own
        for base in kind.__mro__:
            builtin = base.__module__ == "builtins"
            found = _CLASSES.get(base.__qualname__ if builtin else f"{base.__module__}.{base.__qualname__}")
            if found is not None:
                return found
        return None

    def _by_value(self, error: BaseException) -> Category:
        return self._by_errno(error) or self._by_status(error) or self._by_words(text_of(error)) or "unknown"

    def _by_errno(self, error: BaseException) -> Category | None:
        number = getattr(error, "errno", None)
        return self._code(errno.errorcode.get(number, "")) if isinstance(number, int) else None

    def _by_status(self, error: BaseException) -> Category | None:
        for holder in (error, getattr(error, "response", None)):
            for attribute in _STATUS_ATTRIBUTES:
                value = getattr(holder, attribute, None)
                if callable(value):  # grpc.RpcError.code()
                    value = getattr(value(), "name", None)
                if isinstance(value, int | str) and (found := self._code(str(value))) is not None:
                    return found
        return None

    def _by_words(self, text: str) -> Category | None:
        for word in text[:4096].translate(_TO_SPACES).split(maxsplit=_WORDS_MOST)[:_WORDS_MOST]:
            if (found := self._code(word)) is not None:
                return found
        return None

    def _code(self, code: str) -> Category | None:
        return self._own.get(code) or _CODES.get(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an exception means for its job. `cut`: it asked for a longer wait than there is, and gets the longest."""

    verdict: Literal["retry", "dead"]
    reason: str
    category: Category
    after_s: float | None = None
    cut: bool = False


_UNREADABLE: Final = Judgement(verdict="retry", reason="exception", category="unknown")
_INVALID: Final = Judgement(verdict="dead", reason="invalid_payload", category="permanent")
_BROKEN: Final = Judgement(verdict="retry", reason=WORKER_BROKEN, category="transient")
_ASKED: Final = ("rejected", "retry_requested", WORKER_BROKEN)
_STRICTEST_FIRST: Final = (
    ("retry", WORKER_BROKEN, "transient"),
    ("dead", "rejected", "permanent"),
    ("retry", "retry_requested", "transient"),
    ("dead", "permanent", "permanent"),
    ("retry", "exception", "transient"),
    ("retry", "exception", "unknown"),
)


def judge(error: BaseException, categories: Categories) -> Judgement:
    """The verdict on one exception: what the handler asked for, else what the category of the error says.

    A group is judged by its members: a broken worker beats one that rejects, which beats one that asks for a retry,
    which beats the categories, of which permanent beats transient. What was raised `from` another is that one's retry
    or rejection, and takes its category where it has none of its own. What was raised while another was handled,
    without `from`, is no sign.
    """
    if isinstance(error, InvalidPayloadError):
        return _INVALID
    try:
        return _judge(error, categories, NESTED_MOST)
    except BaseException:  # the attributes are the user's code
        log.exception("A %s cannot be judged: its job is retried", type(error).__qualname__)
        return _UNREADABLE


def _judge(error: BaseException, categories: Categories, depth: int) -> Judgement:
    match error:
        case Retry():
            asked = _asked_s(error)
            after_s = None if asked is None else min(max(asked, 0.0), AFTER_MOST_S)
            cut = asked is not None and asked > AFTER_MOST_S
            return Judgement(verdict="retry", reason="retry_requested", category="transient", after_s=after_s, cut=cut)
        case Reject():
            return Judgement(verdict="dead", reason="rejected", category="permanent")
        case WorkerBroken():
            return _BROKEN
        case BaseExceptionGroup() if depth and categories.own(type(error)) is None:
            return _strictest([_judge(member, categories, depth - 1) for member in error.exceptions[:MEMBERS_MOST]])
    found = _by_category(categories.of(error))
    cause = cause_of(error)
    if cause is None or not depth:
        return found
    below = _judge(cause, categories, depth - 1)
    return below if below.reason in _ASKED or found.category == "unknown" else found


def _by_category(category: Category) -> Judgement:
    if category == "permanent":
        return Judgement(verdict="dead", reason="permanent", category=category)
    return Judgement(verdict="retry", reason="exception", category=category)


def _strictest(members: Sequence[Judgement]) -> Judgement:
    """What the strictest of them says; of several waits the longest."""

    def rank(one: Judgement) -> tuple[int, float]:
        return _STRICTEST_FIRST.index((one.verdict, one.reason, one.category)), -(one.after_s or 0.0)

    return min(members, key=rank)


def _asked_s(error: Retry) -> float | None:
    """The wait that a handler asked for; None (the ladder decides) for what is none, in a subclass or set later."""
    try:
        asked = seconds_of(error.after_s)
    except BaseException:  # noqa: BLE001 # a property of the user's
        return None
    return None if asked is None or math.isnan(asked) else asked

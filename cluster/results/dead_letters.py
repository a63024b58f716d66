"""The dead letters as `rabbitray dlq` reads them: from the table, never from the queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from rabbitray.actors.errors import ConfigurationError, DecodeError, StoreOpenError
from rabbitray.actors.message.headers import PUBLISHED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, TypeCodes, decode
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS
from rabbitray.cluster.cli.values import rows
from rabbitray.cluster.results.message_story import TRACED_SINCE
from rabbitray.cluster.results.reader import Reader, literal, results, schema_version
from rabbitray.cluster.settings import Loaded

_ERROR_LINE: Final = "split_part(coalesce(error, ''), chr(10), 1)"
_NORMAL: Final = (
    "regexp_replace(regexp_replace(" + _ERROR_LINE + ", "
    "'[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}|0x[0-9a-fA-F]+', '<id>', 'g'), "
    "'[0-9]+([.][0-9]+)?', '<n>', 'g')"
)
"""The first line of the error without what differs from message to message: ids, addresses, numbers."""

_GROUPS_SQL: Final = """
SELECT error_class, raised_in, category, reason,
       substr(md5(concat_ws('|', error_class, reason, coalesce(raised_in, text))), 1, 8) AS fingerprint,
       count(*) AS count, count(DISTINCT text) AS texts, min(dead_at) AS first, max(dead_at) AS last,
       arg_max(id, dead_at) AS example, coalesce(arg_max(text, dead_at), any_value(text)) AS error
FROM (SELECT *{own}, {normal} AS text FROM dead_letters)
GROUP BY error_class, raised_in, category, reason, coalesce(raised_in, text) ORDER BY count DESC, last DESC
"""

_GZIP: Final = "gzip"
_GZIP_MARK: Final = b"\x1f\x8b\x08"
"""A row of an earlier version does not tell the encoding; no text and no msgpack document of ours begins so."""
_TEXTS: Final = {
    f.CORRELATION_ID: "correlation_id",
    f.REPLY_TO: "reply_to",
    f.TYPE: "type",
    f.APP_ID: "app_id",
    f.USER_ID: "user_id",
    f.EXPIRATION: "expiration",
}
_NUMBERS: Final = {f.PRIORITY: "priority", f.TIMESTAMP: "timestamp"}

SHOWN_MOST: Final = 20
_BREAKS: Final = str.maketrans("\r\n\t", "   ")
LOOKED_UP_MOST: Final = 10_000


def groups(reader: Reader) -> list[dict[str, object]]:
    """Dead letters by error class and the line that raised it, most frequent first.

    Where the line is not known, by the error's first line without what differs from message to message.
    """
    older = schema_version(reader) < TRACED_SINCE
    sql = _GROUPS_SQL.format(normal=_NORMAL, own=", NULL::VARCHAR AS raised_in" if older else "")
    return rows(reader.query(sql, timeout_s=60.0))


def find(reader: Reader, name: str) -> dict[str, Any]:  # Any: values of the row
    """The one dead letter of that id (or the beginning of it), key or message id, the newest where several are.

    Raises ConfigurationError where there is none, or where the beginning of an id fits several.
    """
    text = literal(name)
    sql = (
        f"SELECT * FROM dead_letters WHERE id = {text} OR key = {text} OR message_id = {text} "
        f"OR (length({text}) >= 4 AND starts_with(id, {text})) ORDER BY dead_at DESC, recorded_at DESC"
    )
    found = rows(reader.query(sql, max_rows=SHOWN_MOST))
    if not found:
        raise ConfigurationError(
            f"no dead letter has the id, key or message id {name!r}; `rabbitray dlq ls` lists them"
        )
    exact = [row for row in found if name in (row["id"], row["key"], row["message_id"])]
    if not exact and len(found) > 1:
        raise ConfigurationError(f"{name!r} begins the ids of {len(found)} dead letters: give more of it")
    return dict((exact or found)[0])


def keys_of(loaded: Loaded, names: Iterable[str]) -> frozenset[str]:
    """The names, and the keys of the dead letters that they are ids of; as given where no results are at hand."""
    given = frozenset(names)
    if not given:
        return given
    listed = ", ".join(literal(name) for name in sorted(given))
    sql = f"SELECT DISTINCT coalesce(key, message_id) AS key FROM dead_letters WHERE id IN ({listed})"
    try:
        with results(loaded) as reader:
            table = reader.query(sql, max_rows=LOOKED_UP_MOST)
    except StoreOpenError:
        return given
    return given | {str(key) for key in table["key"].to_pylist() if key is not None}


def readable(
    row: Mapping[str, Any],
    codes: TypeCodes = REPORT_CODES,
    message_format: MessageFormat = "auto",
    *,
    raw: bool = False,
) -> dict[str, Any]:  # Any: JSON values
    """A row ready for JSON: headers as an object, the body as its jobs, as text or as hexadecimal.

    Of a compressed body that is what it holds; `body_bytes` are those that came, and `plain_bytes` those of its text.
    `raw`: also the bytes that came, as hexadecimal. Raw properties, where there are any, likewise, and by name.
    """
    shown = {name: value for name, value in row.items() if name not in ("body", "headers", "raw_properties")}
    if row.get("raw_properties") is not None:
        shown["raw_properties"] = row["raw_properties"].hex()
        shown["properties"] = _properties(row["raw_properties"])
    shown["headers"] = headers = json.loads(row.get("headers") or "{}")
    body = row.get("body")
    if body is None:
        return shown | {"body_bytes": None, "body": "not in the results: `error` says how large it is and where"}
    came = {"body_hex": body.hex()} if raw else {}
    stamped = PUBLISHED in headers
    read = partial(decode, codes=codes, message_format=message_format, stamped=stamped, unknown="reject")
    return shown | {"body_bytes": len(body), **_body(row, body, read), **came}


def _properties(raw: bytes) -> dict[str, str | int]:
    """What AMQP says of a message beside what has a column of its own; nothing where that cannot be told apart."""
    fields = f.fields_of(raw) or {}
    texts = {name: f.text_in(fields, flag) for flag, name in _TEXTS.items()}
    numbers = {name: f.number_in(fields, flag) for flag, name in _NUMBERS.items()}
    return {name: value for name, value in (texts | numbers).items() if value is not None}


def _body(row: Mapping[str, Any], body: bytes, read: Callable[..., list[Job]]) -> dict[str, Any]:  # Any: JSON values
    """What a body holds, of a compressed one its text; of one that cannot be unpacked what came, and why."""
    encoding = row.get("content_encoding") or (_GZIP if body.startswith(_GZIP_MARK) else None)
    shown: dict[str, Any] = {}  # Any: JSON values
    plain = body
    try:
        plain = plain_body(body, encoding, DEFAULT_LIMITS)
        shown = {} if plain is body else {"plain_bytes": len(plain)}
        jobs = read(plain, row.get("content_type"))
    except DecodeError as error:
        content = {"text": plain.decode()} if _is_text(plain) else {"hex": plain.hex()}
        return shown | {"unreadable": str(error)} | content
    return shown | {"jobs": [_job(job) for job in jobs]}


def _job(job: Job) -> dict[str, Any]:  # Any: msgspec's field values
    names = ("id", "user_id", "message_type", "scheduled_at", "payload")
    return {name: getattr(job, name) for name in names if getattr(job, name) not in (None, "")}


def _is_text(body: bytes) -> bool:
    try:
        return body.decode().translate(_BREAKS).isprintable()
    except UnicodeDecodeError:
        return False

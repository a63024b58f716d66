"""What a stranger may put into a message, and a results file full of it; whether a text is fit for people."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from unicodedata import category

import msgpack
import pyarrow as pa

from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA, RESULT_SCHEMA
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store

FORGED: Final = "2026-01-02T03:04:05.000Z CRITICAL router x: FORGED"
"""What a line break would make a line of."""

_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u3164\uffa0\u2800\ufe00\ufe0f\U000e0100")

LONG: Final = "L" * 1_000_000

TEXTS: Final = (
    r"\[/x]",
    "[/bold]",
    "[red]painted[/red] :smile: [link=http://x]y[/link]",
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m\x9d0;t\x9c\x90q\x85",
    "a\u202egnp.exe\u2066b\u2069\u200f",
    "zero\u200b\u200d\u2060\ufeff\u00ad\u3164\ufe0f\u2800width",
    f"broken\n{FORGED}",
    f"broken\r\n{FORGED}\x0b\x0c\x1c\x1d\x1e",
    f"broken\u2028{FORGED}\u2029{FORGED}",
    "back\b\b\b\bspace\rover",
    "nul\x00inside\x7f",
    "tab\tbed",
    "\U000e0001\U000e0041\U0010ffff\ue000\uffff",
    "</script><script>alert(1)</script><b onclick='x'>\"&amp;{{ 7*7 }}{% x %}",
    "=cmd|'/c calc'!A1",
    "%s %d {0} {key} $x",
    "'; DROP TABLE results; --",
    "åäö 中文 עברית 😀",
    " ",
    "",
)

JSON_VALUES: Final[Mapping[str, Any]] = {
    "null": None,
    "true": True,
    "zero": -0.0,
    "small": 5e-324,
    "large": 1.7976931348623157e308,
    "huge": 10**4_000,
    "negative": -(2**63),
    "unsigned": 2**64 - 1,
    "empty": [{}, [], ""],
    "deep": [[[[[[[[[[["deep"]]]]]]]]]]],
    "": "no name",
    **{text: text for text in TEXTS},
}

MSGPACK_VALUES: Final[Mapping[Any, Any]] = {
    **{name: value for name, value in JSON_VALUES.items() if name != "huge"},
    "nan": float("nan"),
    "infinite": [float("inf"), float("-inf")],
    "bytes": b"\x00\x1b\xff",
    "extension": msgpack.ExtType(5, b"\x1b[2J\xff"),
    "timestamp": msgpack.Timestamp(2**34 - 1, 999_999_999),
    "before": msgpack.Timestamp(-(2**40), 0),
    b"\x1b[31m\xff": "a name of bytes",
}

BODIES: Final = (
    (json.dumps(JSON_VALUES).encode(), "application/json"),
    (json.dumps({"i": "k\x1b[2J", "u": "\u202eu", "t": "B", "p": JSON_VALUES}).encode(), "application/json"),
    (json.dumps("\ud800\x1b").encode(), "application/json"),
    (msgpack.packb(MSGPACK_VALUES), "application/msgpack"),
    (msgpack.packb([MSGPACK_VALUES] * 2), "application/msgpack"),
    ("\n".join(TEXTS).encode(), "text/plain"),
    (LONG.encode(), "text/plain; charset=\x1b[2J"),
    (json.dumps({"long": LONG}).encode(), "application/json"),
    (b"\xff\xfe\x1b[2J", "application/octet-stream"),
    (b"\xff\xfe\x1b[2J", None),
    (b"", "\\[/x]"),
    (None, "text/plain"),
)


def unfit(text: str) -> set[str]:
    """The characters in it that people must not get: all but what is seen, and the line feed.

    By Unicode's categories, which is another way than the code's own.
    """
    return {one for one in set(text) if one != "\n" and (one in _UNSEEN or (category(one)[0] in "CZ" and one != " "))}


def hostile_file(path: Path, seed: int, count: int = len(BODIES)) -> Path:
    """A results file of which every text, body and header was chosen by a stranger."""
    chance = random.Random(seed)

    async def make() -> None:
        store = Store(StoreConfig(path=path, dedupe_capacity=1_000))
        await store.open()
        epoch = await store.register("test")
        done = [_result(chance, n) for n in range(count)]
        again = [_result(chance, n) | {"key": row["key"], "queue": row["queue"]} for n, row in enumerate(done)]
        for number, rows in enumerate((done, again)):
            hashed = [row | {"payload_hash": number} for row in rows]
            await store.write(epoch, pa.Table.from_pylist(hashed, RESULT_SCHEMA))
        await store.record_dead_letters(
            epoch, pa.Table.from_pylist([_dead(chance, n) for n in range(count)], DEAD_LETTER_SCHEMA)
        )
        await store.decide([{"pool": _text(chance), "inputs": {}, "current": 1, "wanted": 2, "reason": _text(chance)}])
        await store.close()

    asyncio.run(make())
    return path


def _text(chance: random.Random) -> str:
    """One of the texts, several at once, or any characters that UTF-8 can say."""
    if chance.random() < 0.6:
        return chance.choice(TEXTS)
    if chance.random() < 0.5:
        return "".join(chance.sample(TEXTS, 3))
    letters = (chr(chance.choice((chance.randrange(0x300), chance.randrange(0xD800)))) for _ in range(20))
    return "".join(letters)


def _common(chance: random.Random) -> dict[str, Any]:
    names = ("message_id", "queue", "message_type", "error", "error_class", "category", "worker", "trace_id")
    found: dict[str, Any] = {name: _text(chance) for name in names}
    return found | {"error": chance.choice((LONG, found["error"], "a\tb\n" * 1_000)), "attempts": chance.choice((1, 7))}


def _result(chance: random.Random, number: int) -> dict[str, Any]:
    at = dt.datetime(2026, 1, 2, 3, 4, number, tzinfo=dt.UTC)
    times = dict.fromkeys(("published_at", "received_at", "started_at", "finished_at"), at)
    own = {
        "key": f"{_text(chance)}-{number}",
        "user_id": _text(chance),
        "status": _text(chance),
        "result": json.dumps(chance.choice((_text(chance), LONG, {_text(chance): _text(chance)}))),
        "batch_id": _text(chance),
    }
    return _common(chance) | times | own


def _dead(chance: random.Random, number: int) -> dict[str, Any]:
    at = dt.datetime(2026, 1, 2, 3, 4, number, tzinfo=dt.UTC)
    body, content_type = BODIES[number % len(BODIES)]
    headers = {_text(chance): _text(chance), "nan": float("nan"), "huge": 10**300, "list": [_text(chance), {"": None}]}
    own = {
        "key": f"{_text(chance)}-{number}",
        "reason": _text(chance),
        "first_seen": at,
        "dead_at": at,
        "headers": json.dumps(headers, default=str),
        "content_type": content_type,
        "body": body,
        "raw_properties": chance.randbytes(9),
    }
    return _common(chance) | own

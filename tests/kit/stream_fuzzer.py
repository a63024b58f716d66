"""A search for bytes that the scanner and a full reader take for different deliveries.

    python -m tests.kit.stream_fuzzer TRIES    searches, and adds to the kept streams what reached new lines

A stream comes to the scanner whole and in pieces, and both must give the same; what is looked for in it is whatever
`tests.kit.amqp_frames.agree` finds.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pamqp.frame
from pamqp import commands, heartbeat

from rabbitray.actors.message.properties import field_table, property_list
from rabbitray.actors.router.intake import scanner
from tests.kit.amqp_frames import CHANNEL, agree, cut, frames, read_fully, scanned, split
from tests.kit.coverage_search import search

KEPT = Path(__file__).parents[1] / "kept" / "streams.txt"
FILES = frozenset(str(module.__file__) for module in (scanner, property_list, field_table))
_LONGEST = 3_000
_BYTES = (b"\0", b"\1", b"\2", b"\3", b"\xce", b"\xff", b"\x7f", b"S", b"F", b"A", b"V", b"T", b"D", b"x")


def kept() -> list[bytes]:
    """The streams of the kept file."""
    return [bytes.fromhex(line) for line in KEPT.read_text().splitlines()]


def keep(streams: Iterable[bytes]) -> None:
    """Writes the kept file anew."""
    KEPT.write_text("".join(stream.hex() + "\n" for stream in streams))


def check(stream: bytes) -> None:
    """Whole and in pieces it is the same, and what both readers take of it is the same."""
    chance = random.Random(zlib.crc32(stream))
    pieces = cut(stream, [chance.choice((1, 2, 7, 60, 300)) for _ in range(40)])
    whole, apart = scanned([stream]), scanned(pieces)
    assert (whole.bodies, whole.left, str(whole.error)) == (apart.bodies, apart.left, str(apart.error))
    told = [repr([one.properties for one in found.taken]) for found in (whole, apart)]  # a NaN, too
    assert told[0] == told[1]
    agree(whole, read_fully(stream))


def changed(stream: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """The stream with frames put in, left out, swapped or changed, their lengths made to fit or not."""
    found = split(stream)
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(found))
        other = chance.choice(split(chance.choice(others)) or [b""])
        match chance.randint(0, 4):
            case 0:
                found.insert(at, other)
            case 1:
                del found[at : at + 1]
            case 2:
                found[at : at + 2] = reversed(found[at : at + 2])
            case _:
                found[at : at + 1] = [_bytes_changed(frame, chance) for frame in found[at : at + 1]]
    return b"".join(found)[:_LONGEST]


def _bytes_changed(frame: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(frame))
    end = min(len(frame), start + chance.choice((0, 0, 1, 1, 2, 4, 20)))
    middle = chance.choice((chance.choice(_BYTES), chance.randbytes(1), frame[start:end] * 3))
    frame = frame[:start] + middle + frame[end:]
    return frame if chance.random() < 0.2 else frame[:3] + max(len(frame) - 8, 0).to_bytes(4, "big") + frame[7:]


def _first() -> list[bytes]:
    """Streams to begin with, where none are kept."""
    table = {"a": 1, "b": "text", "c": [True, None, 1.5], "d": {"e": bytearray(b"x")}, "f": 2**40}
    full = commands.Basic.Properties(
        content_type="t", content_encoding="e", headers=table, delivery_mode=2, priority=1, correlation_id="c",
        reply_to="r", expiration="1", message_id="m", message_type="y", user_id="u", app_id="p",
    )  # fmt: skip
    others = [pamqp.frame.marshal(heartbeat.Heartbeat(), 0), pamqp.frame.marshal(commands.Basic.QosOk(), CHANNEL)]
    streams = [[*frames(1, b"body", full)], frames(1, b""), frames(2, b"x" * 500, step=100), others]
    streams += [[*frames(3, b"y", commands.Basic.Properties(headers={"a": "x" * 200})), *frames(4, b"z", channel=2)]]
    return [b"".join(stream) for stream in streams]


if __name__ == "__main__":
    begun = kept() if KEPT.exists() else []
    tries = int(sys.argv[1])
    keep(search([*begun, *_first()], tries, random.Random(), changed=changed, check=check, files=FILES))

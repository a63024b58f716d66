"""A coverage-guided search for bodies that a reader of `message.wire` does not take as it promises.

    python -m tests.kit.body_fuzzer TRIES    searches, and adds to the kept bodies what reached lines that no other did

A body is changed at random; one that reaches new lines of our readers is kept and changed further. What is looked at
is each reader's promise (`check`), not what it finds.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message import formats, wire
from rabbitray.actors.message.formats.auto import read_as, read_by_type
from rabbitray.actors.message.formats.cbor import CBOR
from rabbitray.actors.message.formats.cloudevents import STRUCTURED
from rabbitray.actors.message.formats.decoded import job_of
from rabbitray.actors.message.formats.named import FORMATS
from rabbitray.actors.message.headers import JSON, MSGPACK, PACKED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.parcel import records_of
from rabbitray.actors.message.wire.counting import json_entries, msgpack_entries, names_each_once
from tests.kit import coverage_search
from tests.kit.body_mutations import TOKENS
from tests.kit.deliveries import parcel

KEPT = Path(__file__).parents[1] / "kept" / "bodies.jsonl"
READERS = frozenset(str(path) for one in (wire, formats) for path in Path(one.__file__).parent.glob("*.py"))
KINDS = (JSON, MSGPACK, PACKED, "text/plain", "application/octet-stream", "x/y", "", CBOR, STRUCTURED)
ENCODINGS = ("", "gzip", "utf-8", "br", "deflate", "zstd", "utf-16", "utf-8, application/x-gzip", "x-nobody")
HEADERS = {"task": "t", "id": "1"}
NOW = datetime(2026, 1, 2, tzinfo=UTC)
LIMITS = wire.MessageLimits(max_message_bytes=4_000, max_records=20, max_depth=6, max_collection=50, max_elements=100)


class Case(NamedTuple):
    """A message as a stranger sends it."""

    body: bytes
    kind: str
    encoding: str


def kept() -> list[Case]:
    """The bodies of the kept file."""
    lines = map(json.loads, KEPT.read_text().splitlines())
    return [Case(base64.b64decode(line["body"]), line["kind"], line["encoding"]) for line in lines]


def keep(cases: Iterable[Case]) -> None:
    """Writes the kept file anew."""
    lines = [{"kind": one.kind, "encoding": one.encoding, "body": base64.b64encode(one.body).decode()} for one in cases]
    KEPT.write_text("".join(json.dumps(line) + "\n" for line in lines))


def counted(document: Any) -> tuple[int, int]:
    """Entries of all maps and lists of a document, and how many of them are pairs of maps."""
    if isinstance(document, dict):
        inside = [counted(value) for value in document.values()]
        return len(inside) + sum(one for one, _ in inside), len(inside) + sum(two for _, two in inside)
    if isinstance(document, list):
        inside = [counted(value) for value in document]
        return len(inside) + sum(one for one, _ in inside), sum(two for _, two in inside)
    return 0, 0


def check(case: Case) -> None:
    """Each reader gives what it promises, or a DecodeError that names the damage; else AssertionError, or whatever."""
    message = parcel(case.body, content_type=case.kind, content_encoding=case.encoding)
    for limits in (wire.MessageLimits(), LIMITS):
        _tried(lambda limits=limits: wire.decode(*case, limits))
        _tried(lambda limits=limits: wire.split(case.body, case.encoding, limits))
        _tried(lambda limits=limits: records_of(message, limits))
        assert 1 <= wire.count_records(*case, max_records=limits.max_records) <= limits.max_records
        assert wire.plain_size(case.body, case.encoding, limits) >= len(case.body)
        _tried(lambda limits=limits: read_by_type(message, limits, wire.REPORT_CODES, "auto", "bytes"))
        _check_formats(case, limits)
    head, jobs = _tried(lambda: wire.read_head(*case)), _tried(lambda: wire.decode(*case))
    if isinstance(head, Job) and isinstance(jobs, list):
        assert head == msgspec.structs.replace(jobs[0], payload=None), "a head names no other job"
    _check_json_counts(case.body)
    _check_msgpack_count(case.body)


def _check_formats(case: Case, limits: wire.MessageLimits) -> None:
    """Each format, of whatever a message with this body may be."""
    whole = Message(body=case.body, content_type=case.kind or None, headers=HEADERS)
    for form in FORMATS.values():
        _tried(lambda form=form: job_of(read_as(form.read, case.body, whole, limits), NOW))


def _tried(call: Callable[[], Any]) -> Any:  # Any: what a reader gives
    try:
        return call()
    except DecodeError as raised:
        error = raised
    assert error.reason not in ("", "unreadable"), str(error)
    assert len(str(error)) < 500, "an error does not repeat the body"
    return None


def _check_msgpack_count(body: bytes) -> None:
    try:
        document = msgpack.unpackb(
            body, strict_map_key=True, object_pairs_hook=lambda pairs: {n: value for n, (_, value) in enumerate(pairs)}
        )
    except (msgpack.UnpackException, ValueError, TypeError):
        return
    assert msgpack_entries(body, 10**9) == counted(document)[0]


def _check_json_counts(body: bytes) -> None:
    """What is counted before reading is what a full parse finds, where there is one."""
    try:
        pairs_of_all: list[int] = []
        document = json.loads(body, object_pairs_hook=lambda pairs: pairs_of_all.append(len(pairs)) or dict(pairs))
        assert msgspec.json.decode(body) == document
    except (ValueError, RecursionError):
        return
    entries, pairs = counted(document)
    if pairs == sum(pairs_of_all):
        assert json_entries(body, 10**9) == entries
    if isinstance(document, dict):
        assert names_each_once(body, document) == (pairs == sum(pairs_of_all))


def changed(case: Case, others: Sequence[Case], chance: random.Random) -> Case:
    """`case` with some bytes cut out, put in, doubled or taken from another body; now and then of another type."""
    body = gzip.decompress(case.body) if case.encoding == "gzip" and chance.random() < 0.5 and _is_gzip(case) else None
    inner = case.body if body is None else body
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(inner))
        end = min(len(inner), start + chance.choice((0, 0, 1, 1, 2, 4, 20)))
        other = chance.choice(others).body
        cut = chance.randint(0, len(other))
        middle = chance.choice((chance.choice(TOKENS), chance.randbytes(1), inner[start:end] * 3, other[cut : cut + 9]))
        inner = inner[:start] + middle + inner[end:]
    kind = chance.choice(KINDS) if chance.random() < 0.05 else case.kind
    encoding = chance.choice(ENCODINGS) if chance.random() < 0.05 else case.encoding
    return Case((gzip.compress(inner, mtime=0) if body is not None else inner)[:3_000], kind, encoding)


def _is_gzip(case: Case) -> bool:
    try:
        return bool(gzip.decompress(case.body))
    except (OSError, EOFError, zlib.error):
        return False


def search(seeds: list[Case], tries: int, chance: random.Random) -> list[Case]:
    """The seeds that reach lines of their own, and what was found beside them; raises what `check` does."""
    return coverage_search.search(seeds, tries, chance, changed=changed, check=check, files=READERS)


def _first() -> list[Case]:
    """Bodies to begin with, where none are kept."""
    job = Job(id="550e8400-e29b-41d4-a716-446655440000", user_id="u", message_type="BIRTHDAY", payload={"a": [1, "b"]})
    made = [wire.encode(job, form=form) for form in ("msgpack", "compact_json", "verbose_json")]
    made += [wire.pack([job, job]), (b"text", "text/plain"), (b'{"a": [1.5, {}]}', "")]
    made += [(b'{"i":"1","s":"2026-01-02T12:00:00Z","r":1,"m":2}', JSON), (msgpack.packb({"i": "a", "p": [b"x"]}), "")]
    made += [(b'{"task":"t","id":"1","args":[],"kwargs":{},"chord":null}', JSON), (b'[[1],{},{"chain":null}]', JSON)]
    made += [(b'{"actor_name":"a","message_id":"1","args":[],"kwargs":{},"options":{"eta":1}}', JSON)]
    made += [(b'{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"eA=="}', STRUCTURED)]
    made += [(b'{"body":"e30=","properties":{"body_encoding":"base64"},"headers":{}}', JSON)]
    made += [(b'[[{"__type__":"datetime","__value__":"2026-01-02"}],{},null]', JSON), (b"\x00Sw\xa1\x05hello", "")]
    made += [(b"\xa1\x61a\x9f\xc1\x01\xc2\x41\x07\xff", CBOR)]
    plain = [Case(body, kind, "") for body, kind in made]
    return plain + [Case(gzip.compress(one.body, mtime=0), one.kind, "gzip") for one in plain]


if __name__ == "__main__":
    chance = random.Random()
    begun = kept() if KEPT.exists() else []
    keep(search([*begun, *_first()], int(sys.argv[1]), chance))

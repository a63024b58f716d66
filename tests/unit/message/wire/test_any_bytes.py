"""Any bytes give jobs or a DecodeError with its reason, and what is counted before reading is what a parse finds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JOB_JSON, JOB_MSGPACK, JSON, MSGPACK, PACKED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageLimits, decode, encode, pack, read_head, read_record_head, split
from rabbitray.actors.message.wire.counting import json_entries, msgpack_entries, names_each_once
from rabbitray.actors.message.wire.documents import parse
from rabbitray.actors.message.wire.limits import require_within
from tests.kit.body_fuzzer import counted
from tests.kit.body_mutations import mutated

FEW = MessageLimits(max_message_bytes=4_000, max_records=20, max_depth=6, max_collection=50, max_elements=100)
KINDS = st.sampled_from(
    [
        JSON,
        JOB_JSON,
        MSGPACK,
        JOB_MSGPACK,
        PACKED,
        "text/plain",
        "application/octet-stream",
        "a/b+json",
        "x/y",
        "",
        None,
    ]
)
ENCODINGS = st.sampled_from([None, "", "gzip", "utf-8", "br"])
MANY = 10**9

texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(['"', "\\", '\\"', "[,{:", '": ', " :"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=30
)
blanks = st.text(" \t\n\r", max_size=3)
bodies = st.binary(max_size=200) | st.text('[]{},:" \\01e.-tn', max_size=60).map(str.encode)


def parts(document: Any) -> list[Any]:
    """A document and all that lies in it."""
    inside = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return [document, *(part for value in inside for part in parts(value))]


def json_text(document: Any, draw: st.DataObject) -> bytes:
    """A document as JSON, with blanks where the grammar allows them, and letters escaped or not."""
    ascii_only = draw.draw(st.booleans())

    def written(value: Any) -> str:
        before, after = draw.draw(blanks), draw.draw(blanks)
        if isinstance(value, dict):
            pairs = [f"{written(key)}:{written(one)}" for key, one in value.items()]
            return before + "{" + (",".join(pairs) or before) + "}" + after
        if isinstance(value, list):
            return before + "[" + (",".join(map(written, value)) or before) + "]" + after
        return before + json.dumps(value, ensure_ascii=ascii_only) + after

    return written(document).encode()


@given(documents, st.data())
def test_the_entries_of_a_json_text_are_counted_as_a_full_parse_finds_them(document: Any, data: st.DataObject) -> None:
    body = json_text(document, data)
    entries, _ = counted(document)
    assert msgspec.json.decode(body) == document
    assert json_entries(body, MANY) == entries
    assert json_entries(body, entries // 2) == min(entries, entries // 2 + 1), "no further than it must"
    require_within(document, MessageLimits(max_elements=entries), len(body))
    if entries:
        with pytest.raises(DecodeError, match="too_many_elements"):
            require_within(document, MessageLimits(max_elements=entries - 1), len(body))


def depth(document: Any) -> int:
    """Levels of maps and lists."""
    if not isinstance(document, dict | list):
        return 0
    return 1 + max(map(depth, parts(document)[1:]), default=0) if document else 1


@given(documents, st.data())
def test_a_document_is_refused_for_its_levels_alone_whatever_its_size(document: Any, data: st.DataObject) -> None:
    body, most = json_text(document, data), data.draw(st.integers(1, 6))
    limits = MessageLimits(max_depth=most)
    for read in (
        lambda: parse(body, limits),
        lambda: require_within(document, limits, len(body)),
        lambda: require_within(document, limits, limits.max_elements + 1),
    ):
        if depth(document) > most:
            with pytest.raises(DecodeError, match="too_deep"):
                read()
        else:
            read()


@given(st.dictionaries(texts, documents, max_size=5), st.data())
def test_a_key_that_is_there_twice_is_found_and_no_other(document: dict[str, Any], data: st.DataObject) -> None:
    body = json_text(document, data)
    assert names_each_once(body, document)
    inner = [part for part in parts(document) if isinstance(part, dict) and part]
    if inner:
        data.draw(st.sampled_from(inner)).popitem()
        assert not names_each_once(body, document), "as if the last of two were left"


@given(documents)
def test_the_entries_of_a_msgpack_body_are_counted_as_a_full_parse_finds_them(document: Any) -> None:
    entries, _ = counted(document)
    assert msgpack_entries(msgpack.packb(document), MANY) == entries


everything = st.recursive(
    scalars
    | st.binary(max_size=300)
    | st.text(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=300))
    | st.builds(msgpack.Timestamp, st.integers(-(2**40), 2**40), st.integers(0, 999_999_999)),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=60,
)


@given(everything)
def test_msgpack_of_every_type_and_length_is_counted(document: Any) -> None:
    entries, _ = counted(document)
    try:
        body = msgpack.packb(document)
    except UnicodeEncodeError:
        assume(False)
    assert msgpack_entries(body, MANY) == entries


def test_msgpack_of_every_first_byte_is_passed_over_whole() -> None:
    for value in (b"", b"x" * 20, b"x" * 300, b"x" * 70_000):
        for code in (5, -1):
            made = [value, value.decode(), msgpack.ExtType(code, value) if code > 0 else 1.5, [2] * len(value)]
            body = msgpack.packb({"a": made, "b": dict.fromkeys(map(str, range(len(value))))})
            assert msgpack_entries(body, MANY) == counted(msgpack.unpackb(body, strict_map_key=False))[0]


@given(bodies)
@example(b'"' + b'\\"' * 50)
@example(b'["\\')
@example(b'[[],{},[1,"],[",{"":[]}')
def test_of_what_is_no_json_at_least_as_much_is_counted_as_a_reader_builds(body: bytes) -> None:
    """A reader builds from a beginning of the text; of each beginning that can be closed, no more is there."""
    count = json_entries(body, MANY)
    for end in range(len(body) + 1):
        for tail in (b"", b"]", b"}", b"]]", b"}]"):
            try:
                document = msgspec.json.decode(body[:end] + tail)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            assert counted(document)[0] <= count + 1


def tried(call: Callable[[], list[Job]]) -> list[Job] | str:
    """The jobs, or the reason; whatever else is raised fails the test."""
    try:
        found = call()
    except DecodeError as raised:
        error = raised
    else:
        assert found
        assert all(isinstance(job, Job) for job in found)
        return found
    assert error.reason
    assert " " not in error.reason
    assert len(str(error)) < 500, "an error does not repeat the body"
    return error.reason


def outcome(body: bytes, kind: str | None, encoding: str | None, limits: MessageLimits) -> list[Job] | str:
    return tried(lambda: decode(body, kind, encoding, limits))


@given(bodies, KINDS, ENCODINGS)
def test_any_bytes_give_jobs_or_a_reason(body: bytes, kind: str | None, encoding: str | None) -> None:
    for limits in (MessageLimits(), FEW):
        assert outcome(body, kind, encoding, limits) != "unreadable", "each damage has its own name"


jobs = st.builds(
    Job,
    id=st.none() | st.uuids().map(str) | texts.filter(bool),
    user_id=st.none() | texts,
    message_type=st.sampled_from(["", "BIRTHDAY", "X", "WELCOME"]),
    retry_count=st.integers(0, 5),
    timestamp_ms=st.none() | st.integers(0, 2**40),
    payload=documents,
)


def legal(job: Job, data: st.DataObject) -> tuple[bytes, str]:
    """A body that a reader takes."""
    form = data.draw(st.sampled_from(["msgpack", "compact_json", "verbose_json", "packed", "json", "text"]))
    match form:
        case "packed":
            return pack([job] * data.draw(st.integers(1, 4)))
        case "json":
            return json_text(job.payload, data), JSON
        case "text":
            return repr(job).encode(), "text/plain"
        case _:
            return encode(job, form=form)


@given(jobs, st.data())
def test_a_damaged_body_gives_jobs_or_a_reason(job: Job, data: st.DataObject) -> None:
    body, kind = legal(job, data)
    body = data.draw(mutated(body))
    encoding = data.draw(st.sampled_from([None, "gzip"]))
    if encoding == "gzip":
        body = data.draw(mutated(gzip.compress(body)))
    for limits in (MessageLimits(), FEW):
        assert outcome(body, kind, encoding, limits) != "unreadable"


# -- what the router reads


@given(jobs, st.sampled_from(["msgpack", "compact_json", "verbose_json"]), st.booleans())
def test_the_head_of_a_job_is_the_job_without_its_payload(job: Job, form: Any, sniffed: bool) -> None:
    body, kind = encode(job, form=form)
    (whole,) = decode(body, kind)
    how: Any = {"message_format": "report"} if sniffed else {}
    assert read_head(body, None if sniffed else kind, None, **how) == msgspec.structs.replace(whole, payload=None)


@given(st.lists(jobs, min_size=1, max_size=5))
def test_the_heads_of_records_are_their_jobs_without_payloads(many: list[Job]) -> None:
    body, kind = pack(many)
    heads = [read_record_head(piece) for piece in split(body)]
    assert heads == [msgspec.structs.replace(job, payload=None) for job in decode(body, kind)]


def head(body: bytes, kind: str | None, encoding: str | None) -> list[Job] | str:
    return tried(lambda: [read_head(body, kind, encoding)])


@given(jobs, st.data())
def test_a_damaged_head_is_that_of_its_job_or_of_none_that_can_be_read(job: Job, data: st.DataObject) -> None:
    """It never names another job than a worker would find."""
    body, kind = legal(job, data)
    body = data.draw(mutated(body))
    found, read = head(body, kind, None), outcome(body, kind, None, MessageLimits())
    if isinstance(found, list) and isinstance(read, list):
        assert found == [msgspec.structs.replace(job, payload=None) for job in read]


@given(bodies, KINDS, ENCODINGS)
def test_any_bytes_have_a_head_or_a_reason(body: bytes, kind: str | None, encoding: str | None) -> None:
    head(body, kind, encoding)


@given(bodies.map(lambda body: b"\x93" + body) | bodies)
def test_any_record_has_a_head_or_a_reason(body: bytes) -> None:
    tried(lambda: [read_record_head(piece) for piece in split(body, None, FEW)])

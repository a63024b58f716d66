"""Bringing the dedupe to the state of the table: at start, and after a failure that leaves a commit in
doubt.

Each sealed segment is compared with the table (number of keys and xor of their hashes) and with its own checksum, and
made again where it differs, so the side files can be lost, damaged, stale or foreign without any effect but time. One
case is refused: sealed rows that the table no longer has, since they were acknowledged.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from rabbitray.actors.errors import StoreOpenError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.index import Dedupe
from rabbitray.actors.store.dedupe.keys import Identities, identities
from rabbitray.actors.store.dedupe.segment import Segment, SegmentHead, read_segment, seal
from rabbitray.actors.store.file import scalar

log = logging.getLogger(__name__)

_COLUMNS = "seq, queue, key, message_type, user_id, payload_hash"
_FILTER = "filter.npz"


def load(con: duckdb.DuckDBPyConnection, config: StoreConfig, store_id: str) -> Dedupe:
    """A dedupe that knows each row of the table.

    Raises StoreOpenError when rows are gone that were sealed, that is, acknowledged, earlier.
    """
    directory = _directory(config)
    dedupe = Dedupe(capacity=config.dedupe_capacity, store_id=store_id, directory=directory)
    end = scalar(con, "SELECT coalesce(max(seq) + 1, 0) FROM results")
    whole = end // dedupe.segment_rows
    kept = _read_all(directory, store_id)
    _refuse_lost_rows(kept, end, directory)
    in_filter = restore_filter(dedupe, store_id, directory)
    _adopt_all(con, dedupe, store_id, kept, whole, in_filter)
    _add_tail(con, dedupe, end)
    return dedupe


def catch_up(con: duckdb.DuckDBPyConnection, dedupe: Dedupe) -> None:
    """Learn the rows that were committed although their COMMIT failed; refuse when known rows are gone."""
    end = scalar(con, "SELECT coalesce(max(seq) + 1, 0) FROM results")
    if end < dedupe.next_seq:
        raise StoreOpenError(
            f"the table ends at row {end}, but {dedupe.next_seq} rows were acknowledged: nothing is written"
        )
    _add_tail(con, dedupe, end)


def save_filter(dedupe: Dedupe, store_id: str, directory: Path) -> None:
    """Keep the filter for the next start; raises OSError."""
    head = json.dumps(_heads(dedupe, store_id, len(dedupe.sealed)))
    draft = directory / "filter.part.npz"
    np.savez(draft, plane=dedupe.bloom.plane, head=np.frombuffer(head.encode(), np.uint8))
    os.replace(draft, directory / _FILTER)


def restore_filter(dedupe: Dedupe, store_id: str, directory: Path | None) -> dict[int, list[int]]:
    """Load the saved filter, if any; returns what it holds: for each segment its [keys, xor]."""
    if directory is None or not (directory / _FILTER).exists():
        return {}
    try:
        with (directory / _FILTER).open("rb") as file, np.load(file, allow_pickle=False) as saved:
            plane, head = saved["plane"], json.loads(saved["head"].tobytes())
    except Exception as error:  # noqa: BLE001 # a damaged archive raises what it likes; its checksums leave none unseen
        log.warning("the saved filter cannot be read, it is made again: %s", str(error))
        return {}
    if head["store_id"] != store_id or head["rows"] != dedupe.segment_rows or plane.shape != dedupe.bloom.plane.shape:
        return {}
    dedupe.bloom.plane = plane
    return dict(enumerate(head["segments"]))


def _heads(dedupe: Dedupe, store_id: str, count: int) -> dict[str, object]:
    segments = [[segment.head.keys, segment.head.xor] for segment in dedupe.sealed[:count]]
    return {"store_id": store_id, "rows": dedupe.segment_rows, "segments": segments}


def _directory(config: StoreConfig) -> Path | None:
    try:
        config.side_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("no folder for sealed segments, they stay in memory: %s", str(error))
        return None
    return config.side_dir


def _read_all(directory: Path | None, store_id: str) -> dict[Path, Segment]:
    """The segments of this results file that are in side files; a damaged one is left out."""
    kept: dict[Path, Segment] = {}
    for path in sorted(directory.glob("segment-*.arrow")) if directory else []:
        segment = read_segment(path)
        if segment is None:
            log.warning("the side file %s is damaged or cannot be read, it is made again from the table", path)
        elif segment.head.store_id == store_id:
            kept[path] = segment
    return kept


def _refuse_lost_rows(kept: dict[Path, Segment], end: int, directory: Path | None) -> None:
    for segment in kept.values():
        sealed = segment.head.first + segment.head.rows
        if sealed > end:
            raise StoreOpenError(
                f"{sealed} rows were acknowledged and the table holds {end}: its log was damaged, "
                f"or it is an older copy; if that is meant, remove {directory}"
            )


def _adopt_all(
    con: duckdb.DuckDBPyConnection,
    dedupe: Dedupe,
    store_id: str,
    kept: dict[Path, Segment],
    whole: int,
    in_filter: dict[int, list[int]],
) -> None:
    expected = _summaries(con, dedupe.segment_rows)
    held = {index: tuple(entry) for index, entry in in_filter.items()}
    if any(index >= whole or expected.get(index, (0, 0)) != entry for index, entry in held.items()):
        dedupe.bloom.plane[:] = 0
        held = {}
    for index in range(whole):
        keys, xor = expected.get(index, (0, 0))
        head = SegmentHead(
            store_id=store_id, first=index * dedupe.segment_rows, rows=dedupe.segment_rows, keys=keys, xor=xor
        )
        path = dedupe.path_of(index)
        segment = kept.get(path) if path else None
        good = segment is not None and segment.head == head
        if segment is None or not good:
            segment = seal(store_id, head.first, head.rows, _range(con, head.first, head.first + head.rows))
        dedupe.adopt(segment, saved=good, in_filter=index in held)


def _summaries(con: duckdb.DuckDBPyConnection, rows: int) -> dict[int, tuple[int, int]]:
    sql = "SELECT seq // $1, count(key_hash), coalesce(bit_xor(key_hash), 0) FROM results GROUP BY 1"
    return {int(index): (int(keys), int(xor)) for index, keys, xor in con.execute(sql, [rows]).fetchall()}


def _add_tail(con: duckdb.DuckDBPyConnection, dedupe: Dedupe, end: int) -> None:
    while dedupe.next_seq < end:
        start = dedupe.next_seq
        dedupe.add(_range(con, start, min(end, start + dedupe.segment_rows)))


def _range(con: duckdb.DuckDBPyConnection, start: int, end: int) -> Identities:
    """Identities of the sequence numbers [start, end); a number whose row was deleted counts as one without
    a key.
    """
    where = f"seq >= {start} AND seq < {end}"
    table = con.sql(f"SELECT {_COLUMNS} FROM results WHERE {where} ORDER BY seq").to_arrow_table()
    ids = identities(table.combine_chunks())
    if table.num_rows == end - start:
        return ids
    places = table["seq"].to_numpy() - start
    index = np.full(end - start, -1, np.int64)
    index[places] = np.arange(len(places))
    gaps = index < 0
    if not len(places):
        nothing = np.zeros(end - start, np.uint64)
        return Identities(texts=pa.nulls(end - start, pa.string()), hashes=nothing, tags=nothing)
    texts = ids.texts.take(pa.array(index, mask=gaps))
    hashes, tags = (np.where(gaps, np.uint64(0), column[index]) for column in (ids.hashes, ids.tags))
    return Identities(texts=texts, hashes=hashes, tags=tags)

"""A results file with an eventful run in it, made by SQL so that its times are spread as in real life."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import sql_in_a_process

JOBS = 6_000
DEAD = 60
CONFLICTS_KEYS = 30
"""Each of which two other messages have."""
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"

_START = "TIMESTAMPTZ '2026-01-02 03:00:00+00'"
_AGAIN = f"({_START} + to_seconds(660))"
RESULTS = f"""
INSERT INTO results BY NAME
SELECT n AS seq, 'job-' || n AS key, key AS message_id, 'orders' AS queue, 'user-' || n % 97 AS user_id,
  CASE WHEN n % 3 = 0 THEN 'ANNIVERSARY' ELSE 'BIRTHDAY' END AS message_type, 'DONE' AS status,
  '{{"ok":true}}'::JSON AS result, CASE WHEN n % 40 = 0 THEN 2 + n % 3 ELSE 1 END::INTEGER AS attempts,
  {_START} + to_milliseconds(n % 2 * 120000 + n * 5) AS published_at,
  published_at + to_milliseconds(3) AS received_at,
  {_START} + to_milliseconds(n % 2 * 120000 + 800 + n * 15) AS committed_at,
  committed_at - to_milliseconds(20 + n * 7919 % 400) AS started_at,
  committed_at - to_milliseconds(10) AS finished_at,
  'orders-worker-000' || (1 + n % 4) AS worker, 'b' || (n // 50) AS batch_id, md5(n::VARCHAR) AS trace_id,
  n::UBIGINT AS key_hash
FROM range({JOBS}) AS made(n)"""
DEAD_LETTERS = f"""
INSERT INTO dead_letters BY NAME
SELECT 'dead-' || n AS key, 'orders' AS queue, 'BIRTHDAY' AS message_type, 'told to fail ' || n AS error,
  ['TimeoutError', 'mylib.QuotaError', 'ValueError', 'ValueError'][1 + n % 4] AS error_class,
  CASE WHEN n % 4 = 0 THEN 'transient' ELSE 'permanent' END AS category,
  CASE WHEN n % 4 = 0 THEN 'max_retries' ELSE 'permanent' END AS reason,
  CASE WHEN n % 4 = 0 THEN 6 ELSE 1 END::INTEGER AS attempts,
  {_START} + to_milliseconds(n * 2500) AS first_seen, first_seen + to_milliseconds(4000) AS dead_at,
  'shop/jobs.py:9' AS raised_in, 'shop/jobs.py:9 in handle: raise QuotaError' AS traceback,
  'orders-worker-0001' AS worker, encode('body') AS body, 'd' || n AS id, dead_at AS recorded_at
FROM range({DEAD}) AS made(n)"""
CONFLICTS = f"""
INSERT INTO conflicts BY NAME
SELECT 'job-' || n % {CONFLICTS_KEYS} AS key, 'orders' AS queue, 'BIRTHDAY' AS message_type, 'stranger' AS user_id,
  n::UBIGINT AS payload_hash, {_START} + to_milliseconds(n * 4000) AS recorded_at
FROM range(2 * {CONFLICTS_KEYS}) AS made(n)"""
FAILURES = f"""
INSERT INTO failures BY NAME
SELECT n AS seq, 'job-' || n * 40 AS key, 'orders' AS queue, 1 AS attempts, 'refused ' || n AS error,
  'ConnectionError' AS error_class, 'exception' AS reason, 'transient' AS category, 'orders-worker-0001' AS worker,
  'shop/jobs.py:9 in handle: charge(job)' || chr(10) || 'shop/cards.py:31 in charge: raise Busy' AS traceback,
  'shop/cards.py:31' AS raised_in, {_START} + to_milliseconds(n * 40 * 5 + 4) AS recorded_at
FROM range({JOBS} // 40) AS made(n)"""
DECISIONS = f"""
INSERT INTO decisions BY NAME
SELECT {_START} + to_milliseconds(n * 8000) AS decided_at, 'orders' AS pool,
  1 + n % 4 AS current, 2 + n % 4 AS wanted,
  'want ' || (2 + n % 4) || ': ' || n * 31 || ' msg/s arriving' AS reason,
  json_object('event', CASE WHEN n % 2 = 0 THEN 'decided' ELSE 'in_effect' END, 'kind', 'grow', 'had', 1 + n % 4,
    'inputs', json_object('ready', 3000 - n * 80, 'held', 120)) AS inputs
FROM range(26) AS made(n)"""


def empty_file(path: Path) -> Path:
    """A results file in which nothing stands yet."""

    async def make() -> None:
        store = Store(StoreConfig(path=path, dedupe_capacity=1_000))
        await store.open()
        await store.close()

    asyncio.run(make())
    return path


REPLAYED = 800
STILL_DEAD = 5


def replayed_file(path: Path) -> Path:
    """Messages that all died within two seconds of their first delivery; eleven minutes later they were replayed within
    eight seconds and done a second later, but for `STILL_DEAD` that died again. One has a header that nobody wrote so.
    """
    empty_file(path)
    sql_in_a_process(
        path,
        f"""
        INSERT INTO dead_letters BY NAME
        SELECT 'k' || n AS key, 'orders' AS queue, 'KeyError' AS error_class, 'permanent' AS reason, 1 AS attempts,
          {_START} + to_milliseconds(n) AS first_seen, first_seen + to_milliseconds(1000) AS dead_at,
          dead_at AS recorded_at, '{{"x-rabbitray-replayed": 9e99, "a": 1}}' AS headers, 'd' || n AS id
        FROM range({REPLAYED}) AS made(n)""",
        f"""
        INSERT INTO dead_letters BY NAME
        SELECT 'k' || n AS key, 'orders' AS queue, 'KeyError' AS error_class, 'permanent' AS reason, 1 AS attempts,
          {_START} + to_milliseconds(n) AS first_seen, {_AGAIN} + to_milliseconds(1000) AS dead_at,
          dead_at AS recorded_at, json_object('x-rabbitray-replayed', epoch_ms({_AGAIN})) AS headers, 'e' || n AS id
        FROM range({STILL_DEAD}) AS made(n)""",
        f"""
        INSERT INTO results BY NAME
        SELECT n AS seq, 'k' || n AS key, 'orders' AS queue, 'DONE' AS status, 1 AS attempts, n::UBIGINT AS key_hash,
          {_AGAIN} + to_milliseconds(n * 10) AS published_at, published_at + to_milliseconds(5) AS received_at,
          published_at + to_milliseconds(1000) AS committed_at, 'w' AS worker
        FROM range({STILL_DEAD}, {REPLAYED}) AS made(n)""",
        "CHECKPOINT",
    )
    return path


def eventful_file(path: Path) -> Path:
    """Two waves of jobs, retries, dead letters of three classes, decisions; and a dead letter full of HTML."""
    empty_file(path)
    hostile = HOSTILE.replace("'", "''")
    sql_in_a_process(
        path,
        RESULTS,
        DEAD_LETTERS,
        FAILURES,
        DECISIONS,
        CONFLICTS,
        f"UPDATE dead_letters SET key = '{hostile}', error = '{hostile}', error_class = '{hostile}' WHERE id = 'd59'",
        f"UPDATE conflicts SET message_type = '{hostile}', trace_id = '{hostile}' WHERE payload_hash = 59",
        f"UPDATE results SET user_id = '{hostile}', message_type = '{hostile}' WHERE seq = 5",
        f"UPDATE decisions SET reason = '{hostile}' WHERE current <> wanted AND decided_at = "
        "(SELECT min(decided_at) FROM decisions)",
        "CHECKPOINT",
    )
    return path

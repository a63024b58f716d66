"""Nothing of the seed report is forgotten: docs/seed.md says where each of its names lives, or why not."""

from __future__ import annotations

import re

import pytest

from rabbitray.cluster.settings import Settings
from rabbitray.cluster.settings.kinds import kind_of
from rabbitray.cluster.settings.loading import NO_MEANING
from tests.kit.root import ROOT

TEXT = (ROOT / "docs" / "seed.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| report")]


def words(text: str) -> list[str]:
    return text.split()


CONFIGURATION = words("""
PUBLISHER_POOL_SIZE PUBLISHER_CONFIRM_TIMEOUT PUBLISHER_MAX_BATCH_SIZE PREFETCH_COUNT PREFETCH_MIN PREFETCH_MAX
CONSUMER_BATCH_SIZE CONSUMER_BATCH_TIMEOUT WORKER_POOL_SIZE WORKER_IDLE_TIMEOUT QUEUE_DEPTH_INTERVAL MAX_RETRIES
RETRY_DELAY RETRY_BACKOFF RETRY_MAX_DELAY DB_POOL_SIZE DB_IDLE_TIMEOUT DB_CONNECTION_TIMEOUT
DB_STATEMENT_CACHE_SIZE METRICS_BATCH_SIZE METRICS_FLUSH_INTERVAL RABBITMQ_PREFETCH_COUNT
RABBITMQ_CHANNEL_POOL_SIZE RABBITMQ_HEARTBEAT RABBITMQ_FRAME_MAX QUEUE_CONCURRENCY QUEUE_BATCH_SIZE
QUEUE_BATCH_TIMEOUT DATABASE_POOL_MAX DATABASE_POOL_MIN DATABASE_IDLE_TIMEOUT DATABASE_STATEMENT_TIMEOUT
METRICS_ENABLED METRICS_BATCH_ENABLED
""")
"""The variables of the report's 4.1 and 4.2."""

OTHER_CAPITALS = words("""
QUEUE_CONFIG QUEUE_PERFORMANCE_METRICS NODE_OPTIONS CPU_CORES EXPECTED_MSG_RATE TARGET_THROUGHPUT_PER_WORKER
DB_CONNECTION_POOL_SIZE
""")

KPIS = words("""
queue.write.duration queue.read.duration message.processing.duration queue.messages.published
queue.messages.consumed worker.throughput queue.depth worker.cpu.utilization worker.memory.usage
queue.error.rate message.retry.rate message.dlq.rate
""")

FILES = words("""
rabbitmq.conf vitest.config.performance.ts benchmark-results.json queue-writer.bench.ts worker-consumer.bench.ts
queue-optimization.bench.ts optimized-publisher.ts optimized-message-worker.ts queue-optimization-baseline.json
queue-optimization-optimized.json queue-performance.json worker-metrics.json
""")

SERVER = words("""
channel_max frame_max heartbeat queue_index_embed_msgs_below lazy_queue_explicit_gc_run_operation_threshold
vm_memory_high_watermark.relative disk_free_limit.absolute tcp_listen_options
""")

IDEAS = words("""
serializeFast metricsBuffer ChannelPool __validated findById updateStatus errorTypeMap RingBuffer
calculateOptimalPrefetch WASM
""")

NOT_READ = {
    "WORKER_IDLE_TIMEOUT",
    "DB_POOL_SIZE",
    "DB_IDLE_TIMEOUT",
    "DB_CONNECTION_TIMEOUT",
    "DB_STATEMENT_CACHE_SIZE",
} | set(NO_MEANING)
"""Names of the report that set nothing here; docs/seed.md says why."""


def row_of(name: str) -> list[str]:
    """The cells of the first row whose first cell holds the name."""
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", cells[0]):
            return cells
    raise AssertionError(f"{name} has no row in docs/seed.md")


@pytest.mark.parametrize("name", CONFIGURATION + OTHER_CAPITALS + KPIS + FILES + SERVER + IDEAS)
def test_every_name_of_the_report_is_in_the_map(name: str) -> None:
    assert re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", TEXT), name


@pytest.mark.parametrize("name", CONFIGURATION + KPIS + FILES[1:] + SERVER)
def test_every_name_has_a_place_or_a_reason(name: str) -> None:
    _, place, reason = row_of(name)
    assert place
    assert place != "none" or len(reason) > 20


@pytest.mark.parametrize("name", CONFIGURATION)
def test_every_variable_of_the_report_sets_the_setting_that_its_row_names(name: str) -> None:
    readers = {
        setting for setting, field in Settings.model_fields.items() if name in kind_of(field).environ_names(setting)
    }
    if name in NOT_READ:
        assert readers == set()
        return
    named = set(re.findall(r"`setting (\w+)`", row_of(name)[1]))
    assert readers <= named
    assert len(readers) == 1


def test_every_setting_that_the_map_names_exists() -> None:
    named = set(re.findall(r"`setting (\w+)`", TEXT)) - {"name"}
    assert named <= set(Settings.model_fields)


def test_every_file_that_the_map_names_exists_or_is_marked_with_its_issue() -> None:
    missing = [
        (path, row)
        for row in ROWS
        for path in re.findall(r"`((?:actors|autoscale|cluster|bench|tests|docs)/[\w./-]+)`", row)
        if not (ROOT / path).exists() and "(issue " not in row
    ]
    assert missing == []

"""Settings -> what each actor is given. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rabbitray.actors.message.keys import parse_key_rule
from rabbitray.actors.message.wire import REPORT_CODES, MessageLimits, TypeCodes
from rabbitray.actors.publisher import PublisherConfig
from rabbitray.actors.rabbitmq.addresses import host_and_port
from rabbitray.actors.rabbitmq.consumer_timeout import ConsumerTimeout
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.remote.boot import Boot, Flush
from rabbitray.actors.router.assemble import RouterSetup
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.dispatch.recycling import WearLimits
from rabbitray.actors.router.holds.outage import OutageLimits
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.settlement.retries import RetryLimits, ladder
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.telemetry.metrics import MetricsConfig
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.worker.actor import WorkerSetup
from rabbitray.actors.worker.batch.decoding import IdentityRules
from rabbitray.actors.worker.worker import WorkerConfig
from rabbitray.autoscale.actor import AutoscalerSetup
from rabbitray.autoscale.loop import Pace
from rabbitray.autoscale.policy.signals import PolicyLimits as AutoscaleLimits
from rabbitray.autoscale.policy.window import WindowLimits
from rabbitray.cluster import telemetry
from rabbitray.cluster.settings import Loaded, Settings
from rabbitray.cluster.settings.job import add_to_environment
from rabbitray.cluster.settings.kinds import pairs, rows

START_WINDOW = 200
START_BATCH = 10


def boot(loaded: Loaded) -> Boot:
    """The function that starts logging and traces in each actor's process."""
    return partial(boot_process, logs(loaded), loaded.telemetry)


def logs(loaded: Loaded) -> telemetry.LogConfig:
    """How each process logs."""
    settings = loaded.settings
    return telemetry.LogConfig(format=settings.log_format, level=settings.log_level, secrets=loaded.secrets)


def boot_process(
    logs: telemetry.LogConfig, traces: telemetry.TelemetryConfig, role: str, attributes: dict[str, str]
) -> Flush:
    """Starts logging, then traces; returns what sends the rest of the traces."""
    telemetry.start_logging(logs, role, ids=attributes)
    return telemetry.start(traces, role, attributes=attributes, redact=Redactor(*logs.secrets)).shutdown


def boot_worker(handed: Mapping[str, Secret], boot: Boot, role: str, attributes: dict[str, str]) -> Flush:
    """As `boot`, once the variables for the handler are this process's."""
    add_to_environment(handed)
    return boot(role, attributes)


def metering(loaded: Loaded) -> Metering:
    """What every process of the pool measures, and under which labels."""
    settings = loaded.settings
    config = MetricsConfig(
        enabled=settings.metrics_enabled,
        batched=settings.metrics_batch_enabled,
        batch_size=settings.metrics_batch_size,
        flush_interval_ms=settings.metrics_flush_interval_ms,
    )
    otlp = bool(loaded.telemetry.metrics.exporters)
    return Metering(pool=settings.pool, queue=settings.queue, config=config, otlp=otlp)


def server(url: Secret) -> tuple[str, int]:
    """Host and port of the broker, or of the first of its nodes."""
    return host_and_port(url)


def topology(settings: Settings) -> Topology:
    """The queues and exchanges of this queue."""
    return Topology(
        queue=settings.queue,
        queue_type=settings.queue_type,
        rung_delays_ms=rungs(settings),
        dead_letter_exchange=settings.dead_letter_exchange,
        take_limited=settings.take_limited_queue,
    )


def error_categories(settings: Settings) -> dict[str, str]:
    """The user's rows: exception class or code -> category."""
    return dict(rows(settings.error_categories))


def type_codes(settings: Settings) -> TypeCodes:
    """The letters for message types: the report's, and the user's own."""
    return REPORT_CODES.extended(pairs(settings.type_codes))


def rungs(settings: Settings) -> tuple[int, ...]:
    """The delays of the ladder in ms; none without retries."""
    if not settings.max_retries:
        return ()
    return ladder(
        settings.retry_delay_ms,
        settings.retry_max_delay_ms,
        exponential=settings.retry_backoff == "exponential",
    )


def message_limits(settings: Settings) -> MessageLimits:
    """The bounds of one message, for whoever reads it."""
    return MessageLimits(
        max_message_bytes=settings.max_message_bytes, max_records=settings.max_records, max_depth=settings.max_depth
    )


def consumer_timeout(settings: Settings) -> ConsumerTimeout:
    """How long the broker leaves a message unsettled, and how long one may wait and run here."""
    return ConsumerTimeout(told_s=settings.consumer_timeout_s, hold_s=settings.hold_s, run_s=settings.run_s)


def publisher(settings: Settings, *, queue: str | None = None, name: str = "publisher") -> PublisherConfig:
    """A publisher to the main queue."""
    return PublisherConfig(
        url=settings.rabbitmq_url,
        queue=queue or settings.queue,
        form=settings.wire_format,
        codes=type_codes(settings),
        channels=settings.publisher_pool_size,
        confirm_timeout_s=settings.publisher_confirm_timeout_ms / 1000,
        max_batch=settings.publisher_max_batch_size,
        max_message_bytes=settings.max_message_bytes,
        max_records=settings.max_records,
        heartbeat_s=settings.heartbeat_s,
        connect_timeout_s=settings.connect_timeout_s,
        connection_name=f"{settings.pool}-{name}",
        metrics_enabled=settings.metrics_enabled,
        metrics_batch=settings.metrics_batch_size if settings.metrics_batch_enabled else 1,
        metrics_interval_s=settings.metrics_flush_interval_ms / 1000,
    )


def store(settings: Settings) -> StoreConfig:
    """The results file, at its absolute path on the driver's node."""
    return StoreConfig(
        path=settings.results.absolute(),
        threads=settings.duckdb_threads,
        memory=settings.duckdb_memory,
        commit_rows=settings.commit_rows,
        commit_interval_ms=settings.commit_interval_ms,
        dedupe_capacity=settings.dedupe_capacity,
        lock_wait_s=settings.results_lock_timeout_ms / 1000,
    )


def worker(loaded: Loaded, handler: str) -> WorkerSetup:
    """A processing actor; its name is filled in by the pool."""
    settings = loaded.settings
    config = WorkerConfig(
        name="",
        queue=settings.queue,
        slots=settings.queue_concurrency,
        handler_timeout_s=settings.handler_timeout_s,
        max_run_s=settings.longest_run_s,
        identity=IdentityRules(missing_id=settings.missing_id, key=parse_key_rule(settings.key)),
        wire=message_limits(settings),
        codes=type_codes(settings),
        message_format=settings.message_format,
        unknown_content_type=settings.unknown_content_type,
        redact=Redactor(*loaded.secrets),
    )
    return WorkerSetup(
        config=config,
        handler=handler,
        decoder=settings.decoder,
        boot=partial(boot_worker, loaded.handed, boot(loaded)),
        categories=error_categories(settings),
        kinds=settings.worker_kinds,
        server=server(settings.rabbitmq_url),
        metering=metering(loaded),
        skip_done=settings.skip_done,
        store=f"{settings.pool}-store",
        namespace=settings.ray_namespace,
    )


def router(loaded: Loaded, handler: str, fits: int) -> RouterSetup:
    """The consumer-router actor; `fits`: with how many workers it begins at most where the settings leave it open."""
    settings = loaded.settings
    bounds = autoscale_limits(settings, fits)
    fixed_window = None if settings.prefetch_count == "adaptive" else settings.prefetch_count
    fixed_batch = None if settings.batch_size == "adaptive" else settings.batch_size
    return RouterSetup(
        pool=settings.pool,
        namespace=settings.ray_namespace,
        intake=IntakeConfig(
            url=settings.rabbitmq_url,
            topology=topology(settings),
            limits=message_limits(settings),
            key=parse_key_rule(settings.key),
            heartbeat_s=settings.heartbeat_s,
            connect_timeout_s=settings.connect_timeout_s,
            frame_max=settings.frame_max,
            timeout=consumer_timeout(settings),
            name=f"{settings.pool}-router",
        ),
        publisher=publisher(settings, name="router"),
        worker=worker(loaded, handler),
        boot=boot(loaded),
        metering=metering(loaded),
        router=RouterConfig(
            batch_timeout_ms=settings.batch_timeout_ms,
            max_hold_s=settings.hold_s,
            uncommitted_bytes=settings.uncommitted_max_bytes,
            rung_retry_s=settings.rung_retry_interval_s,
            outage=OutageLimits(enabled=settings.outage_hold),
            failpoint=settings.failpoint,
        ),
        limits=RetryLimits(rungs_ms=rungs(settings), max_retries=settings.max_retries),
        dead_in_a_row=settings.dead_in_a_row,
        wait_for_vanished=settings.vanished_queue == "wait",
        max_tasks_in_flight_per_actor=settings.max_tasks_in_flight_per_actor,
        max_crashes=settings.max_crashes,
        start_timeout_s=settings.start_timeout_s + build_timeout_s(settings),
        leave_within_s=settings.leave_within_s,
        wear=WearLimits(
            most_jobs=settings.max_jobs_per_worker,
            most_bytes=settings.max_memory_per_worker,
            most_age_s=settings.max_age_per_worker_s,
        ),
        leave_first=settings.cpus_for_tasks > 0 and settings.worker_num_cpus > 0,
        silent_node_timeout_s=settings.silent_node_timeout_s,
        min_size=bounds.min_size,
        initial_size=bounds.initial_size,
        max_size=bounds.max_size,
        window=fixed_window or start_window(settings),
        kept_window=fixed_window or (bounds.max_size if settings.long_jobs else START_WINDOW),
        batch_size=fixed_batch or START_BATCH,
    )


def autoscaler(loaded: Loaded, max_size: int, own_cpus: float = 0.0) -> AutoscalerSetup:
    """The autoscaler; `max_size`: the bound where the settings leave it open; what fits it looks at all the time.

    `own_cpus`: what the pool's own actors take of the cluster's CPUs.
    """
    settings = loaded.settings
    return AutoscalerSetup(
        pool=settings.pool,
        namespace=settings.ray_namespace,
        queue=settings.queue,
        url=settings.rabbitmq_url,
        boot=boot(loaded),
        metering=metering(loaded),
        kinds=settings.worker_kinds,
        can_grow_nodes=settings.can_grow_nodes,
        cpus_for_tasks=settings.cpus_for_tasks and settings.cpus_for_tasks + own_cpus,
        limits=autoscale_limits(settings, max_size),
        window=window_limits(settings),
        pace=Pace(busy_s=settings.queue_depth_busy_interval_ms / 1000, idle_s=settings.queue_depth_interval_ms / 1000),
    )


def autoscale_limits(settings: Settings, max_size: int) -> AutoscaleLimits:
    """The bounds and delays of the policy."""
    most = max(settings.max_size or max_size, settings.min_size, 1)
    return AutoscaleLimits(
        min_size=settings.min_size,
        initial_size=min(max(settings.initial_size, settings.min_size), most),
        max_size=most,
        upscale_delay_s=settings.upscale_delay_s,
        downscale_delay_s=settings.downscale_delay_s,
        downscale_to_zero_delay_s=settings.downscale_to_zero_delay_s,
        upscaling_factor=settings.upscaling_factor,
        downscaling_factor=settings.downscaling_factor,
        look_back_period_s=settings.look_back_period_s,
        drain_target_s=settings.drain_target_s,
        target_utilization=settings.target_utilization,
        backlog_per_worker=round(settings.backlog_per_worker),
        upscale_step=settings.upscale_step,
        pending_limit_s=settings.pending_limit_s + build_timeout_s(settings),
        start_timeout_s=settings.start_timeout_s + build_timeout_s(settings),
    )


def build_timeout_s(settings: Settings) -> float:
    """How much longer than its start a worker may take where Ray first builds its environment on the node."""
    return max(kind.build_timeout_s for kind in settings.worker_kinds)


def window_limits(settings: Settings) -> WindowLimits:
    """The bounds of window and batch; a number in the settings fixes either."""
    return WindowLimits(
        window=None if settings.prefetch_count == "adaptive" else settings.prefetch_count,
        batch_size=None if settings.batch_size == "adaptive" else settings.batch_size,
        in_flight=settings.max_tasks_in_flight_per_actor,
        per_worker_min=settings.prefetch_min,
        per_worker_max=settings.prefetch_max,
        buffer_s=settings.window_buffer_s,
        max_window=settings.window_max_messages,
        byte_budget=settings.window_max_bytes,
        largest_message=settings.max_message_bytes,
        hold_s=settings.hold_s,
        long_jobs=settings.long_jobs,
    )


def start_window(settings: Settings) -> int:
    """The window until a message has come, which may have any size, and may run for an hour."""
    if settings.long_jobs:
        return max(1, settings.initial_size)
    return max(1, min(START_WINDOW, settings.window_max_bytes // settings.max_message_bytes))

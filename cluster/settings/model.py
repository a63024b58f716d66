"""Settings: every setting with its default, range, unit and help, in one place."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message.formats.named import AUTO, FORMATS
from rabbitray.actors.message.keys import ALLOWED, PROPERTY_FLAGS, parse_key_rule
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, UnknownContentType
from rabbitray.actors.rabbitmq import addresses
from rabbitray.actors.rabbitmq.consumer_timeout import DEFAULT_S as BROKERS_TIMEOUT_S
from rabbitray.actors.remote.placement.kind import WorkerKind
from rabbitray.actors.remote.placement.read import read_resources, read_runtime_env, read_selectors
from rabbitray.actors.router.endings import DEAD_IN_A_ROW_MOST
from rabbitray.actors.router.settlement.outstanding import HOP_AGAIN_S, HOPS_AGAIN
from rabbitray.actors.secret import Secret
from rabbitray.cluster.settings.derived import NODE_LIMIT_S, PENDING_LIMIT_S, START_AFTER_PENDING_S, derived
from rabbitray.cluster.settings.kinds import byte_size, pairs, setting

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
DEFAULT_URL: Final = "amqp://guest:guest@127.0.0.1:5672/"
DERIVED_HOLD_S: Final = 300.0
HANG_GRACE_S: Final = 5.0
LARGEST_BATCH: Final = 500
MOST_WORKERS_BY_DEFAULT: Final = 32

BatchSize = Literal["adaptive"] | Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
PrefetchCount = Literal["adaptive"] | Annotated[int, Field(ge=1, le=65535)]

_broker = partial(setting, group="Broker")
_queue = partial(setting, group="Queue")
_pool = partial(setting, group="Pool")
_batch = partial(setting, group="Batches and window")
_publisher = partial(setting, group="Publisher")
_retry = partial(setting, group="Retries and failures")
_results = partial(setting, group="Results")
_bounds = partial(setting, group="Bounds of a message")
_autoscale = partial(setting, group="Autoscaling")
_metrics = partial(setting, group="Metrics and logs")
_ray = partial(setting, group="Ray and tests")

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
HANDLER_PATTERN: Final = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
DECODER_PATTERN: Final = rf"^({'|'.join((AUTO, *FORMATS))}|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)$"


class Settings(BaseModel):
    """All settings of rabbitray, validated and frozen; built by `load`, or directly in tests."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    rabbitmq_url: Secret = _broker(
        Secret(DEFAULT_URL),
        env="RABBITMQ_URL",
        aliases=("AMQP_URL", "CLOUDAMQP_URL"),
        allowed="amqp:// or amqps:// and user:password@host:port/vhost, with %2F %3F %23 %5C for / ? # \\ in it; "
        "several with blanks between",
        help="The broker, or several of its nodes, tried in turn. Rather from the environment or a file than from "
        "anywhere that others can read.",
    )
    rabbitmq_url_file: Path | None = _broker(
        None,
        env="RABBITMQ_URL_FILE",
        allowed="a file with mode 0600 that holds the URL, or several in lines",
        help="File to read the broker's URL from, where the URL itself is not set; read again at each reconnect.",
    )
    heartbeat_s: int = _broker(
        10, env="RABBITMQ_HEARTBEAT", ge=1, le=65534, report="30",
        help="AMQP heartbeat; a dead peer is noticed after 3 x (heartbeat + 1): 33 s at 10, 93 s at 30.",
    )  # fmt: skip
    consumer_timeout_s: float | None = _broker(
        None, env="RABBITMQ_CONSUMER_TIMEOUT", ge=60, le=2_000_000, none="auto",
        help="The broker's consumer_timeout in seconds, which cannot be asked over AMQP, if not RabbitMQ's 1800. From "
        "4.3 on the pool asks for it on a quorum queue; auto: 1800, there more for long handlers.",
    )  # fmt: skip
    frame_max: int = _broker(
        131072, env="RABBITMQ_FRAME_MAX", ge=4096, le=2**31 - 1,
        help="Bytes of an AMQP frame that the broker should agree on: it decides, and another value is a warning.",
    )  # fmt: skip
    connect_timeout_s: float = _broker(
        15.0, gt=0, le=3600, help="How long the first connection is tried before the command gives up."
    )
    insecure_skip_verify: bool = _broker(
        False, help="Accept TLS certificates that cannot be verified, as no_verify_ssl=1 in the URL would."
    )

    queue: str = _queue(
        "jobs", pattern=r"^[^\x00-\x1f\x7f]+$",
        allowed="a queue name of at most 200 bytes, not starting with amq.",
        help="The queue that is worked; its rungs and dead letters are named after it.",
    )  # fmt: skip
    queue_type: Literal["quorum", "classic"] = _queue(
        "quorum", help="Type of queues that we create; one that exists is taken as it is."
    )
    dead_letter_exchange: str = _queue(
        "", pattern=r"^[^\x00-\x1f\x7f]{0,200}$", allowed="an exchange name",
        help="Exchange for retries and dead letters, refused unless direct and durable; empty: <queue>.rabbitray.",
    )  # fmt: skip
    take_limited_queue: bool = _queue(
        False,
        help="Take an existing quorum queue that drops at its delivery limit: say so where a policy gives it a "
        "dead-letter exchange, which cannot be seen over AMQP.",
    )
    vanished_queue: Literal["wait", "declare"] = _queue(
        "wait",
        help="What becomes of a queue of ours that had messages and is gone: the pool waits until it is back, or until "
        "`rabbitray resume --vanished`; or it is declared anew at once. One that was empty is declared anew.",
    )
    message_format: MessageFormat = _queue(
        "auto",
        help="What producers send without our mark: their own documents and the report's verbose form (auto), the "
        "report's form, short letters too (report), or their own documents only (plain).",
    )
    key: str = _queue(
        "default", allowed=ALLOWED, words=("default", "none", *(f"property:{name}" for name in PROPERTY_FLAGS)),
        help="Where the key of a message is; default: the key header of our copies and publisher, the job's own id, "
        "the message id. A text, a number or bytes; the pointer is followed in the decoded payload, by a worker.",
    )  # fmt: skip
    decoder: str = _queue(
        "auto", pattern=DECODER_PATTERN, allowed=f"auto, {', '.join(FORMATS)}, or module:attribute", words=FORMATS,
        help="How bodies are read: by their content type (auto), all in one format, or by a function of yours, "
        "body and Message in, payload out.",
    )  # fmt: skip
    unknown_content_type: UnknownContentType = _queue(
        "bytes",
        help="What becomes of a message whose content type has no reader, or that has none and is neither JSON nor "
        "msgpack: the handler gets its body as bytes, or it is a dead letter (reject).",
    )
    queue_depth_interval_ms: int = _queue(
        5000, env="QUEUE_DEPTH_INTERVAL", ge=100, le=600_000, help="How often an idle queue's depth is read."
    )
    queue_depth_busy_interval_ms: int = _queue(
        1000, ge=100, le=600_000, help="How often the depth is read while something happens."
    )

    pool: str = _pool(
        "", pattern=NAME_PATTERN, allowed="letters, digits, _ . - (at most 63)",
        help="Names the actors: <pool>-router, <pool>-worker-0007, ...; empty: the queue's name.",
    )  # fmt: skip
    handler: str | None = _pool(
        None, pattern=HANDLER_PATTERN, allowed="module:attribute",
        help="The code that works a job: a function, async function, batch function or class.",
    )  # fmt: skip
    min_size: int = _pool(1, ge=0, le=10_000, help="Fewest workers.")
    initial_size: int = _pool(1, ge=0, le=10_000, help="Workers at the start; by default 1 or min_size.")
    max_size: int | None = _pool(
        None, aliases=("WORKER_POOL_SIZE",), ge=1, le=10_000, none="auto", report="10, fixed",
        help="Most workers; auto: what the cluster has room for at each look, or may grow to; "
        f"{MOST_WORKERS_BY_DEFAULT} where Ray does not say how far it grows.",
    )  # fmt: skip
    worker_num_cpus: float = _pool(
        1.0, ge=0, le=1024, help="CPUs that Ray reserves for each worker; 0 where other resources bound the pool."
    )
    worker_resources: str = _pool(
        "", own_words=True,
        allowed="gpu=0.25,memory=8GiB,license=1: whole GPUs or 1/n of one, memory, any resource of the cluster",
        help="What Ray reserves for each worker beside its CPUs.",
    )  # fmt: skip
    worker_accelerator_type: str = _pool(
        "", pattern=r"^[\w.-]{0,63}$", allowed="a type as Ray names it, e.g. A100",
        help="Type of accelerator that a worker's node must have.",
    )  # fmt: skip
    worker_label_selector: str = _pool(
        "", own_words=True,
        allowed="label=value, label=!value, label=in(a,b) with commas between; after a semicolon others",
        help="Labels that a worker's node must have; after a semicolon which ones instead, where those have no room.",
    )  # fmt: skip
    worker_runtime_env: str = _pool(
        "", own_words=True, allowed="a JSON object, or a table of rabbitray.toml",
        help="Ray's runtime_env for the workers: env_vars, pip or uv, py_modules and working_dir by URI, config. No "
        "place for secrets: Ray's dashboard shows it.",
    )  # fmt: skip
    worker_placement: Literal["spread", "pack"] = _pool(
        "spread", help="Over the nodes, or onto few of them, so that others can be taken away."
    )
    queue_concurrency: int = _pool(
        32, env="QUEUE_CONCURRENCY", ge=1, le=10_000, report="10",
        help="Jobs in flight at once in a worker with an async handler; a sync handler has 1.",
    )  # fmt: skip
    max_tasks_in_flight_per_actor: int = _pool(
        2, ge=1, le=16, help="Batches given to a worker at once; more while an async handler has slots free."
    )
    leave_within_s: float | None = _pool(
        None, ge=0, le=2_000_000, none="auto",
        help="How long a worker that leaves (the pool shrinks, its node drains, it is recycled) may go on; then what "
        "it has runs elsewhere, with no attempt charged; auto: until it has finished.",
    )  # fmt: skip
    max_jobs_per_worker: int | None = _pool(
        None, ge=1, le=10**9, none="never", help="A worker that has done so many jobs is replaced after its batch."
    )
    max_memory_per_worker: int | None = _pool(
        None, ge=MIB, le=2**50, none="never", size=True,
        help="A worker whose resident memory has grown so far is replaced after its batch.",
    )  # fmt: skip
    max_age_per_worker_s: float | None = _pool(
        None, gt=0, le=10**9, none="never", help="A worker that was ready so long ago is replaced after its batch."
    )
    cpus_for_tasks: float = _pool(
        0.0, ge=0, le=1_000_000,
        help="CPUs of the cluster that the pool leaves free, for Ray tasks and actors that handlers start and wait "
        "for: a worker keeps its own while it waits.",
    )  # fmt: skip

    batch_size: BatchSize = _batch(
        "adaptive", env="QUEUE_BATCH_SIZE", aliases=("CONSUMER_BATCH_SIZE",), report="10",
        allowed=f"adaptive, or a whole number from 1 to {LARGEST_BATCH}",
        help="Jobs of a batch, at most a third of a worker's share of the window; adaptive: about 50 ms of work.",
    )  # fmt: skip
    batch_timeout_ms: int = _batch(
        50, env="QUEUE_BATCH_TIMEOUT", aliases=("CONSUMER_BATCH_TIMEOUT",), ge=0, le=60_000,
        help="Longest wait for a batch to fill; while a worker idles only under load or with a backlog.",
    )  # fmt: skip
    prefetch_count: PrefetchCount = _batch(
        "adaptive", env="RABBITMQ_PREFETCH_COUNT", aliases=("PREFETCH_COUNT",),
        allowed="adaptive, or a whole number from 1 to 65535 (0 would be unlimited)",
        help="The window: messages held unacknowledged; adaptive: the report's formula, lifted.",
    )  # fmt: skip
    prefetch_min: int = _batch(5, env="PREFETCH_MIN", ge=1, le=65535, help="Least window for each worker.")
    prefetch_max: int = _batch(
        50, env="PREFETCH_MAX", ge=1, le=65535,
        help="Largest window for each worker before fast handlers lift it.",
    )  # fmt: skip
    window_buffer_s: float = _batch(1.0, gt=0, le=60, help="Work that the window holds ready for a fast worker.")
    window_max_messages: int = _batch(
        2000, ge=1, le=65535, help="Largest adaptive window; 2,000 is the cap of quorum queues."
    )
    window_max_bytes: int = _batch(
        64 * MIB, ge=MIB, le=64 * GIB, size=True, help="Bytes of bodies that the window may hold."
    )

    wire_format: Literal["msgpack", "compact_json", "verbose_json"] = _publisher(
        "msgpack", help="What the publisher writes; all formats are read."
    )
    type_codes: str = _publisher(
        "", pattern=r"^\s*([A-Z]\s*=\s*[^\s,=][^,=]+(,|$)\s*)*$",
        allowed="capital letters with a message type, each letter and type once: C=CHRISTMAS, N=NEW_YEAR",
        help="Letters that stand for message types on the wire, besides B=BIRTHDAY and A=ANNIVERSARY; "
        "publishers and pool need the same.",
    )  # fmt: skip
    publisher_pool_size: int = _publisher(
        3, env="RABBITMQ_CHANNEL_POOL_SIZE", aliases=("PUBLISHER_POOL_SIZE",), ge=1, le=64, report="5",
        help="Channels that the publisher opens ahead.",
    )  # fmt: skip
    publisher_confirm_timeout_ms: int = _publisher(
        5000, env="PUBLISHER_CONFIRM_TIMEOUT", ge=1, le=600_000, help="Longest wait for the broker's confirm."
    )
    publisher_max_batch_size: int = _publisher(
        100, env="PUBLISHER_MAX_BATCH_SIZE", ge=1, le=10_000, help="Messages that are written at once."
    )

    max_retries: int = _retry(
        5, env="MAX_RETRIES", ge=0, le=100, help="Retries after the first run, then the dead letters."
    )
    retry_delay_ms: int = _retry(2000, env="RETRY_DELAY", ge=1, le=86_400_000, help="Delay of the first rung.")
    retry_backoff: Literal["exponential", "fixed"] = _retry(
        "exponential", env="RETRY_BACKOFF", help="Rungs of 2, 4, 8, 16, 32, 60 s, or all alike."
    )
    retry_max_delay_ms: int = _retry(
        60_000, env="RETRY_MAX_DELAY", ge=1, le=86_400_000, help="Delay of the longest rung."
    )
    rung_retry_interval_s: float = _retry(
        HOP_AGAIN_S, ge=1, le=86_400,
        help="When RabbitMQ tries again to move a retry that the queue refused, as its "
        "dead_letter_worker_publisher_confirm_timeout says, which cannot be seen over AMQP; a retry that is not back "
        f"{HOPS_AGAIN} x as long after its time is overdue.",
    )  # fmt: skip
    handler_timeout_s: float = _retry(
        60.0, gt=0, le=86_400,
        help="A job that neither ends nor tells progress for this long hangs; a worker with one is replaced.",
    )  # fmt: skip
    max_run_s: float | None = _retry(
        None, gt=0, le=2_000_000, none="auto",
        help="Longest run of a job that tells progress; auto: what consumer_timeout_s (else 1800) leaves beside "
        "max_hold_s, and never less than handler_timeout_s.",
    )  # fmt: skip
    max_hold_s: float | None = _retry(
        None, gt=0, le=86_400, none="auto",
        help=f"Longest time that a message waits here before its run, or for the store after it; auto: "
        f"{DERIVED_HOLD_S:g}, or a third of consumer_timeout_s where that is less.",
    )  # fmt: skip
    silent_node_timeout_s: float = _retry(
        30.0, ge=0, le=86_400,
        help="What the workers of a node that gives no answer have in hand runs elsewhere after this time; a handler "
        "may run twice where the node lives; 0: when Ray calls it dead, which may take a minute.",
    )  # fmt: skip
    max_crashes: int = _retry(2, ge=1, le=100, help="A job that killed its worker this often, alone, is a dead letter.")
    error_categories: str = _retry(
        "", pattern=r"^\s*([\w.]+\s*=\s*(transient|permanent|unknown)\s*(,|$)\s*)*$",
        allowed="exception classes or codes with a category: mylib.QuotaError=transient, 418=permanent",
        help="Rows of your own for the error categories; a handler may have an attribute of this name, a dict.",
    )  # fmt: skip
    dead_in_a_row: int = _retry(
        DEAD_IN_A_ROW_MOST, ge=0, le=1_000_000,
        help="So many jobs in a row that end in the dead letters, or more than half of the last 100, and status says "
        "degraded; 0: never.",
    )  # fmt: skip
    outage_hold: bool = _retry(True, help="Pause while one transient error dominates, and probe.")
    drain_deadline_s: float = _retry(
        30.0, ge=0, le=86_400, help="Time to finish work at the end; the rest is given back."
    )

    results: Path = _results(Path("results.duckdb"), allowed="a path", help="The results file.")
    commit_rows: int = _results(5000, ge=1, le=1_000_000, help="Rows that start a commit at once.")
    commit_interval_ms: int = _results(20, ge=0, le=10_000, help="Longest wait for more rows to commit.")
    uncommitted_max_bytes: int = _results(
        512 * MIB, ge=MIB, le=64 * GIB, size=True,
        help="Bytes of results that may wait for their commit; above, no further batch goes to a worker.",
    )  # fmt: skip
    skip_done: Literal["always", "redelivered", "off"] = _results(
        "redelivered", help="Which jobs are acked without a run where their result exists: any, those that were "
        "delivered before, or none; each key gets one row all the same.",
    )  # fmt: skip
    dedupe_capacity: int = _results(
        10_000_000, ge=1000, le=10_000_000_000, help="Keys that the filter of the dedupe is made for."
    )
    duckdb_threads: int = _results(1, ge=1, le=1024, help="Threads of DuckDB.")
    duckdb_memory: int = _results(
        1024 * MIB, ge=512 * MIB, le=1024 * 1024 * MIB, size=True, help="Memory of DuckDB; more for large results."
    )
    query_timeout_ms: int = _results(
        10_000, env="DATABASE_STATEMENT_TIMEOUT", ge=1, le=3_600_000, help="Longest query through the pool."
    )
    query_max_rows: int = _results(10_000, ge=1, le=10_000_000, help="Most rows that a query through the pool returns.")
    results_lock_timeout_ms: int = _results(
        5000, ge=0, le=600_000, help="How long to wait for another process to leave the results file."
    )

    missing_id: Literal["allow", "reject"] = _bounds(
        "allow", help="A message without a key is worked without deduplication, or is a dead letter."
    )
    max_message_bytes: int = _bounds(
        16 * MIB, ge=1, le=512 * MIB, size=True, help="Largest body; above, a dead letter, undecoded."
    )
    max_records: int = _bounds(1000, ge=1, le=100_000, help="Most records of a packed message.")
    max_depth: int = _bounds(32, ge=1, le=500, help="Deepest nesting of a body.")

    upscale_delay_s: float = _autoscale(0.0, ge=0, le=3600, help="Demand must stay high this long to grow.")
    downscale_delay_s: float = _autoscale(30.0, ge=0, le=86_400, help="Demand must stay low this long to shrink.")
    downscale_to_zero_delay_s: float | None = _autoscale(
        None, ge=0, le=604_800, none="off", help="The queue must stay empty this long for zero workers."
    )
    upscaling_factor: float = _autoscale(
        1.0, gt=0, le=100, help="A step adds at most this share of the pool, or upscale_step."
    )
    downscaling_factor: float = _autoscale(0.5, gt=0, le=1, help="Share of the pool that one step may take away.")
    look_back_period_s: float = _autoscale(30.0, gt=0, le=3600, help="Window over which rates are measured.")
    drain_target_s: float = _autoscale(30.0, gt=0, le=86_400, help="Time within which a backlog should be gone.")
    target_utilization: float = _autoscale(0.85, gt=0, le=1, help="Share of its time that a worker should work.")
    backlog_per_worker: int = _autoscale(
        500, ge=1, le=1_000_000, help="Messages for each worker, while no speed is known."
    )
    upscale_step: int = _autoscale(8, ge=1, le=10_000, help="Workers that one step may always add.")
    can_grow_nodes: bool = _autoscale(
        False, help="Ray's node autoscaler runs: a few workers more than fit are asked for, so that nodes come."
    )
    pending_limit_s: float = _autoscale(
        PENDING_LIMIT_S, gt=0, le=86_400,
        help="A worker without a place for so long is no longer asked for; by default "
        f"{NODE_LIMIT_S:g} where nodes may come.",
    )  # fmt: skip
    start_timeout_s: float = _autoscale(
        PENDING_LIMIT_S + START_AFTER_PENDING_S, gt=0, le=172_800,
        help="A worker that is not ready for so long, its wait for a place included, is a failed start; by default "
        f"{START_AFTER_PENDING_S:g} more than pending_limit_s.",
    )  # fmt: skip

    metrics_enabled: bool = _metrics(True, env="METRICS_ENABLED", help="Whether anything is measured.")
    metrics_batch_enabled: bool = _metrics(
        True, env="METRICS_BATCH_ENABLED", help="Whether measurements are gathered before they are handed on."
    )
    metrics_batch_size: int = _metrics(
        50, env="METRICS_BATCH_SIZE", ge=1, le=100_000, help="Events that start a flush at once."
    )
    metrics_flush_interval_ms: int = _metrics(
        100, env="METRICS_FLUSH_INTERVAL", ge=1, le=60_000, help="Longest wait of a measurement."
    )
    log_format: Literal["text", "json"] = _metrics("text", help="Log lines for people or for machines.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _metrics("INFO", help="Least level of a log line.")

    ray_address: str | None = _ray(
        None, env="RAY_ADDRESS", none="local", allowed="an address of a cluster, auto",
        help="The Ray cluster to run in; local: a Ray of our own.",
    )  # fmt: skip
    ray_namespace: str = _ray(
        "rabbitray",
        pattern=NAME_PATTERN,
        allowed="letters, digits, _ . -",
        help="Ray namespace of all actors.",
    )
    failpoint: str = _ray(
        "", pattern=r"^([a-z_]+:[a-z_]+(@\d+)?)?$", allowed="place:action@count",
        help="Fails on purpose at a named place; for tests only.",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:  # Any: pydantic's raw input
        return derived(data) if isinstance(data, dict) else data

    @field_validator("rabbitmq_url", mode="before")
    @classmethod
    def _check_url(cls, value: object) -> Secret:
        return addresses.checked(addresses.of(value))

    @field_validator("queue")
    @classmethod
    def _check_queue(cls, value: str) -> str:
        if value.startswith("amq.") or len(value.encode()) > 200:
            raise ValueError("not a usable queue name")
        return value

    @field_validator(
        *("window_max_bytes", "max_message_bytes", "duckdb_memory", "uncommitted_max_bytes", "max_memory_per_worker"),
        mode="before",
    )
    @classmethod
    def _read_size(cls, value: object) -> object:
        return byte_size(value)

    @field_validator("worker_resources")
    @classmethod
    def _check_resources(cls, value: str) -> str:
        read_resources(value)
        return value

    @field_validator("worker_label_selector")
    @classmethod
    def _check_selector(cls, value: str) -> str:
        read_selectors(value)
        return value

    @field_validator("worker_runtime_env", mode="before")
    @classmethod
    def _read_runtime_env(cls, value: object) -> str:
        return read_runtime_env(value)

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        try:
            return parse_key_rule(value).text
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    @field_validator("type_codes")
    @classmethod
    def _check_codes(cls, value: str) -> str:
        try:
            REPORT_CODES.extended(pairs(value))
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def worker_kinds(self) -> tuple[WorkerKind, ...]:
        """The kinds of workers of the pool, one for now."""
        asked = read_resources(self.worker_resources)
        kind = WorkerKind(
            num_cpus=self.worker_num_cpus,
            num_gpus=asked.num_gpus,
            memory=asked.memory,
            resources=asked.others,
            accelerator_type=self.worker_accelerator_type or None,
            selectors=read_selectors(self.worker_label_selector),
            runtime_env=self.worker_runtime_env,
            placement=self.worker_placement,
        )
        return (kind,)

    @property
    def hold_s(self) -> float:
        """How long a message waits at most: `max_hold_s`, or what that is where it is auto."""
        if self.max_hold_s is not None:
            return self.max_hold_s
        return min(DERIVED_HOLD_S, (self.consumer_timeout_s or BROKERS_TIMEOUT_S) / 3)

    @property
    def around_run_s(self) -> float:
        """What goes beside a run at most: the waits for batch and commit, and for the end of a worker that hangs."""
        return (self.commit_interval_ms + self.batch_timeout_ms) / 1000 + HANG_GRACE_S

    @property
    def run_s(self) -> float:
        """How long a message needs at most from the start of its run until its row is committed."""
        return max(self.handler_timeout_s, self.max_run_s or 0.0) + self.around_run_s

    @property
    def longest_run_s(self) -> float:
        """`max_run_s`, or what that is where it is auto."""
        if self.max_run_s is not None:
            return self.max_run_s
        room_s = (self.consumer_timeout_s or BROKERS_TIMEOUT_S) - self.hold_s - self.around_run_s
        return max(self.handler_timeout_s, room_s)

    @property
    def long_jobs(self) -> bool:
        """Whether a job may run for so long that what waits behind it would be given back."""
        return max(self.handler_timeout_s, self.max_run_s or 0.0) >= self.hold_s

    @property
    def largest_window(self) -> int:
        """Messages that the window can hold."""
        return self.window_max_messages if self.prefetch_count == "adaptive" else self.prefetch_count

"""What the JSON of each bench holds at least: figures by dotted path. Others read them; `python -m bench check` asks.

The paths are those that the tasks name (numbers 3 to 6), and for `errors`, which names none, its own.
"""

from __future__ import annotations

import math
from typing import Final

CONTRACTS: Final[dict[str, str]] = {
    "batch": "{1,10,100}.{batches,messages_in_a_batch,cpu_ms,by_process.router,by_process.store,by_process.workers}",
    "errors": "known known_oserror first unknown token regular_expressions",
    "idle": "cpu_percent.ours cpu_percent.empty_actors",
    "latency": "{10,100,1000}.{p50_ms,p95_ms,p99_ms,by_hand.p50_ms,by_hand.p99_ms} {10,100}.p50_ratio_to_by_hand",
    "load": "rate error_rate p50_ms p95_ms p99_ms depth_at_end",
    "memory": "{slope_mb_per_1k,peak_mb}.{router,store,worker,autoscaler}",
    "overhead": "off_again tracing_full tracing_sampled metrics collector_down collector_black_hole "
    "standard_error.{metrics,tracing_sampled,tracing_full}",
    "peers": "rabbitray celery dramatiq taskiq faststream ray_serve",
    "policies": "p95_age_s target_age_s worker_seconds ideal_worker_seconds load_changes direction_changes",
    "publish": "sequential.{mean_ms,p95_ms,p99_ms,ratio_to_bare} pipelined.{msg_s,ratio_to_bare} packed.records_s "
    "submit_us bytes.{verbose_json,compact_json,msgpack} load.{rate,error_rate,mean_ms}",
    "reaction": "spinup_s actors_start_s idle_cpu_percent "
    "square_wave.{cycles,lost,duplicated,attempts_charged,busy_killed}",
    "store": "rows_s.{empty,at_5m,at_5m_1pct_dup} ratio_5m_to_empty ratio_5m_1pct_dup_to_empty restart_s rss_mb "
    "dedupe_cost_ratio",
    "throughput": "msg_s raw_aio_pika_msg_s raw_aiormq_msg_s ratio_to_aio_pika ratio_to_aiormq "
    "sizes.{1 KiB,10 KiB,100 KiB,1 MiB}.{msg_s,raw_aio_pika_msg_s,raw_aiormq_msg_s,ratio_to_aio_pika,ratio_to_aiormq} "
    "packed.{10,50,100} "
    "ordinary.{msg_s,by_hand_msg_s,ratio_to_by_hand}",
    "worker": "msg_s bound_msg_s ratio_to_bound overhead_ms took_s report.msg_s report.took_s peak_worker_mb "
    "breakdown_ms.{dequeue,deserialize,validate,process,ack,metrics}",
}


def paths(name: str) -> list[str]:
    """The required figures of a bench; `{a,b}` in a contract stands for either."""
    return [path for word in _words(CONTRACTS[name]) for path in _spread(word)]


def broken(name: str, result: object) -> list[str]:
    """What is wrong with the result of that bench, a line each. A bench that gives rows needs them in each row."""
    rows = result if isinstance(result, list) else [result]
    if not rows:
        return [f"{name}: no rows"]
    return [
        f"{name}: {path} is {value!r}, not a figure"
        for row in rows
        for path in paths(name)
        if not _figure(value := _at(row, path))
    ]


def _figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _at(result: object, path: str) -> object:
    for step in path.split("."):
        result = result.get(step) if isinstance(result, dict) else None
    return result


def _words(text: str) -> list[str]:
    """Split at the spaces outside of braces."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == " " and not depth:
            words.append("")
        else:
            words[-1] += letter
    return words


def _spread(word: str) -> list[str]:
    before, brace, rest = word.partition("{")
    if not brace:
        return [word]
    choices, _, after = rest.partition("}")
    return [before + choice + end for choice in choices.split(",") for end in _spread(after)]

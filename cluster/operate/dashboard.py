"""The terminal dashboard: a picture of `rabbitray status` -> a frame of text, useful from 80 x 24 on. Pure.

In the spirit of the report's 7.2: figures against their targets, a line for each worker, the last decisions.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.text import Text

from rabbitray.actors.message.reply import Usage
from rabbitray.actors.printable import printable
from rabbitray.actors.router.report import WorkerRow
from rabbitray.actors.router.status import Counts
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.cluster.operate.picture import Picture
from rabbitray.cluster.operate.status_lines import OLD_AFTER_S, age, error_line, known, progress_line

LEAST_WIDTH: Final = 66  # narrower terminals see the left part
NUMBERS_WIDTH: Final = 54  # of a worker's line: all but its name
SPARKS: Final = "▁▂▃▄▅▆▇█"
KEYS: Final = "p pause  r resume  + - scale  a auto  d drain  q quit"
STATE_STYLES: Final = {"healthy": "green", "paused": "yellow", "degraded": "bold red"}
BAR_WIDTH: Final = 20
ALWAYS_COUNTED: Final = ("done", "duplicates", "retried", "dead")
MARKS: Final = {"good": ("✓", "green"), "missed": ("⚠", "yellow"), "alert": ("✗", "bold red")}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that one frame shows. `before`: a picture `apart_s` earlier, for what happened since; None: since the start.

    `depths`: backlog at the last looks, newest last. `usage`: by pid, of the workers on this machine, for those that
    have sent no figures of their own lately. `taken_at`: when `seen` was (Unix seconds; None: now); where that is more
    than `stale_after_s` before `at`, the frame says how old it is.
    """

    seen: Picture
    at: float  # Unix seconds
    taken_at: float | None = None
    stale_after_s: float = 10.0
    before: Picture | None = None
    apart_s: float = 1.0
    depths: Sequence[int] = ()
    usage: Mapping[int, Usage] = field(default_factory=dict)
    notice: str = ""
    keys: str = KEYS

    @property
    def stale_s(self) -> float:
        """How old the figures are, where they are too old to be those of now; else 0."""
        old_s = 0.0 if self.taken_at is None else self.at - self.taken_at
        return old_s if old_s > self.stale_after_s else 0.0


def frame(view: View, *, width: int = 80, height: int | None = 24) -> str:
    """The frame as plain text; `height` None shows every worker."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(render(view, width=width, height=height), end="")
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def render(view: View, *, width: int, height: int | None) -> Text:
    """The frame with its colours, never larger than its terminal; workers that do not fit are counted."""
    wide = max(width, LEAST_WIDTH)
    head = [*_head(view, wide), *_figures(view), _sizes(view.seen), _titles(wide)]
    foot = [Text("Decisions", style="bold"), *_reasons(view.seen), Text(view.notice, style="bold")]
    foot.append(Text(view.keys, style="dim"))
    room = _all_workers(view) if height is None else max(1, height - len(head) - len(foot))
    lines = [*head, *_workers(view, wide, room)]
    if height is not None:
        lines += [Text("")] * (height - len(lines) - len(foot))
    lines += foot
    shown = lines if height is None or len(lines) <= height else [*lines[: height - 1], foot[-1]]
    shown = [_printable(line) for line in shown]
    for line in shown:
        line.truncate(max(1, width), overflow="ellipsis")
    return Text("\n", no_wrap=True).join(shown)


def _all_workers(view: View) -> int:
    """Lines of all workers with what their jobs tell."""
    return sum(1 + len(worker.progress) for worker in view.seen.workers)


def _printable(line: Text) -> Text:
    """The line; where something in it is not printable, it is shown as an escape, and the colours inside are lost."""
    text = printable(line.plain)
    return line if text == line.plain else Text(text, style=line.style)


def _head(view: View, width: int) -> list[Text]:
    seen = view.seen
    left = Text.assemble(("rabbitray ", "bold"), f"{seen.pool}  ")
    if view.stale_s:
        left.append(f"○ {seen.state} {age(view.stale_s)} ago", style="bold yellow")
    else:
        left.append(f"● {seen.state}", style=STATE_STYLES.get(seen.state, ""))
    right = f"queue {seen.queue}  {datetime.fromtimestamp(view.at, UTC):%H:%M:%S} UTC"
    left.truncate(max(10, width - len(right) - 1), overflow="ellipsis")
    left.append(" " * max(1, width - left.cell_len - len(right)) + right, style="dim")
    return [left, *_troubles(view), Text("─" * width, style="dim")]


def _troubles(view: View) -> list[Text]:
    """Why nothing moves, first; at most three lines, so that the rest keeps its place."""
    seen = view.seen
    found = [f"! all of this is {age(view.stale_s)} old: the pool gives no answer"] if view.stale_s else []
    found += [f"! {problem}" for problem in seen.problems]
    if "paused" in seen.holds:
        found.append(f"! paused: {seen.holds['paused']}")
    return [Text(line, style="bold yellow") for line in found[:3]]


def _figures(view: View) -> list[Text]:
    seen = view.seen
    messages, rates, latency = seen.messages, seen.rates, seen.latency_ms
    shown = {name: count for name, count in asdict(seen.counts).items() if count or name in ALWAYS_COUNTED}
    counts = "  ".join(f"{count:,} {name}" for name, count in shown.items() if name != "acked")
    queue = f"{known(messages.ready)} ready  {known(messages.held)} held  {known(messages.in_flight)} in flight"
    speed = f"in {_rate(rates.received_s)}  done {_rate(rates.done_s)} "
    slow = "  ".join(f"{name} {_ms(value)}" for name, value in asdict(latency).items())
    return [
        _line("Queue", f"{queue}  window {known(seen.window)}  batch {seen.batch_size}"),
        _line("", f"{sparkline(view.depths, 24):<24}", _depth_mark(messages.ready)),
        _line("Throughput", f"{speed:<26}", _speed_mark(view)),
        _line("Latency", f"{slow}  publish to ack{_since_last(seen)}"),
        _line("Write", *_writes(seen.write_ms)),
        _line("Errors" if _is_new(view) else "Errors all", *_shares(view)),
        *(_line("", error_line(one)) for one in seen.errors[:1]),
        _line("Counts", counts),
        *([_line("RabbitMQ", seen.broker)] if seen.broker and seen.connected else []),
    ]


def _writes(write_ms: Percentiles) -> list[str | Text]:
    """From publish to confirm, of what the pool itself publishes: retry copies and dead letters."""
    p50, p95 = write_ms.p50, write_ms.p95
    shown = f"p50 {_ms(p50)}  p95 {_ms(p95)}  copies to confirm "
    if p50 is None or p95 is None:
        return [shown, Text(_target(kpi.WRITE_DURATION).text, style="dim"), Text(" none yet", style="dim")]
    return [shown, _against(kpi.WRITE_DURATION, p50, p95)]


def _line(title: str, *parts: str | Text) -> Text:
    line = Text(f"{title:<11}", style="")
    line.stylize("bold", 0, len(title))
    for part in parts:
        line.append(part)
    return line


def _depth_mark(ready: int | None) -> Text:
    if ready is None:
        return Text(" depth is not known", style="yellow")
    return Text(" ") + _against(kpi.QUEUE_DEPTH, ready)


def _speed_mark(view: View) -> Text:
    """A pool with nothing to do misses no target; one that only fails does not keep up."""
    rate, target = view.seen.rates.done_s, _target(kpi.CONSUMED)
    reached = Text(bar(rate / (target.least or 1.0), BAR_WIDTH) + " ")
    return reached + (_against(kpi.CONSUMED, rate) if _backlog(view) else _without_backlog(view.seen))


def _without_backlog(seen: Picture) -> Text:
    if seen.endings.too_many_dead:
        return Text("most jobs end dead", style="bold red")
    if seen.rates.done_s:
        return Text("keeping up", style="dim")
    return Text("nothing is done", style="yellow") if seen.rates.acked_s else Text("idle", style="dim")


def _since_last(seen: Picture) -> str:
    """When the last message was acked, where that is not now."""
    ago_s = seen.acked_s_ago
    return "" if ago_s is None or ago_s < OLD_AFTER_S else f", last {age(ago_s)} ago"


def _backlog(view: View) -> bool:
    return (view.seen.messages.ready or 0) > 0


def _shares(view: View) -> list[Text]:
    """Shares of the outcomes since `before`; of all where there were none since."""
    counts = _since(view) if _is_new(view) else view.seen.counts
    retried, dead = counts.retried, counts.dead
    runs = max(1, counts.done + retried + dead)
    return [
        _share("failed", (retried + dead) / runs, kpi.ERROR_RATE),
        _share("  retried", retried / runs, kpi.RETRY_RATE),
        _share("  dead", dead / runs, kpi.DLQ_RATE),
    ]


def _is_new(view: View) -> bool:
    """Whether anything was counted since `before`; else what is shown is of all since the start, and says so."""
    return view.before is not None and _since(view) != Counts()


def _share(name: str, share: float, measurement: kpi.Kpi) -> Text:
    return Text(f"{name} {share:.2%} ") + _against(measurement, share * 100)


def _against(measurement: kpi.Kpi, value: float, p95: float | None = None) -> Text:
    """The report's target and a sign for how the figure stands against it; the sign never is colour alone."""
    target = _target(measurement)
    verdict: str = target.verdict(value)
    if p95 is not None and target.p95_most is not None and p95 > target.p95_most:
        verdict = max(verdict, "missed", key=list(MARKS).index)
    return Text.assemble((f"{target.text} ", "dim"), MARKS[verdict])


def _target(measurement: kpi.Kpi) -> kpi.Target:
    assert measurement.target is not None
    return measurement.target


def _since(view: View) -> Counts:
    return view.seen.counts.since(view.before.counts) if view.before else view.seen.counts


def _sizes(seen: Picture) -> Text:
    size = seen.size
    parts = [f"{size.had} of {size.wanted} wanted", f"{size.busy} busy"]
    parts += [f"{count} {name}" for name, count in (("starting", size.starting), ("retiring", size.retiring)) if count]
    short = f" (short of {size.short})" if size.short else ""
    parts += [f"{size.possible} possible{short}"] if size.possible is not None else []
    parts += [f"fixed at {size.fixed}"] if size.fixed is not None else []
    return _line("Workers", ", ".join(parts))


def _titles(width: int) -> Text:
    name = f"  {'NAME':<{width - NUMBERS_WIDTH}}"
    return Text(f"{name} {'STATE':<8} {'MSG/S':>8} {'BUSY':>5} {'CPU':>5} {'MEM':>8} {'JOBS':>10}", style="dim")


def _workers(view: View, width: int, room: int) -> list[Text]:
    workers = sorted(view.seen.workers, key=lambda worker: (worker.state != "starting", worker.name))
    earlier = {worker.name: worker for worker in view.before.workers} if view.before else {}
    fitting = workers if len(workers) <= room else workers[: max(0, room - 1)]
    several = len({worker.host for worker in workers if worker.host}) > 1
    spare = room - len(workers)  # lines for what jobs tell of themselves, the longest first
    lines = []
    for worker in fitting:
        lines.append(_worker(worker, earlier.get(worker.name), view, width, with_host=several))
        shown = sorted(worker.progress, key=lambda job: -job.running_s)[: max(0, spare)]
        lines += [Text(f"    {progress_line(job)}", style="dim") for job in shown]
        spare -= len(shown)
    if len(fitting) < len(workers):
        lines.append(Text(f"  ... {len(workers) - len(fitting)} more workers", style="dim"))
    return lines


def _worker(worker: WorkerRow, earlier: WorkerRow | None, view: View, width: int, *, with_host: bool) -> Text:
    room = width - NUMBERS_WIDTH
    name = f"{worker.name}@{worker.host}" if with_host and worker.host else worker.name
    name = name if len(name) <= room else "…" + name[1 - room :]
    state = "silent" if worker.silent_s is not None else worker.state
    used = _used(worker, view)
    rate_s, share = _pace(worker, earlier, view.apart_s)
    rate = "-" if rate_s is None else f"{rate_s:,.1f}"
    busy = "-" if share is None else f"{share:.0%}"
    cpu = "-" if used is None or used.cpu_percent is None else f"{used.cpu_percent:.0f}%"
    memory = "-" if used is None else f"{used.rss_bytes / kpi.MB:,.0f} MB"
    style = {"starting": "cyan", "retiring": "dim", "silent": "bold yellow"}.get(state, "")
    text = f"  {name:<{room}} {state:<8} {rate:>8} {busy:>5} {cpu:>5} {memory:>8} {worker.jobs:>10,} "
    worst = _worst(rate_s if _backlog(view) and (share or 0.0) > 0.5 else None, used)
    return Text(text, style=style) + (Text.assemble(MARKS[worst]) if worst else Text(""))


def _used(worker: WorkerRow, view: View) -> Usage | None:
    """What a worker measured of itself, wherever it runs; where it is idle and silent, what is seen on this machine."""
    cpu_percent, rss_bytes = worker.cpu_percent, worker.rss_bytes
    here = view.usage.get(worker.pid or 0)
    if here is not None and (cpu_percent is None or rss_bytes is None):
        return here
    return None if rss_bytes is None else Usage(cpu_percent=cpu_percent, rss_bytes=rss_bytes)


def _pace(worker: WorkerRow, earlier: WorkerRow | None, apart_s: float) -> tuple[float | None, float | None]:
    """Jobs per second and share of the time busy since the earlier look; None without one."""
    if earlier is None:
        return None, None
    busy_s = worker.busy_s - earlier.busy_s
    return (worker.jobs - earlier.jobs) / apart_s, min(max(busy_s, 0.0) / apart_s, 1.0)


def _worst(rate_s: float | None, used: Usage | None) -> str | None:
    """How a worker stands: its speed, where it has enough to do, and its memory."""
    verdicts: list[str] = [] if rate_s is None else [_target(kpi.WORKER_THROUGHPUT).verdict(rate_s)]
    verdicts += [] if used is None else [_target(kpi.WORKER_MEMORY).verdict(used.rss_bytes)]
    return max(verdicts, key=list(MARKS).index, default=None)


def _reasons(seen: Picture) -> list[Text]:
    """The newest first."""
    found = [f"  {one.at[11:19]}  {one.event.replace('_', ' ')} {one.wanted}: {one.reason}" for one in seen.reasons]
    return [Text(line) for line in reversed(found)] or [Text("  none yet", style="dim")]


def sparkline(values: Sequence[int], width: int) -> str:
    """The last `width` values as bars of eighths of the highest."""
    shown = values[-width:]
    highest = max(shown, default=0)
    return "".join(SPARKS[round(value / highest * 7)] if highest else SPARKS[0] for value in shown)


def bar(share: float, width: int) -> str:
    """How much of a target is reached; full at or above it."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)


def _rate(value: float | None) -> str:
    return "?/s" if value is None else f"{value:,.0f}/s" if value >= 10 else f"{value:,.1f}/s"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:,.1f} s" if value >= 10_000 else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"

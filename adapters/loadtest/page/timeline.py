"""Charts over the seconds of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import median

from adapters.loadtest.report import Moment
from adapters.loadtest.wording import count, ms, percent, seconds, short, size

from .axis import Axis, linear, logarithmic, span
from .chart import Chart, Line, Reading, Shade
from .runs import Run

__all__ = ("timelines",)

MOST_READINGS = 240  # of a chart; a longer test has one for several seconds

Values = list[tuple[float, float | None]]
Pick = Callable[[Moment], float | None]


def timelines(runs: Sequence[Run]) -> list[Chart]:
    """Return the charts that these tests have figures for; none without any moment."""
    timed = [run for run in runs if run.report.moments]
    return [chart for make in CHARTS if timed and (chart := make(timed))]


def _latency(runs: Sequence[Run]) -> Chart | None:
    if len(runs) > 1:
        lines = [
            line
            for run in runs
            for line in (
                _line(run, lambda m: m.p99_ms or None),
                _line(run, lambda m: m.p50_ms or None, is_faint=True),
            )
        ]
        note = "99 % of each second’s deliveries took at most so long; dashed: half."
    else:
        (run,) = runs
        picks: dict[str, Pick] = {
            "p50": lambda m: m.p50_ms or None,
            "p99": lambda m: m.p99_ms or None,
            "max": lambda m: m.max_ms or None,
        }
        lines = [
            _line(run, pick, name=name, hue=hue)
            for hue, (name, pick) in enumerate(picks.items())
        ]
        note = (
            "From when a message was meant to be sent until it came; healthy clients."
        )
    return _chart("latency", "Latency", note, runs, lines, ms, is_log=True)


def _outstanding(runs: Sequence[Run]) -> Chart | None:
    return _chart(
        "outstanding",
        "Queue depth",
        "Deliveries that were due and had not come, wherever they waited.",
        runs,
        [_line(run, lambda m: m.outstanding, is_filled=len(runs) == 1) for run in runs],
        count,
    )


def _delivered(runs: Sequence[Run]) -> Chart | None:
    lines = [_line(run, lambda m: m.delivered, name="came") for run in runs]
    note = "Deliveries that came in each second."
    if len(runs) == 1:
        due = _due(runs[0].report.moments)
        lines.insert(0, Line(name="due", hue=1, points=due))
        note = "Deliveries that came, and that were due, in each second."
    return _chart("deliveries", "Deliveries per second", note, runs, lines, count)


def _due(moments: Sequence[Moment]) -> Values:
    """Return what became due in each second: what came, and by how much more waits."""
    before = [Moment(at_s=0.0), *moments]
    return [
        # Who leaves takes along what was due to it.
        (now.at_s, max(now.delivered + now.outstanding - last.outstanding, 0.0))
        for last, now in pairwise(before)
    ]


def _sent(runs: Sequence[Run]) -> Chart | None:
    return _chart(
        "sent",
        "Messages sent per second",
        "Below the rate that was asked for, the generator fell behind.",
        runs,
        [_line(run, lambda m: m.sent) for run in runs],
        count,
    )


def _cpu(runs: Sequence[Run]) -> Chart | None:
    lines = [_line(run, lambda m: m.server_cpu, name="server") for run in runs]
    note = "The server and its children; 100 % is one core."
    if len(runs) == 1:
        lines.append(_line(runs[0], lambda m: m.generator_cpu, name="generator", hue=1))
        note = "The server with its children, and the busiest generator; of one core."
    return _chart("cpu", "Processor", note, runs, lines, percent)


def _memory(runs: Sequence[Run]) -> Chart | None:
    return _chart(
        "memory",
        "Server memory",
        "Resident, of the server and its children.",
        runs,
        [_line(run, lambda m: m.server_rss_bytes) for run in runs],
        size,
        base=1024,
    )


def _connected(runs: Sequence[Run]) -> Chart | None:
    lines = [_line(run, lambda m: m.connected) for run in runs]
    if len({y for line in lines for _, y in line.points}) == 1:
        return None  # all of them, all the time: the table says so
    return _chart(
        "connected",
        "Connected clients",
        "At the end of each second.",
        runs,
        lines,
        count,
    )


def _late(runs: Sequence[Run]) -> Chart | None:
    return _chart(
        "late",
        "Lateness of the generator",
        "How much later than meant it sent, at worst; it counts as latency.",
        runs,
        [_line(run, lambda m: m.late_ms) for run in runs],
        ms,
    )


CHARTS = (
    _latency,
    _outstanding,
    _delivered,
    _sent,
    _cpu,
    _memory,
    _connected,
    _late,
)


def _line(
    run: Run,
    pick: Pick,
    *,
    name: str = "",
    hue: int = 0,
    is_faint: bool = False,
    is_filled: bool = False,
) -> Line:
    """Return one figure of all moments; of several tests in the test's own hue."""
    return Line(
        name=run.letter or name,
        hue=run.hue if run.letter else hue,
        points=[(moment.at_s, pick(moment)) for moment in run.report.moments],
        is_faint=is_faint,
        is_filled=is_filled,
    )


def _chart(
    key: str,
    title: str,
    note: str,
    runs: Sequence[Run],
    lines: Sequence[Line],
    say: Callable[[float], str],
    *,
    is_log: bool = False,
    base: float = 10,
) -> Chart | None:
    """Return a chart over time; None where no test has any of its figures."""
    values = [y for line in lines for _, y in line.points if y is not None]
    if not values:
        return None
    tick = short if say is count else say
    return Chart(
        key=key,
        title=title,
        note=note,
        summary=_summary(lines, say),
        x=_time(runs),
        y=logarithmic(values, say) if is_log else linear(values, tick, base=base),
        lines=lines,
        readings=list(_readings(lines, say)),
        shades=list(_shades(runs)),
    )


def _summary(lines: Sequence[Line], say: Callable[[float], str]) -> str:
    parts = []
    for line in lines:
        values = [y for _, y in line.points if y is not None]
        if values and not line.is_faint:
            prefix = f"{line.name}: " if line.name else ""
            parts.append(
                f"{prefix}{say(min(values))} to {say(max(values))}, "
                f"median {say(median(values))}"
            )
    return "; ".join(parts) + "."


def _time(runs: Sequence[Run]) -> Axis:
    times = [moment.at_s for run in runs for moment in run.report.moments]
    return span(min(times) - 1, max(times), seconds)


def _readings(lines: Sequence[Line], say: Callable[[float], str]) -> Iterator[Reading]:
    shown = [line for line in lines if not line.is_faint]
    # Tests have moments of their own; those of one second are read together.
    table: dict[int, list[str]] = {}
    for line in shown:
        for x, y in line.points:
            words = table.setdefault(round(x), [])
            if y is not None:
                words.append(f"{line.name} {say(y)}".strip())
    times = sorted(table)
    step = -(-len(times) // MOST_READINGS)
    for time in times[::step]:
        text = ", ".join(table[time]) or "nothing"
        yield Reading(
            low=time - step / 2, high=time + step / 2, text=f"{seconds(time)}: {text}"
        )


def _shades(runs: Sequence[Run]) -> Iterator[Shade]:
    """Yield what was not counted; of several tests, what none of them counted."""
    axis = _time(runs)
    measured = max(run.report.measured_s for run in runs)
    if axis.low < 0:
        yield Shade(low=axis.low, high=0.0, name="warm-up")
    if axis.high > measured + 1 and measured:
        yield Shade(low=measured, high=axis.high, name="settling")

"""Tables: every figure that the charts draw, and how several tests compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.loadtest.report import Latency, Moment, Report
from adapters.loadtest.wording import (
    bytes_per_connection,
    cores,
    count,
    healthy_first,
    main_latency,
    ms,
    not_slow,
    percent,
    size,
)

from .markup import Element, Node, make
from .runs import Run

__all__ = ("audiences", "comparison", "moments", "table", "times")

Pick = Callable[[Report], float | None]
Say = Callable[[float], str]

LATENCY: dict[str, Callable[[Latency], float]] = {
    "mean": lambda latency: latency.mean_ms,
    "p50": lambda latency: latency.p50_ms,
    "p90": lambda latency: latency.p90_ms,
    "p99": lambda latency: latency.p99_ms,
    "p99.9": lambda latency: latency.p999_ms,
    "max": lambda latency: latency.max_ms,
}


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Node]]) -> Element:
    """Return a table that scrolls sideways; the first cell of a row names the row."""
    return make(
        "div",
        make(
            "table",
            make("caption", caption),
            make(
                "thead", make("tr", *(make("th", each, scope="col") for each in head))
            ),
            make(
                "tbody",
                *(
                    make(
                        "tr",
                        make("th", row[0], scope="row"),
                        *(make("td", cell) for cell in row[1:]),
                    )
                    for row in rows
                ),
            ),
        ),
        class_="scroll",
        # What scrolls must be within reach of the keyboard, and say what it is.
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def audiences(run: Run) -> Element:
    """Return a test's classes of clients: what was due, came, and how fast."""
    rows: list[list[Node]] = [
        [
            each.name,
            count(each.clients),
            count(each.expected),
            count(each.delivered),
            count(each.missed_told),
            count(each.missed_untold),
            count(each.repeated),
            count(each.reordered),
            count(each.strayed),
            count(each.ended),
        ]
        for each in healthy_first(run.report.audiences)
    ]
    head = (
        "clients",
        "number",
        "due",
        "came",
        "missed, told",
        "missed, untold",
        "repeated",
        "out of order",
        "meant for others",
        "ended by server",
    )
    return table(_caption("Deliveries by class of clients", run), head, rows)


def times(run: Run) -> Element:
    """Return all times of a test: of deliveries, connections and the generator."""
    found = {
        **{
            f"deliver, {a.name}": a.latency for a in healthy_first(run.report.audiences)
        },
        "connect": run.report.connecting,
        "come back with everything": run.report.returning,
        "send, after the time meant": run.report.generators.lateness,
        "wake up, for the generator": run.report.generators.waking,
    }
    rows: list[list[Node]] = [
        [name, count(latency.count), *_times(latency)]
        for name, latency in found.items()
        if latency.count
    ]
    return table(_caption("Times", run), ("time to", "times", *LATENCY), rows)


def _times(latency: Latency) -> list[str]:
    return [ms(pick(latency)) if latency.count else "–" for pick in LATENCY.values()]


def _caption(words: str, run: Run) -> str:
    return f"{words}, {run.title}" if run.letter else words


def moments(run: Run) -> Element:
    """Return a test second by second."""
    columns: dict[str, Callable[[Moment], str]] = {
        "connected": lambda m: count(m.connected),
        "sent": lambda m: count(m.sent),
        "came": lambda m: count(m.delivered),
        "waiting": lambda m: count(m.outstanding),
        "p50": lambda m: ms(m.p50_ms),
        "p99": lambda m: ms(m.p99_ms),
        "max": lambda m: ms(m.max_ms),
        "late": lambda m: ms(m.late_ms),
        "server": lambda m: "–" if m.server_cpu is None else percent(m.server_cpu),
        "memory": lambda m: (
            "–" if m.server_rss_bytes is None else size(m.server_rss_bytes)
        ),
        "generator": lambda m: percent(m.generator_cpu),
    }
    rows: list[list[Node]] = [
        [f"{moment.at_s:.0f} s", *(say(moment) for say in columns.values())]
        for moment in run.report.moments
    ]
    return table(_caption("Second by second", run), ("until", *columns), rows)


COMPARED: dict[str, tuple[Pick, Say]] = {
    "deliveries/s": (lambda r: r.deliveries_per_s, count),
    "p50": (lambda r: main_latency(r).p50_ms, ms),
    "p90": (lambda r: main_latency(r).p90_ms, ms),
    "p99": (lambda r: main_latency(r).p99_ms, ms),
    "p99.9": (lambda r: main_latency(r).p999_ms, ms),
    "max": (lambda r: main_latency(r).max_ms, ms),
    "missed, told": (lambda r: sum(a.missed_told for a in not_slow(r)), count),
    "missed, untold": (lambda r: sum(a.missed_untold for a in not_slow(r)), count),
    "repeated": (lambda r: sum(a.repeated for a in r.audiences), count),
    "out of order": (lambda r: sum(a.reordered for a in r.audiences), count),
    "meant for others": (lambda r: sum(a.strayed for a in r.audiences), count),
    "connect, p99": (lambda r: r.connecting.p99_ms, ms),
    "server’s processor": (lambda r: r.server.cpu if r.server else None, cores),
    "processor per delivery": (
        lambda r: r.server.cpu_us_per_delivery / 1000 if r.server else None,
        ms,
    ),
    "server’s memory, most": (
        lambda r: r.server.peak_rss_bytes if r.server else None,
        size,
    ),
    "memory per connection": (bytes_per_connection, size),
    "generator’s processor": (lambda r: max(r.generators.cpu, default=None), cores),
}


def comparison(runs: Sequence[Run]) -> Element:
    """Return each figure of each test, with its ratio to the first test's."""
    rows: list[list[Node]] = []
    for name, (pick, say) in COMPARED.items():
        values = [pick(run.report) for run in runs]
        if any(values):  # what none of them has, or none has done, is left out
            first, *others = values
            told = [_figure(first, say), *(_compared(v, first, say) for v in others)]
            rows.append([name, *told])
    head = ["", *(run.title for run in runs)]
    return table(f"Ratios are to {runs[0].title}", head, rows)


def _figure(value: float | None, say: Say) -> str:
    return "–" if value is None else say(value)


def _compared(value: float | None, first: float | None, say: Say) -> Node:
    if value is None or not first:
        return _figure(value, say)
    return make("span", say(value), make("small", f" {value / first:.2f}×"))

"""A comparison in words and figures, for documents and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from adapters.loadtest.compare import (
    SLOW_BYTES,
    SLOW_LISTENERS,
    SLOW_PER_S,
    SLOW_S,
    Comparison,
)
from adapters.loadtest.wording import ms, percent, short

from .bars import Bar, draw
from .capacity import P99_MS
from .catalogue import OURS
from .findings import Finding, Spread, find

__all__ = ("BEGIN", "END", "Table", "plots", "tables", "write_markdown")

BEGIN = "<!-- broker bench compare --markdown writes from here -->"
END = "<!-- to here -->"
NOTHING = "–"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text, and what has to be known to read them."""

    title: str
    prose: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(comparison: Comparison) -> Iterator[Table]:
    """Yield the table of figures, and the one with stalled clients if it was run."""
    found = find(comparison)
    setup = comparison.setup
    capacity = (
        "The highest rate is in deliveries, of the same messages: found by trying, "
        f"{setup.try_s:g} s each; held means that nothing was lost and that the p99 "
        f"was {P99_MS:g} ms or less. ≥: the generator was at its end before the "
        "server. Known to 18 %. "
    )
    yield Table(
        title=f"{setup.listeners} listeners",
        prose=(
            f"{capacity if setup.has_capacity else ''}The other columns are of a paced "
            f"run, {setup.rate_per_s:g} messages of {setup.size_bytes} bytes a second "
            f"for {setup.paced_s:g} s, which every server should hold. A ratio is "
            "against the naive loop under hypercorn in the same round."
        ),
        header=(
            *("server", "highest rate", "× naive", "CPU per delivery, µs"),
            *("× naive", "at the highest rate, µs", "p50, ms", "p99, ms"),
            *("memory, MiB", "lost"),
        ),
        rows=tuple(map(_row, found)),
    )
    stalled = [each for each in found if each.stalled]
    if stalled:
        yield Table(
            title=f"One of {SLOW_LISTENERS} listeners stops reading",
            prose=(
                f"{SLOW_PER_S:g} messages of {SLOW_BYTES // 1024} KiB a second for "
                f"{SLOW_S:g} s, in the first round. The kernel takes what the one does "
                "not read for about two seconds; at the end it reads on, or else those "
                "who wait for it would wait longer. Memory is what the server grew by."
            ),
            header=(
                *("server", "p99 of the others", "their longest wait"),
                *("lost by them", "the stalled one is", "memory, MiB"),
            ),
            rows=tuple(map(_stalled_row, stalled)),
        )


def plots(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield each plot: its name, and an SVG document."""
    found = find(comparison)
    note = "the line is the lowest to the highest round"

    def drawn(
        title: str, unit: str, read: Callable[[Finding], Spread], mark: bool = False
    ) -> str:
        bars = [
            Bar(
                label=each.entry.label,
                spread=read(each),
                is_ours=each.entry.name in OURS,
                mark="≥ " if mark and each.is_least else "",
            )
            for each in found
            if read(each).count
        ]
        bars.sort(key=lambda bar: bar.spread.median, reverse=mark)
        return draw(title, f"{unit}; {note}", bars)

    if comparison.setup.has_capacity:
        title = "Highest rate that is held (longer is better)"
        yield (
            "capacity",
            drawn(title, "deliveries/s", lambda each: each.capacity_per_s, mark=True),
        )
    title = "Processor time per delivery, paced (shorter is better)"
    yield "cost", drawn(title, "µs", lambda each: each.cost_us)
    if comparison.setup.has_capacity:
        title = "Processor time per delivery at that rate (shorter is better)"
        yield "full-cost", drawn(title, "µs", lambda each: each.full_cost_us)
    title = "p99 latency, paced (shorter is better)"
    yield "latency", drawn(title, "ms", lambda each: each.p99_ms)


def write_markdown(comparison: Comparison, file: Path, facts: Sequence[str]) -> None:
    """Write tables into a Markdown file, and plots beside it.

    Where the file has the two marks, what is between them is replaced, and the rest
    stays; else it is written anew. Plots are named after the file.

    Args:
        facts: lines about machine and time, which come first.

    Raises:
        OSError: of the file.
    """
    parts = ["\n".join(f"* {fact}" for fact in facts)]
    for name, document in plots(comparison):
        image = file.with_name(f"{file.stem}-{name}.svg")
        image.write_text(document, encoding="utf-8")
        alternative = document.split('aria-label="')[1].split('"')[0]
        parts.append(f"![{alternative}]({image.name})")
    for table in tables(comparison):
        parts += (f"### {table.title}", table.prose, _markdown(table))
    skipped = [each for each in comparison.entries if each.skipped]
    if skipped:
        parts.append(
            "Not compared: "
            + "; ".join(f"{each.label} ({each.skipped})" for each in skipped)
            + "."
        )
    text = "\n\n".join((BEGIN, *parts, END))
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    after = head + text + tail if begin and end else text + "\n"
    file.write_text(after, encoding="utf-8")


def _row(found: Finding) -> tuple[str, ...]:
    mark = "≥ " if found.is_least else ""
    return (
        found.entry.label + (" (failed)" if found.failed else ""),
        mark + _rate(found.capacity_per_s),
        _spread(found.capacity_ratio, "2f"),
        _spread(found.cost_us, "1f"),
        _spread(found.cost_ratio, "2f"),
        _spread(found.full_cost_us, "1f"),
        _spread(found.p50_ms, "1f"),
        _spread(found.p99_ms, "1f"),
        _spread(found.peak_mib, "0f"),
        percent(found.lost),
    )


def _stalled_row(found: Finding) -> tuple[str, ...]:
    stalled = found.stalled
    assert stalled
    return (
        found.entry.label,
        ms(stalled.p99_ms),
        ms(stalled.max_ms),
        percent(stalled.lost),
        "ended" if stalled.has_ended else "kept",
        NOTHING if stalled.grown_mib is None else f"{stalled.grown_mib:.1f}",
    )


def _spread(spread: Spread, style: str) -> str:
    if not spread.count:
        return NOTHING
    if spread.count == 1:
        return f"{spread.median:.{style}}"
    return (
        f"{spread.median:.{style}} "
        f"({spread.lowest:.{style}} to {spread.highest:.{style}})"
    )


def _rate(spread: Spread) -> str:
    if spread.count <= 1:
        return short(spread.median) if spread.count else NOTHING
    ends = f"{short(spread.lowest)} to {short(spread.highest)}"
    return f"{short(spread.median)} ({ends})"


def _markdown(table: Table) -> str:
    rows = (table.header, ("---",) * len(table.header), *table.rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

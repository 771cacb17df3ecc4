"""Bar charts as SVG, by hand: no dependency, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby
from math import floor, log10

from .results import Bar, Chart

__all__ = ("draw",)

WIDTH = 720
LABEL_WIDTH = 210
VALUE_WIDTH = 74
BAR_HEIGHT = 16
STEP = 22
GROUP_GAP = 30
TOP = 44

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 14px; font-weight: 600 }
  .group { font-weight: 600 }
  .note { fill: #59636e }
  .ours { fill: #1a7f5a }
  .other { fill: #9aa5b1 }
  .whisker { stroke: #1f2328; stroke-width: 1 }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .ours { fill: #3fb984 }
    .other { fill: #5d6874 }
    .whisker { stroke: #e6edf3 }
    .grid { stroke: #30363d }
  }"""


def draw(chart: Chart) -> str:
    """Return a chart as an SVG document; bars grow to the right from one zero."""
    highest = max(bar.spread.highest for bar in chart.bars) or 1.0
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / highest
    parts: list[str] = []
    y = TOP
    for name, group in groupby(chart.bars, key=lambda bar: bar.group):
        parts.append(text(0, y + 4, name, "group"))
        y += 12
        for bar in group:
            parts += bar_parts(bar, y, scale)
            y += STEP
        y += GROUP_GAP - 12
    grid = [
        f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{y - 14}"/>'
        + text(x, y, short(value), "note", "middle")
        for value, x in ticks(highest, scale)
    ]
    note = f"{chart.unit}; the line is the lowest to the highest run"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 30}" '
        f'role="img" aria-label="{escape(chart.title)}">'
    )
    return "\n".join(
        (
            opening,
            f"<style>{STYLE}\n</style>",
            text(0, 18, chart.title, "title"),
            *grid,
            *parts,
            text(LABEL_WIDTH, y + 20, note, "note"),
            "</svg>\n",
        )
    )


def bar_parts(bar: Bar, y: int, scale: float) -> Iterator[str]:
    """Yield label, bar, whisker and value."""
    low, middle, high = (
        LABEL_WIDTH + value * scale
        for value in (bar.spread.lowest, bar.spread.median, bar.spread.highest)
    )
    kind = "ours" if bar.label.startswith("asgi-broker") else "other"
    center = y + BAR_HEIGHT / 2
    yield text(LABEL_WIDTH - 8, y + 12, bar.label, "", "end")
    yield (
        f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y}" '
        f'width="{max(middle - LABEL_WIDTH, 1):.1f}" height="{BAR_HEIGHT}" rx="2"/>'
    )
    yield (
        f'<line class="whisker" x1="{low:.1f}" y1="{center}" '
        f'x2="{high:.1f}" y2="{center}"/>'
    )
    yield text(high + 6, y + 12, short(bar.spread.median))


def ticks(highest: float, scale: float) -> Iterator[tuple[float, float]]:
    """Yield round values from 0, and where they stand."""
    power = 10 ** floor(log10(highest))
    step = next(
        power * part for part in (0.25, 0.5, 1, 2) if highest / power < part * 6
    )
    value = 0.0
    while value <= highest:
        yield value, LABEL_WIDTH + value * scale
        value += step


def short(value: float) -> str:
    """Return a number as people say it: 1.5 M, 340 k."""
    for factor, suffix in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.0f}{suffix}" if scaled >= 20 else f"{scaled:.3g}{suffix}"
    return f"{value:.3g}"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text element."""
    attributes = f'class="{kind}" ' if kind else ""
    return (
        f'<text {attributes}x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )

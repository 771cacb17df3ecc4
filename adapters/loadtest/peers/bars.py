"""Bars as SVG, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import msgspec

from adapters.loadtest.wording import short

from .findings import Spread

__all__ = ("Bar", "draw")

WIDTH = 720
LABEL_WIDTH = 250
VALUE_WIDTH = 80
STEP = 24
BAR_HEIGHT = 15
TOP = 34

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 14px; font-weight: 600 }
  .note { fill: #59636e }
  .ours { fill: #1a7f5a }
  .other { fill: #8c96a0 }
  .whisker { stroke: #1f2328 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .ours { fill: #3fb984 }
    .other { fill: #6b7683 }
    .whisker { stroke: #e6edf3 }
  }"""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar: as long as the median, with a line from the lowest to the highest.

    Attributes:
        mark: before its value, such as "≥ ".
    """

    label: str
    spread: Spread
    is_ours: bool = False
    mark: str = ""


def draw(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Return bars that grow to the right from one zero, as an SVG document.

    The titles of the bars have the figures, for those who do not see them.
    """
    highest = max((bar.spread.highest for bar in bars), default=0.0) or 1.0
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / highest
    height = TOP + STEP * len(bars) + 22
    parts = [
        part
        for number, bar in enumerate(bars)
        for part in _bar(bar, TOP + STEP * number, scale)
    ]
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">'
    )
    return "\n".join(
        (
            opening,
            f"<style>{STYLE}\n</style>",
            _text(0, 16, title, "title"),
            *parts,
            _text(LABEL_WIDTH, height - 6, note, "note"),
            "</svg>\n",
        )
    )


def _bar(bar: Bar, y: int, scale: float) -> Iterator[str]:
    ends = (bar.spread.lowest, bar.spread.median, bar.spread.highest)
    low, middle, high = (LABEL_WIDTH + value * scale for value in ends)
    kind = "ours" if bar.is_ours else "other"
    center = y + BAR_HEIGHT / 2
    said = f"{bar.label}: {bar.mark}{' to '.join(short(ends[at]) for at in (0, 2))}"
    yield f"<g><title>{escape(said)}</title>"
    yield _text(LABEL_WIDTH - 8, y + 12, bar.label, anchor="end")
    yield (
        f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y}" rx="2" '
        f'width="{max(middle - LABEL_WIDTH, 1):.1f}" height="{BAR_HEIGHT}"/>'
    )
    yield (
        f'<line class="whisker" x1="{low:.1f}" y1="{center}" x2="{high:.1f}" '
        f'y2="{center}"/>'
    )
    yield _text(high + 6, y + 12, bar.mark + short(bar.spread.median))
    yield "</g>"


def _text(
    x: float, y: float, words: str, kind: str = "", *, anchor: str = "start"
) -> str:
    name = f'class="{kind}" ' if kind else ""
    return (
        f'<text {name}x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )

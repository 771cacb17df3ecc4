"""One chart as SVG: it fills whatever width it gets, and its texts keep their size."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .axis import Axis
from .markup import Element, make

__all__ = ("HUES", "Chart", "Line", "Reading", "Shade", "draw")

HUES = 6  # colours in style.css; more lines begin again
TOP = 26  # px, where readings are written
HEIGHT = 168  # px, of the plot
BOTTOM = 26  # px, where the x axis has its labels
UNITS = 1000  # of the box that is stretched over the plot
LABEL_STEP = 14  # px between two lines' names


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A curve.

    Attributes:
        name: written at its end.
        hue: number of its colour (0 to HUES - 1).
        points: (x, y); where y is None, the line is broken.
        is_faint: dashed and without a name: the lesser of two in one colour.
        is_filled: down to the axis.
    """

    name: str
    hue: int
    points: Sequence[tuple[float, float | None]]
    is_faint: bool = False
    is_filled: bool = False


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What is written above the plot while the pointer is between two values of x."""

    low: float
    high: float
    text: str


class Shade(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the x axis that is set apart."""

    low: float
    high: float
    name: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A titled plot.

    Attributes:
        key: unique on its page; letters and hyphens.
        summary: what it shows, in a sentence, for who cannot see it.
        note: how to read it, in a sentence, for all.
    """

    key: str
    title: str
    summary: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    note: str = ""
    readings: Sequence[Reading] = ()
    shades: Sequence[Shade] = ()


def draw(chart: Chart) -> Element:
    """Return a chart as a figure; hovering it needs no script."""
    plot = make(
        "g",
        *(_shade(chart, shade) for shade in chart.shades),
        *_grid(chart),
        _curves(chart),
        *_names(chart),
        *(_reading(chart, reading) for reading in chart.readings),
        transform=f"translate(0 {TOP})",
    )
    svg = make(
        "svg",
        make("title", chart.title, id=f"{chart.key}-title"),
        make("desc", chart.summary, id=f"{chart.key}-desc"),
        plot,
        class_="chart",
        role="img",
        aria_labelledby=f"{chart.key}-title {chart.key}-desc",
        height=TOP + HEIGHT + BOTTOM,
    )
    return make(
        "figure",
        make(
            "figcaption",
            make("h3", chart.title),
            *([make("p", chart.note)] if chart.note else []),
        ),
        svg,
        id=chart.key,
    )


def _left(chart: Chart, value: float) -> str:
    return f"{100 * chart.x.at(value):.3f}%"


def _top(chart: Chart, value: float) -> float:
    return round(HEIGHT * (1 - chart.y.at(value)), 2)


def _shade(chart: Chart, shade: Shade) -> Element:
    left, right = chart.x.at(shade.low), chart.x.at(shade.high)
    return make(
        "svg",
        make("rect", width="100%", height="100%"),
        make("text", shade.name, y=-6),
        class_="shade",
        x=f"{100 * left:.3f}%",
        width=f"{100 * (right - left):.3f}%",
        height=HEIGHT,
    )


def _grid(chart: Chart) -> list[Element]:
    parts = []
    for value, label in chart.y.ticks.items():
        y = _top(chart, value)
        parts += [
            make("line", class_="grid", x1=0, x2="100%", y1=y, y2=y),
            make("text", label, class_="tick", x=-7, y=y + 4, text_anchor="end"),
        ]
    parts += [
        make(
            "text",
            label,
            class_="tick",
            x=_left(chart, value),
            y=HEIGHT + 17,
            text_anchor="middle",
        )
        for value, label in chart.x.ticks.items()
    ]
    return parts


def _curves(chart: Chart) -> Element:
    """Return the lines in a box that is stretched; their width is not."""
    paths = []
    for line in chart.lines:
        pieces = _pieces(chart, line)
        hue = f"hue-{line.hue % HUES}"
        if line.is_filled:
            paths += [
                make("path", class_=f"area {hue}", d=_area(piece)) for piece in pieces
            ]
        paths.append(
            make(
                "path",
                class_=f"curve {hue}" + (" faint" if line.is_faint else ""),
                d=" ".join(map(_path, pieces)),
                vector_effect="non-scaling-stroke",
            )
        )
    return make(
        "svg",
        *paths,
        class_="curves",
        width="100%",
        height=HEIGHT,
        viewBox=f"0 0 {UNITS} {HEIGHT}",
        preserveAspectRatio="none",
    )


def _pieces(chart: Chart, line: Line) -> list[list[tuple[float, float]]]:
    """Return a line as the runs of points between its gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in line.points:
        if y is not None:
            point = (round(UNITS * chart.x.at(x), 2), _top(chart, y))
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _path(piece: list[tuple[float, float]]) -> str:
    """Return a path; a single point is one of no length, which round ends show."""
    first, *others = (f"{x:g},{y:g}" for x, y in piece)
    return f"M{first}" + ("".join(f"L{point}" for point in others) or "h0")


def _area(piece: list[tuple[float, float]]) -> str:
    return f"{_path(piece)}V{HEIGHT}H{piece[0][0]:g}Z"


def _names(chart: Chart) -> list[Element]:
    """Return lines' names beside their ends, moved apart where they would overlap."""
    ends = []
    for line in chart.lines:
        heights = [y for _, y in line.points if y is not None]
        if heights and not line.is_faint:
            ends.append((_top(chart, heights[-1]), line))
    ends.sort(key=lambda end: end[0])
    # Pushed down one after the other, and then up again from the end of the plot.
    tops: list[float] = []
    for top, _ in ends:
        tops.append(max(top, tops[-1] + LABEL_STEP) if tops else top)
    for below, index in enumerate(reversed(range(len(tops)))):
        tops[index] = min(tops[index], HEIGHT - LABEL_STEP * below)
    return [
        make(
            "text",
            line.name,
            class_=f"name hue-{line.hue % HUES}",
            x="100%",
            dx=7,
            y=top + 4,
        )
        for top, (_, line) in zip(tops, ends, strict=True)
    ]


def _reading(chart: Chart, reading: Reading) -> Element:
    left, right = chart.x.at(reading.low), chart.x.at(reading.high)
    middle = f"{50 * (left + right):.3f}%"
    return make(
        "g",
        make(
            "rect",
            x=f"{100 * left:.3f}%",
            width=f"{100 * (right - left):.3f}%",
            height=HEIGHT,
        ),
        make("line", x1=middle, x2=middle, y1=0, y2=HEIGHT),
        make("text", reading.text, x="100%", y=-10, text_anchor="end"),
        class_="reading",
    )

"""The report as a page: what is on it, and what cannot get onto it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html.parser import HTMLParser
from itertools import combinations, pairwise
from math import cbrt, dist

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.loadtest.page import render
from adapters.loadtest.page.axis import Axis, linear, logarithmic, percentiles, span
from adapters.loadtest.page.chart import HEIGHT, HUES, Chart, Line, draw
from adapters.loadtest.page.distribution import (
    distributions,
    histogram,
    percentile_curve,
)
from adapters.loadtest.page.markup import Element
from adapters.loadtest.page.runs import number
from adapters.loadtest.page.timeline import MOST_READINGS, timelines
from adapters.loadtest.plan import Plan, Scenario, Wire
from adapters.loadtest.report import Audience, Latency, Moment, Report

from . import samples

# What is left of a colour (linear RGB) for who lacks one kind of cones, after
# Machado, Oliveira and Fernandes (2009), severity 1.
SIGHTS = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
# Linear RGB to XYZ, each divided by that of white (D65).
XYZ = ((0.4339, 0.3763, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8728))
LEAST_DIFFERENCE = 14  # CIE 1976; 2 is what is just seen side by side

HOSTILE = "\"><script>document.title='owned'</script><img src=x onerror=alert(1)>&amp;"


class Seen(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.style = ""
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] == ["style"]:
            self.style += data
        elif data.strip():
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.words)


def charts_of(*reports: Report) -> dict[str, Chart]:
    runs = number(reports)
    found = distributions(runs)
    curves = [percentile_curve(found), histogram(found)] if found else []
    return {chart.key: chart for chart in (*timelines(runs), *curves)}


def test_a_page_has_no_script_and_no_link_and_allows_none() -> None:
    seen = Seen(render([samples.clean(), samples.faulty()]))
    assert not {"script", "link", "img", "a", "iframe", "form"} & set(seen.tags)
    names = {name for name, _ in seen.attributes}
    assert not {"src", "href", "style", "xlink:href", "action"} & names
    assert not any(name.startswith("on") for name in names)
    assert "url(" not in seen.style
    assert "@import" not in seen.style
    digest = b64encode(sha256(seen.style.encode()).digest()).decode()
    policy = next(v for _, v in seen.attributes if v.startswith("default-src"))
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_whatever_reports_hold_is_text() -> None:
    report = samples.faulty(HOSTILE)
    (healthy,) = report.audiences
    report = msgspec.structs.replace(
        report,
        started=HOSTILE,
        plan=msgspec.structs.replace(
            report.plan,
            url=f"ws://{HOSTILE}",
            wire=Wire.TEXT,
            template=HOSTILE,
            scenario=Scenario.STORM,
        ),
        machine=msgspec.structs.replace(report.machine, processor=HOSTILE),
        audiences=(msgspec.structs.replace(healthy, name=HOSTILE),),
        warnings=(HOSTILE,),
    )
    for reports in ([report], [report, samples.clean()]):
        seen = Seen(render(reports))
        assert not {"script", "img"} & set(seen.tags)
        assert not any(name.startswith("on") for name, _ in seen.attributes)
        assert seen.text.count(HOSTILE) > 5


def test_what_no_encoding_can_say_becomes_a_question_mark() -> None:
    report = samples.clean("half a \ud83d pair")
    assert "half a � pair" in render([report])  # not printable
    twice = msgspec.structs.replace(report, started="\ud83d")
    render([twice]).encode()


def test_secrets_are_not_shown() -> None:
    report = samples.clean("")
    plan = msgspec.structs.replace(
        report.plan,
        url="ws://ada:hidden@127.0.0.1:8000/ws?token=hidden",
        token="hidden",
        greeting=("hidden",),
    )
    page = render([msgspec.structs.replace(report, plan=plan)])
    assert "ws://127.0.0.1:8000/ws?…" in page
    assert "hidden" not in Seen(page).text


def test_a_page_of_one_test_tells_everything() -> None:
    page = Seen(render([samples.clean()]))
    for part in (
        "300,000 of 300,000 deliveries came",
        "33\N{NO-BREAK SPACE}% of a core",
        "of what the kernel allows",
        "56.3 KiB",
        "deliver, healthy",
        "Second by second",
        "AMD EPYC, 2 cores",
        "1 process, 1 source address",
        "Fan-out: 1,001 clients, 10 messages/s of 128 B for 30 s",
    ):
        assert part in page.text
    assert "What makes these figures worth less" not in page.text
    assert page.tags.count("svg") >= 2 * 9


def test_warnings_come_before_the_verdict() -> None:
    report = samples.faulty()
    text = Seen(render([report])).text
    assert text.index(report.warnings[0]) < text.index("deliveries came")


@pytest.mark.parametrize("scenario", Scenario)
def test_every_scenario_has_a_page(scenario: Scenario) -> None:
    report = samples.storm()
    plan = msgspec.structs.replace(report.plan, scenario=scenario, slow_share=0.1)
    text = Seen(render([msgspec.structs.replace(report, plan=plan)])).text
    assert scenario.value.capitalize() in text


def test_a_page_of_a_test_that_hardly_began() -> None:
    """No moment, no audience, no delivery, no floor, no process: no chart either."""
    plan = Plan(url="ws://127.0.0.1:1/", label="cut short")
    machine = msgspec.structs.replace(samples.MACHINE, floor_per_s=0.0)
    empty = Report(plan=plan, started="now", machine=machine, is_complete=False)
    assert "Read with care" in Seen(render([empty])).text
    assert "svg" not in Seen(render([empty])).tags

    quiet = msgspec.structs.replace(
        empty,
        moments=(Moment(at_s=-1.0),),
        audiences=(Audience(name="healthy", clients=1),),
    )
    Seen(render([quiet, empty, samples.clean()]))
    assert set(charts_of(quiet)) == {"outstanding", "deliveries", "sent", "cpu", "late"}


def test_no_test_no_page() -> None:
    with pytest.raises(ValueError, match="at least one report"):
        render([])


def test_a_histogram_that_is_none_is_told() -> None:
    report = samples.clean()
    (healthy,) = report.audiences
    broken = msgspec.structs.replace(healthy, latency=Latency(count=1, histogram="no"))
    with pytest.raises(ValueError, match="Histogram"):
        render([msgspec.structs.replace(report, audiences=(broken,))])


def test_several_tests_are_compared_with_the_first() -> None:
    page = render([samples.clean("one"), samples.clean("two", pace=2.0)])
    seen = Seen(page)
    assert "Ratios are to A: one" in seen.text
    row = re.search(r"processor per delivery</th>(.*?)</tr>", page)
    assert row is not None
    assert Seen(row[1]).text == "33 µs 66 µs 2.00×"
    p50 = re.search(r">p50</th>(.*?)</tr>", page)
    assert p50 is not None
    assert "2.00×" in p50[1]


def test_tests_that_were_not_the_same_are_told_apart() -> None:
    one = samples.clean()
    other = msgspec.structs.replace(
        one, plan=msgspec.structs.replace(one.plan, rate_per_s=5.0, url="ws://b/")
    )
    assert "They differ in: rate_per_s." in Seen(render([one, other])).text
    elsewhere = msgspec.structs.replace(
        one, machine=msgspec.structs.replace(one.machine, cores=64)
    )
    assert "on different machines" in Seen(render([one, elsewhere])).text
    assert "differ" not in Seen(render([one, one])).text


def test_charts_hold_every_moment() -> None:
    report = samples.storm()
    charts = charts_of(report)
    count = len(report.moments)
    assert [len(line.points) for line in charts["latency"].lines] == [count] * 3
    # Where nothing came there is no latency, which is not a latency of 0.
    silent = [y for _, y in charts["latency"].lines[1].points].count(None)
    assert silent == 3
    for key in ("outstanding", "sent", "memory", "connected"):
        assert len(charts[key].lines[0].points) == count
    assert [line.name for line in charts["deliveries"].lines] == ["due", "came"]
    assert "connected" not in charts_of(samples.clean())


def test_charts_of_several_tests_have_a_line_for_each() -> None:
    charts = charts_of(samples.clean(), samples.faulty(), samples.slow())
    for key in ("outstanding", "deliveries", "percentiles", "histogram", "cpu"):
        lines = charts[key].lines
        assert [line.name for line in lines] == ["A", "B", "C"]
        assert [line.hue for line in lines] == [0, 1, 2]


def test_a_long_test_has_no_more_readings_than_can_be_pointed_at() -> None:
    report = samples.clean()
    moments = tuple(Moment(at_s=float(s), delivered=s) for s in range(3600))
    (chart,) = (
        chart
        for chart in timelines(
            number([msgspec.structs.replace(report, moments=moments)])
        )
        if chart.key == "deliveries"
    )
    assert len(chart.readings) <= MOST_READINGS
    assert len(chart.lines[1].points) == 3600
    for one, other in pairwise(chart.readings):
        assert one.high == other.low


def test_percentiles_are_the_ones_of_the_report() -> None:
    report = samples.slow()
    for found, audience in zip(
        distributions(number([report])), report.audiences, strict=True
    ):
        latency = audience.latency
        assert found.total == latency.count
        for percentile, value in {
            50: latency.p50_ms,
            90: latency.p90_ms,
            99: latency.p99_ms,
            99.9: latency.p999_ms,
            100: latency.max_ms,
        }.items():
            assert found.at(percentile) == pytest.approx(value, rel=0.001)


@settings(max_examples=40)  # each decodes a histogram of 20,000 buckets
@given(st.lists(st.floats(0, 100_000), min_size=1, max_size=50))
def test_a_histogram_shows_all_and_percentiles_never_fall(times: list[float]) -> None:
    report = samples.latency(times)
    audience = Audience(name="healthy", latency=report)
    plan = Plan(url="ws://x/")
    runs = number(
        [Report(plan=plan, started="", machine=samples.MACHINE, audiences=(audience,))]
    )
    found = distributions(runs)
    (line,) = histogram(found).lines
    assert sum(y or 0 for _, y in line.points[::2]) == pytest.approx(1)
    (curve,) = percentile_curve(found).lines
    heights = [y for _, y in curve.points if y is not None]
    assert heights == sorted(heights)
    assert len(heights) >= 1


@given(st.lists(st.floats(-1e6, 1e12), max_size=20), st.sampled_from([10, 1024]))
def test_linear_axes(values: list[float], base: float) -> None:
    axis = linear(values, str, base=base)
    check(axis, values)
    assert axis.low <= 0 <= axis.high


@given(st.lists(st.floats(1e-3, 1e7), max_size=20))
def test_logarithmic_axes(values: list[float]) -> None:
    check(logarithmic(values, str), values)


@given(st.integers(0, 10**9))
def test_axes_of_percentiles(count: int) -> None:
    axis = percentiles(count)
    check(axis, [0.0, 50.0])
    assert axis.at(0) == 0


@given(st.floats(-100, 0), st.floats(1, 100_000))
def test_axes_of_time(low: float, length: float) -> None:
    axis = span(low, low + length, str)
    check(axis, [low, low + length])


def check(axis: Axis, values: list[float]) -> None:
    """Check what holds for every axis."""
    assert axis.low < axis.high
    assert (axis.at(axis.low), axis.at(axis.high)) == (0, 1)
    assert all(0 <= axis.at(value) <= 1 for value in values)
    assert all(axis.low <= value <= axis.high for value in values)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert 1 <= len(axis.ticks) <= 12
    assert list(axis.ticks) == sorted(axis.ticks)
    slack = (axis.high - axis.low) * 1e-6
    assert all(axis.low - slack <= t <= axis.high + slack for t in axis.ticks)


def test_a_line_is_broken_where_it_has_no_value_and_a_lone_point_is_seen() -> None:
    svg = draw(chart_with([(0, 1), (1, 2), (2, None), (3, 4), (4, None), (5, None)]))
    (path,) = (p.get("d", "") for p in svg.iter("path"))
    assert path == f"M0,{HEIGHT * 0.75:g}L200,{HEIGHT * 0.5:g} M600,0h0"


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    charts = [chart_with([(0, 0), (5, end)], names="abcd") for end in (0, 2, 4)]
    for chart in charts:
        tops = [
            float(text.get("y", ""))
            for text in draw(chart).iter("text")
            if "name" in text.get("class", "")
        ]
        assert len(tops) == 4
        assert all(b - a >= 14 for a, b in pairwise(sorted(tops)))
        assert max(tops) <= HEIGHT + 4


def test_charts_are_read_by_who_cannot_see_them() -> None:
    figure = draw(chart_with([(0, 1), (5, 4)]))
    svg = figure.find("svg")
    assert isinstance(svg, Element)
    told = (svg.get("aria-labelledby") or "").split()
    assert [svg.findtext(f"*[@id='{key}']") for key in told] == ["Title", "Summary."]


def chart_with(points: list[tuple[float, float | None]], names: str = "a") -> Chart:
    return Chart(
        key="key",
        title="Title",
        summary="Summary.",
        x=span(0, 5, str),
        y=linear([4], str),
        lines=[Line(name=name, hue=0, points=points) for name in names],
    )


@pytest.mark.parametrize("sight", SIGHTS)
def test_everybody_can_tell_the_hues_apart(sight: str) -> None:
    style = Seen(render([samples.clean()])).style
    hues = re.findall(r"--hue-\d: #([0-9a-f]{6})", style)
    for palette in (hues[:HUES], hues[HUES:]):
        assert len(palette) == HUES
        seen = [as_seen(hue, SIGHTS[sight]) for hue in palette]
        for one, other in combinations(seen, 2):
            assert dist(one, other) > LEAST_DIFFERENCE


def as_seen(colour: str, sight: Sequence[Sequence[float]]) -> list[float]:
    """Return a colour's place in CIELAB, where distances are as they are seen."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    lights = [
        ((s + 0.055) / 1.055) ** 2.4 if s > 0.04045 else s / 12.92 for s in shares
    ]
    left = [min(max(sumprod(row, lights), 0), 1) for row in sight]
    x, y, z = (cbrt(sumprod(row, left)) for row in XYZ)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def sumprod(row: Sequence[float], values: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(row, values, strict=True))

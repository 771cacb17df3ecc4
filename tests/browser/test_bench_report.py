"""The report of a load test in a real browser: light, dark, narrow and printed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from adapters.loadtest.page import render
from adapters.loadtest.report import Report
from tests.loadtest import samples

from .tabs import Browser, Tab

pytestmark = pytest.mark.browser

SCREENSHOT = Path(__file__).parents[2] / "docs" / "images" / "bench-report.png"
NARROW, WIDE = 360, 1100
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3

Show = Callable[[Sequence[Report]], Tab]

# Contrast of each text's fill with its figure, after WCAG's relative luminance.
CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((value) => {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
});
const light = (colour) => {
  const [red, green, blue] = channels(colour);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
return [...document.querySelectorAll("figure text")].map((text) => {
  const figure = getComputedStyle(text.closest("figure")).backgroundColor;
  const [one, other] = [light(getComputedStyle(text).fill), light(figure)];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
});
"""
# What sticks out of its figure, or lies on another line's name.
MISPLACED = """
const out = [];
for (const figure of document.querySelectorAll("figure")) {
  const frame = figure.getBoundingClientRect();
  const boxes = [...figure.querySelectorAll(".name, .tick, .curve")].map((element) => {
    const box = element.getBoundingClientRect();
    if (box.left < frame.left || box.right > frame.right || box.bottom > frame.bottom)
      out.push(`${figure.id}: ${element.textContent || "curve"} sticks out`);
    return [element, box];
  });
  const names = boxes.filter(([element]) => element.matches(".name"));
  for (const [one, a] of names) for (const [other, b] of names)
    if (one !== other && Math.abs(a.top - b.top) < 12)
      out.push(`${figure.id}: ${one.textContent} lies on ${other.textContent}`);
}
return out;
"""


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Opens the page of these tests; nothing may be complained about until the end."""

    def show(reports: Sequence[Report]) -> Tab:
        path = tmp_path / "report.html"
        path.write_text(render(reports))
        return browser.open(path.as_uri())

    yield show
    assert browser.complaints() == []


def emulate(browser: Browser, scheme: str, media: str = "screen") -> None:
    """Have pages believe that the reader prefers this."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": media, "features": [feature]}
    )


def real_reports() -> list[Report]:
    """Return the tests whose picture is wanted; none usually."""
    files = os.environ.get("BENCH_REPORTS", "").split(os.pathsep)
    return [
        msgspec.json.decode(Path(file).read_bytes(), type=Report)
        for file in files
        if file
    ]


def page_of(*reports: Report) -> list[Report]:
    return list(reports)


@pytest.mark.parametrize(
    "reports",
    [
        page_of(samples.storm()),
        page_of(samples.clean(), samples.faulty(), samples.slow(), samples.storm()),
    ],
    ids=["one", "several"],
)
def test_it_fits_any_width_in_any_light(
    browser: Browser, show: Show, reports: Sequence[Report]
) -> None:
    tab = show(reports)
    grounds = set()
    for scheme in ("light", "dark"):
        emulate(browser, scheme)
        grounds.add(ground(tab))
        assert min(tab.run(CONTRASTS)) >= LEAST_CONTRAST, scheme
        for width in (NARROW, WIDE):
            tab.resize(width, 700)
            wide = tab.run("return document.documentElement.scrollWidth")
            assert wide <= width, scheme
            assert tab.run(MISPLACED) == [], (scheme, width)
    assert len(grounds) == 2
    emulate(browser, "dark", "print")
    ink = tab.run("return getComputedStyle(document.body).color")
    assert max(map(int, re.findall(r"\d+", ink))) < 100  # dark, since paper is white
    assert tab.run("return performance.getEntriesByType('resource').length") == 0


def ground(tab: Tab) -> str:
    colour: str = tab.run("return getComputedStyle(document.body).backgroundColor")
    return colour


def test_charts_have_a_point_for_each_second(show: Show) -> None:
    report = samples.storm()
    tab = show([report])
    heard = sum(moment.max_ms > 0 for moment in report.moments)
    points: dict[str, list[int]] = tab.run(
        "return Object.fromEntries([...document.querySelectorAll('figure')].map("
        "  (figure) => [figure.id, [...figure.querySelectorAll('.curve')].map("
        "    (curve) => curve.getAttribute('d').match(/[ML]/g).length)]))"
    )
    count = len(report.moments)
    assert points["latency"] == [heard] * 3
    assert points["deliveries"] == [count] * 2
    assert points["outstanding"] == points["memory"] == points["connected"] == [count]
    # As many pieces as there are silences between them.
    pieces = tab.run(
        "return document.querySelector('#latency .curve').getAttribute('d')"
        ".match(/M/g).length"
    )
    assert pieces == 2
    # And it is drawn: from the first second to the last, in the height of the plot.
    box: dict[str, float] = tab.run(
        "const [box, plot] = ['curve', 'chart'].map((part) =>"
        "  document.querySelector(`#outstanding .${part}`).getBoundingClientRect());"
        "return {share: box.width / plot.width, height: box.height}"
    )
    assert box["share"] > 0.9
    assert box["height"] > 120


def test_pointing_at_a_second_reads_it(browser: Browser, show: Show) -> None:
    report = samples.clean()
    tab = show([report])
    tab.resize(WIDE, 900)
    readings = browser.driver.find_elements(By.CSS_SELECTOR, "#latency .reading rect")
    assert len(readings) == len(report.moments)
    assert visible(tab) == []
    ActionChains(browser.driver).move_to_element(readings[10]).perform()
    (text,) = visible(tab)
    moment = report.moments[10]
    assert text.startswith(f"{moment.at_s:.0f} s: p50 {moment.p50_ms:.3g} ms, p99 ")


def visible(tab: Tab) -> list[str]:
    texts: list[str] = tab.run(
        "return [...document.querySelectorAll('.reading text')]"
        ".filter((text) => getComputedStyle(text).visibility === 'visible')"
        ".map((text) => text.textContent)"
    )
    return texts


def test_hostile_labels_are_harmless(browser: Browser, show: Show) -> None:
    label = "</title></style><script>document.title='owned'</script><svg onload=a()>"
    tab = show([samples.clean(label), samples.faulty(label)])
    title: str = tab.run("return document.title")
    assert title == f"Load test: {label}, {label}"
    assert tab.run("return document.querySelectorAll('script').length") == 0
    assert label in tab.run("return document.body.innerText")
    # And if some got in after all, the page's policy is in the way.
    blocked: Any = browser.driver.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation',"
        "  (event) => done(event.effectiveDirective), {once: true});"
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">');"
    )
    assert blocked == "style-src-attr"
    assert all("Content Security Policy" in each for each in browser.complaints())


def test_the_picture_in_the_docs(browser: Browser, show: Show) -> None:
    """Warnings and verdicts first, then charts.

    BENCH_REPORTS=before.json:after.json has it write docs/images/bench-report.png: of
    real tests, since people believe a picture.
    """
    tab = show(real_reports() or [samples.clean(), samples.faulty()])
    emulate(browser, "light")
    browser.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    tab.resize(WIDE, 1700)
    tops: list[float] = tab.run(
        "return ['.warnings', '.verdicts', '.charts'].map("
        "  (part) => document.querySelector(part)?.getBoundingClientRect().top)"
        ".filter((top) => top !== undefined)"
    )
    assert len(tops) >= 2
    assert tops == sorted(tops)
    if real_reports():
        SCREENSHOT.parent.mkdir(exist_ok=True)
        browser.driver.save_screenshot(str(SCREENSHOT))

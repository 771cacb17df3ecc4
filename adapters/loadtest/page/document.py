"""The report as one page that needs nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files

import msgspec

from adapters.loadtest.plan import Plan, Scenario, Wire
from adapters.loadtest.report import Machine, Report
from adapters.loadtest.wording import (
    State,
    address,
    bytes_per_connection,
    cores,
    count,
    judge,
    main_latency,
    ms,
    name,
    percent,
    plural,
    printable,
    seconds,
    size,
)

from .chart import Chart, draw
from .distribution import distributions, histogram, percentile_curve
from .markup import Element, make, write
from .runs import Run, number
from .tables import audiences, comparison, moments, times
from .timeline import timelines

__all__ = ("render",)

# Where tests may differ and still be compared without a word.
MAY_DIFFER = {"url", "pid", "label", "token", "topic", "template", "greeting", "wire"}
SIGNS = {
    State.CLEAN: "✓",
    State.DOUBTFUL: "!",
    State.FAULTY: "✗",
    State.EMPTY: "–",
}


def render(reports: Sequence[Report]) -> str:
    """Return one or several tests as a page of HTML; several are compared.

    It loads nothing and runs no script, and says so to the browser. Whatever reports
    hold is shown as text. Tokens are not shown.

    Raises:
        ValueError: there are no reports, or a histogram in them is none.
    """
    if not reports:
        raise ValueError("a page needs at least one report")
    runs = number(reports)
    style = files("adapters.loadtest.page").joinpath("style.css").read_text("utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = make(
        "html",
        make(
            "head",
            make("meta", charset="utf-8"),
            make("meta", http_equiv="Content-Security-Policy", content=policy),
            make(
                "meta", name="viewport", content="width=device-width, initial-scale=1"
            ),
            make("meta", name="color-scheme", content="light dark"),
            make("title", f"Load test: {', '.join(map(name, reports))}"),
            make("style", style),
        ),
        make("body", make("main", *_sections(runs))),
        lang="en",
    )
    return f"<!doctype html>\n{write(html)}\n"


def _sections(runs: Sequence[Run]) -> Iterator[Element]:
    yield _heading(runs)
    yield from _warnings(runs)
    yield make("section", *map(_verdict, runs), class_="verdicts", aria_label="Verdict")
    if len(runs) == 1:
        yield _tiles(runs[0].report)
    else:
        yield _section("Compared", comparison(runs))
    if charts := _charts(runs):
        yield make(
            "section",
            make("h2", "Charts"),
            *([_legend(runs)] if len(runs) > 1 else []),
            make("div", *map(draw, charts), class_="charts"),
        )
    yield _section(
        "Figures",
        *(audiences(run) for run in runs),
        *(times(run) for run in runs),
        *(
            make(
                "details",
                make("summary", f"Second by second {run.letter}"),
                moments(run),
            )
            for run in runs
            if run.report.moments
        ),
    )
    yield _section(
        "What was done, and where",
        make("div", *map(_conditions, runs), class_="conditions"),
    )


def _section(title: str, *children: Element) -> Element:
    return make("section", make("h2", title), *children)


def _heading(runs: Sequence[Run]) -> Element:
    if len(runs) > 1:
        title, words = f"{len(runs)} load tests", _purpose(runs[0].report.plan)
    else:
        title, words = name(runs[0].report), _purpose(runs[0].report.plan)
    return make(
        "header",
        make("p", "broker bench", class_="brand"),
        make("h1", title),
        make("p", words),
    )


def _purpose(plan: Plan) -> str:
    where = f" in {count(plan.rooms)} rooms" if plan.rooms > 1 else ""
    return (
        f"{plan.scenario.value.capitalize()}: {count(plan.clients)} clients{where}, "
        f"{count(plan.rate_per_s)} messages/s of {size(plan.size_bytes)} for "
        f"{seconds(plan.duration_s)}"
    )


def _warnings(runs: Sequence[Run]) -> Iterator[Element]:
    found = [
        f"{run.letter}: {warning}" if run.letter else warning
        for run in runs
        for warning in run.report.warnings
    ]
    found += _differences(runs)
    if found:
        yield make(
            "section",
            make("h2", "What makes these figures worth less"),
            make("ul", *(make("li", printable(each)) for each in found)),
            class_="warnings",
        )


def _differences(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what keeps tests from being comparable: other plans, other machines."""
    plans = [msgspec.to_builtins(run.report.plan) for run in runs]
    unlike = [
        key
        for key in plans[0]
        if key not in MAY_DIFFER and any(p[key] != plans[0][key] for p in plans)
    ]
    if unlike:
        yield f"The tests were not the same. They differ in: {', '.join(unlike)}."
    machines = {_machine_key(run.report.machine) for run in runs}
    if len(machines) > 1:
        yield "The tests ran on different machines."


def _machine_key(machine: Machine) -> tuple[object, ...]:
    return machine.cores, machine.processor, machine.system


def _verdict(run: Run) -> Element:
    verdict = judge(run.report)
    first, *others = verdict.findings
    if not run.letter:  # of several tests, a table compares what they took
        others += verdict.costs
    titled = [make("p", run.title, class_="run")] if run.letter else []
    return make(
        "article",
        *titled,
        make(
            "p",
            make("span", SIGNS[verdict.state], class_="sign", aria_hidden="true"),
            verdict.state.value.capitalize(),
            class_="state",
        ),
        make("p", _bound(first), class_="first"),
        make("p", _bound(" ".join(others))),
        class_=f"verdict {verdict.state.name.lower()}",
    )


def _bound(words: str) -> str:
    """Return a text whose numbers and units stay on one line."""
    return re.sub(
        r"(?<=\d) (?=(?:%|µs|ms|s|B|[KMG]iB)(?!\w))", "\N{NO-BREAK SPACE}", words
    )


def _tiles(report: Report) -> Element:
    latency = main_latency(report)
    tiles = {
        "p50": ms(latency.p50_ms),
        "p99": ms(latency.p99_ms),
        "p99.9": ms(latency.p999_ms),
        "slowest": ms(latency.max_ms),
        "deliveries/s": count(report.deliveries_per_s),
    }
    if floor := report.machine.floor_per_s:
        tiles["of what the kernel allows"] = percent(report.deliveries_per_s / floor)
    if report.server:
        tiles["processor per delivery"] = ms(report.server.cpu_us_per_delivery / 1000)
    if (grown := bytes_per_connection(report)) is not None:
        tiles["memory per connection"] = size(grown)
    return make(
        "dl",
        *(
            make("div", make("dt", label), make("dd", value))
            for label, value in tiles.items()
        ),
        class_="tiles",
    )


def _charts(runs: Sequence[Run]) -> list[Chart]:
    charts = timelines(runs)
    if found := distributions(runs):
        charts[1:1] = [percentile_curve(found), histogram(found)]
    return charts


def _legend(runs: Sequence[Run]) -> Element:
    return make(
        "ul",
        *(make("li", run.title, class_=f"hue-{run.hue % 6}") for run in runs),
        class_="legend",
    )


def _conditions(run: Run) -> Element:
    report = run.report
    plan, machine = report.plan, report.machine
    rows = {
        "server": address(plan.url),
        "scenario": plan.scenario.value,
        "wire": plan.wire.value,
        "clients": count(plan.clients),
        "rooms": count(plan.rooms),
        "rate": f"{count(plan.rate_per_s)} messages/s in all",
        "message": f"{count(plan.size_bytes)} bytes",
        "time": f"{seconds(plan.warmup_s)} of warm-up, {seconds(plan.duration_s)} "
        f"counted, up to {seconds(plan.settle_s)} to settle",
        "connecting": f"{count(plan.ramp_per_s)} clients/s",
        "generator": f"{plural(plan.processes, 'process', 'processes')}, "
        f"{plural(plan.sources, 'source address', 'source addresses')}",
        **dict(_special(plan)),
        "begun": report.started,
        "machine": f"{machine.processor}, {plural(machine.cores, 'core', 'cores')}",
        "system": f"{machine.system}, Python {machine.python}",
    }
    if machine.floor_per_s:
        rows["send floor"] = f"{count(machine.floor_per_s)} sends/s with one core"
    if report.generators.cpu:
        rows["generators’ processor"] = ", ".join(map(cores, report.generators.cpu))
    titled = [make("h3", run.title)] if run.letter else []
    return make(
        "article",
        *titled,
        make(
            "dl",
            *(
                part
                for label, value in rows.items()
                for part in (make("dt", label), make("dd", printable(value)))
            ),
        ),
    )


def _special(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what only some scenarios and wires have."""
    if plan.scenario is Scenario.SLOW:
        yield "slow", f"{percent(plan.slow_share)} of the listeners {plan.slowness}"
    if plan.scenario is Scenario.CHURN:
        yield "churn", f"{count(plan.churn_per_s)} clients/s leave, and come"
    if plan.scenario in (Scenario.STORM, Scenario.RESUME):
        yield "away", seconds(plan.drop_s)
    if plan.wire is Wire.TEXT:
        yield "template", plan.template
    else:
        yield "topic", plan.topic

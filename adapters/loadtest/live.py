"""A load test on the terminal: while it runs, and what came of it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .asserting import Outcome
from .plan import Plan
from .progress import Phase, Progress
from .report import Audience, Moment, Report
from .wording import (
    State,
    address,
    cores,
    count,
    healthy_first,
    judge,
    ms,
    name,
    printable,
    seconds,
    size,
)

__all__ = ("LiveView", "print_report")

SPARKS = "▁▂▃▄▅▆▇█"
PIPE_WIDTH = 200  # more than a table of figures ever takes
SPARKLINE_S = 40  # seconds, one character each
WARNING = "bold white on red"
STYLES = {
    State.CLEAN: "bold green",
    State.DOUBTFUL: "bold yellow",
    State.FAULTY: "bold red",
    State.EMPTY: "bold yellow",
}
SIGNS = {True: ("✓", "green"), False: ("✗", "bold red")}


class LiveView:
    """Shows how a test goes on; a context manager.

    On a terminal it is one picture that is drawn anew and goes away at the end;
    elsewhere, and on terminals that cannot move their cursor, a line for each second.

    Args:
        plan: what is tested.
        console: where to show it; standard error unless told.
    """

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        self._plan = plan
        self._console = console or Console(stderr=True)
        _prepare(self._console)
        self._moments: deque[Moment] = deque(maxlen=SPARKLINE_S)
        self._warned: set[str] = set()
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # No thread draws: there is nothing new between two updates.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show a second; call it once for each."""
        before = self._moments[-1] if self._moments else Moment(at_s=0.0)
        self._moments.append(progress.moment)
        due = due_in(before, progress.moment)
        if self._live is not None:
            self._live.update(self._picture(progress, due), refresh=True)
            return
        for warning in progress.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self._say(f"warning: {printable(warning)}")
        self._say(", ".join(_words(progress, due)))

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _picture(self, progress: Progress, due: int) -> RenderableType:
        return Group(
            *_banners(progress.warnings),
            _title(self._plan),
            _bar(progress),
            Padding(self._figures(progress, due), (1, 0, 0, 0)),
            Padding(_classes(progress.audiences), (1, 0, 0, 0)),
        )

    def _figures(self, progress: Progress, due: int) -> RenderableType:
        moment = progress.moment
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim")
        rows = {
            "connected": f"{count(moment.connected)} of {count(progress.clients)}",
            "sent": f"{count(moment.sent)}/s",
            "delivered": f"{count(moment.delivered)}/s of {count(due)}/s due",
            "waiting": count(moment.outstanding),
            "latency": _latency(moment),
            "server": _server(moment),
            "generator": _generator(moment),
        }
        sparks: dict[str, Sequence[float]] = {
            "delivered": [each.delivered for each in self._moments],
            "waiting": [each.outstanding for each in self._moments],
            "latency": [each.p99_ms for each in self._moments],
        }
        if self._console.options.ascii_only:
            sparks.clear()
        for label, words in rows.items():
            if words:
                spark = _spark(sparks[label]) if label in sparks else ""
                grid.add_row(Text(label), Text(words), Text(spark, style="cyan"))
        return grid


def print_report(
    report: Report,
    outcomes: Sequence[Outcome] = (),
    console: Console | None = None,
) -> None:
    """Print what a test found: its warnings first, its assertions last.

    Args:
        report: of the test.
        outcomes: of its assertions.
        console: where to; standard output unless told. Where that is no terminal, there
            are no escape codes, and no line is broken.
    """
    console = console or Console()
    _prepare(console)
    verdict = judge(report)
    for banner in _banners(report.warnings):
        _say(console, banner)
    _say(
        console,
        Text.assemble(
            (verdict.state.value.capitalize(), STYLES[verdict.state]),
            f": {name(report)}, {report.plan.scenario}",
        ),
    )
    for sentence in (*verdict.findings, *verdict.costs):
        _say(console, Text(f"  {sentence}"))
    if report.audiences:
        console.print(_classes(report.audiences))
    for outcome in outcomes:
        sign, style = SIGNS[outcome.holds]
        words = "holds" if outcome.holds else "does not hold"
        _say(
            console,
            Text.assemble((f"{sign} {words}", style), f"  {printable(outcome.text)}"),
        )


def due_in(before: Moment, now: Moment) -> int:
    """Return the deliveries that became due between two moments.

    Who leaves takes along what was due to it; hence never less than none.
    """
    return max(now.delivered + now.outstanding - before.outstanding, 0)


def _say(console: Console, text: Text) -> None:
    """Print a line; only a terminal may break it, where words end."""
    console.print(text, soft_wrap=not console.is_terminal, highlight=False)


def _prepare(console: Console) -> None:
    """Have no figure cut, and nothing raised for what the encoding cannot say."""
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    if isinstance(console.file, io.TextIOWrapper):
        console.file.reconfigure(errors="replace")


def _banners(warnings: Iterable[str]) -> Iterator[Text]:
    for warning in warnings:
        yield Text.assemble((" warning ", WARNING), f" {printable(warning)}")


def _title(plan: Plan) -> Text:
    label = f"{printable(plan.label)}, " if plan.label else ""
    where = printable(address(plan.url))
    return Text.assemble(
        ("broker bench", "bold"), f"  {label}{plan.scenario}, {plan.wire}, {where}"
    )


def _bar(progress: Progress) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column()
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    if progress.phase is Phase.CONNECTING:
        done, total = float(progress.moment.connected), float(progress.clients)
    else:
        done, total = progress.elapsed_s, progress.total_s
    bar = ProgressBar(
        total=total or 1, completed=min(done, total), complete_style="cyan"
    )
    grid.add_row(Text(progress.phase.value, style="bold"), bar, Text(_time(progress)))
    return grid


def _time(progress: Progress) -> str:
    elapsed = seconds(round(progress.elapsed_s))
    if progress.phase is Phase.CONNECTING or not progress.total_s:
        return elapsed  # how far it has come is told by the clients
    return f"{elapsed} of {seconds(progress.total_s)}"


def _latency(moment: Moment) -> str:
    if not moment.max_ms:
        return ""
    return f"p50 {ms(moment.p50_ms)}, p99 {ms(moment.p99_ms)}, max {ms(moment.max_ms)}"


def _server(moment: Moment) -> str:
    parts = []
    if moment.server_cpu is not None:
        parts.append(cores(moment.server_cpu))
    if moment.server_rss_bytes is not None:
        parts.append(size(moment.server_rss_bytes))
    return ", ".join(parts)


def _generator(moment: Moment) -> str:
    if not moment.generator_cpu:
        return ""
    late = f", {ms(moment.late_ms)} late" if moment.late_ms else ""
    return f"{cores(moment.generator_cpu)}{late}"


def _words(progress: Progress, due: int) -> Iterator[str]:
    """Yield the parts of the line that stands for a second."""
    moment = progress.moment
    yield (
        f"{progress.phase} {_time(progress)}: "
        f"connected {count(moment.connected)} of {count(progress.clients)}"
    )
    if progress.phase is not Phase.CONNECTING:
        yield f"sent {count(moment.sent)}/s"
        yield f"delivered {count(moment.delivered)}/s of {count(due)}/s due"
        yield f"waiting {count(moment.outstanding)}"
    if latency := _latency(moment):
        yield latency
    if server := _server(moment):
        yield f"server {server}"
    if generator := _generator(moment):
        yield f"generator {generator}"


def _spark(values: Sequence[float]) -> str:
    most = max(values) or 1
    return "".join(SPARKS[round(v / most * (len(SPARKS) - 1))] for v in values)


def _classes(audiences: Sequence[Audience]) -> RenderableType:
    if not audiences:
        return ""
    # While a test runs, nobody has counted yet what was due to each class.
    is_due_known = any(each.expected for each in audiences)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("class")
    due = ("due",) if is_due_known else ()
    for column in ("clients", *due, "came", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in healthy_first(audiences):
        latency = each.latency
        times = (
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.max_ms,
        )
        table.add_row(
            Text(printable(each.name)),
            count(each.clients),
            *([count(each.expected)] if is_due_known else []),
            count(each.delivered),
            *(ms(time) if latency.count else "–" for time in times),
        )
    return table

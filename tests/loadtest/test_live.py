"""The terminal's view of a load test, on a terminal and on a pipe."""

from __future__ import annotations

import io
import re

import msgspec
from rich.console import Console

from adapters.loadtest.asserting import Outcome
from adapters.loadtest.live import LiveView, due_in, print_report
from adapters.loadtest.progress import Phase, Progress
from adapters.loadtest.report import Moment, Report

from . import samples

ESCAPE = "\x1b"


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def terminal() -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=100, height=40, _environ={}
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def some_progress(report: Report, seconds: int = 8) -> list[Progress]:
    """Return the first seconds of a test: warm-up until the third."""
    return [
        samples.progress(
            report,
            Phase.WARM_UP if end <= 3 else Phase.MEASURING,
            report.moments[:end],
        )
        for end in range(1, seconds + 1)
    ]


def test_a_pipe_gets_a_line_each_second_and_each_warning_once() -> None:
    report, console = samples.faulty(), pipe()
    with LiveView(report.plan, console) as view:
        for progress in some_progress(report):
            view.update(progress)
    first, *lines = printed(console).splitlines()
    assert first == f"warning: {report.warnings[0]}"
    assert len(lines) == 8
    assert lines[0].startswith(
        "warm-up 1 s of 3 s: connected 1,001 of 1,001, sent 10/s, delivered 10,000/s of"
    )
    assert lines[-1].startswith("measuring 5 s of 30 s: ")
    for part in ("waiting", "p50", "p99", "max", "server", "MiB", "generator", "late"):
        assert part in lines[-1]
    assert ESCAPE not in printed(console)


def test_while_connecting_there_is_nothing_sent_to_tell() -> None:
    console = pipe()
    report = samples.clean()
    progress = Progress(
        phase=Phase.CONNECTING,
        elapsed_s=1.0,
        total_s=2.0,
        clients=1001,
        moment=Moment(at_s=-4.0, connected=480),
    )
    with LiveView(report.plan, console) as view:
        view.update(progress)
    assert printed(console) == ("connecting 1 s: connected 480 of 1,001\n")


def test_a_terminal_gets_a_picture_that_goes_away() -> None:
    report, console = samples.faulty(), terminal()
    with LiveView(report.plan, console) as view:
        for progress in some_progress(report):
            view.update(progress)
        shown = printed(console)
    for part in ("warning", "measuring", "━", "of 30 s", "waiting", "▂", "healthy"):
        assert part in shown
    assert shown.count("broker bench") == 8
    assert not re.search(r"clients.* due ", shown)  # which is known at the end only
    end = printed(console)[len(shown) :]
    assert "\x1b[?25h" in end  # the cursor is back
    assert "\x1b[2K" in end  # and the picture gone


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    report = samples.clean()
    console = Console(
        file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}, width=300
    )
    with LiveView(report.plan, console) as view:
        for progress in some_progress(report):
            view.update(progress)
    assert len(printed(console).splitlines()) == 8
    assert "\x1b[" not in printed(console)


def test_due_is_what_came_and_what_waits_the_more() -> None:
    before = Moment(at_s=1.0, outstanding=50)
    assert due_in(before, Moment(at_s=2.0, delivered=100, outstanding=70)) == 120
    assert due_in(before, Moment(at_s=2.0, delivered=100, outstanding=20)) == 70
    assert due_in(before, Moment(at_s=2.0, delivered=10, outstanding=0)) == 0


def test_a_report_begins_with_warnings_and_ends_with_assertions() -> None:
    long = "It is all wrong. " * 30
    report = msgspec.structs.replace(samples.faulty(), warnings=(long,))
    console = pipe()
    outcomes = [
        Outcome(True, "p99 < 200 ms: 104 ms"),
        Outcome(False, "untold == 0: 100"),
    ]
    print_report(report, outcomes, console)
    lines = printed(console).splitlines()
    assert lines[0] == f" warning  {report.warnings[0]}"
    assert lines[1] == "Faults found: a loop over a list, fan-out"
    assert "100 lost without a word" in lines[2]
    assert lines[-2:] == [
        "✓ holds  p99 < 200 ms: 104 ms",
        "✗ does not hold  untold == 0: 100",
    ]
    assert ESCAPE not in printed(console)


def test_figures_are_never_cut() -> None:
    report, console = samples.slow(), pipe()
    healthy, slow = report.audiences
    many = msgspec.structs.replace(
        healthy, clients=1_000_000, expected=10**12, delivered=10**12
    )
    report = msgspec.structs.replace(report, audiences=(many, slow))
    print_report(report, console=console)
    assert "1,000,000,000,000  1,000,000,000,000" in printed(console)
    assert "…" not in printed(console)


def test_a_label_cannot_steer_the_terminal() -> None:
    report, console = samples.clean("\x1b]0;owned\x07[red]not markup[/red]"), pipe()
    with LiveView(report.plan, console) as view:
        view.update(some_progress(report)[0])
    print_report(report, console=console)
    assert "[red]not markup[/red]" in printed(console)
    assert ESCAPE not in printed(console)

    console = terminal()
    with LiveView(report.plan, console) as view:
        view.update(some_progress(report)[0])
    assert "[red]not markup[/red]" in printed(console)
    assert "\x1b]" not in printed(console)


def test_an_encoding_without_such_characters_loses_no_report() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        console = Console(file=file)
        print_report(samples.clean(), [Outcome(True, "p99 < 1 s: 25.3 ms")], console)
        file.flush()
        assert b"? holds  p99 < 1 s: 25.3 ms" in raw.getvalue()

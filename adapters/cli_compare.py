"""``broker bench compare``: our server and its peers on the same scenarios."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click
import msgspec
from rich.console import Console
from rich.table import Table as Grid

from adapters.cli_bench_options import Output
from adapters.loadtest.compare import Comparison, Entry, Setup, Trial, compare
from adapters.loadtest.coordinator import run
from adapters.loadtest.page import render
from adapters.loadtest.peers.catalogue import BASELINE, PEERS, Peer
from adapters.loadtest.peers.installing import Home, NotInstallable, install
from adapters.loadtest.peers.serving import share_cores
from adapters.loadtest.peers.tables import tables, write_markdown
from adapters.loadtest.report import Report
from adapters.loadtest.stamp import LEAST_BYTES
from adapters.loadtest.wording import plural

__all__ = ("compare_command",)

NAMES = tuple(peer.name for peer in PEERS)
DEFAULTS = Setup()


OUTPUT = Output(dir_okay=False, writable=True)


@click.command("compare")
@click.option(
    "--peer",
    "names",
    type=click.Choice(NAMES),
    multiple=True,
    help="Only this one; may be repeated. All if it is not given.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=DEFAULTS.rounds,
    show_default=True,
    help="How often each server has its turn.",
)
@click.option(
    "--listeners",
    type=click.IntRange(1, 100_000),
    default=DEFAULTS.listeners,
    show_default=True,
    help="Clients that hear.",
)
@click.option(
    "--size",
    type=click.IntRange(LEAST_BYTES, 1_000_000),
    default=DEFAULTS.size_bytes,
    show_default=True,
    metavar="BYTES",
    help="Of a message.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=DEFAULTS.rate_per_s,
    show_default=True,
    metavar="PER_S",
    help="Messages of the paced run, which every server should hold.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600),
    default=DEFAULTS.paced_s,
    show_default=True,
    help="How long it counts; a try of the search is half of it.",
)
@click.option(
    "--capacity/--no-capacity",
    default=True,
    help="Whether to search for the highest rate; most of the time goes there.",
)
@click.option(
    "--slow/--no-slow",
    default=True,
    help="Whether to have a run with a stalled client, in the first round.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where peers are kept.  [default: asgi-broker/peers in the user's cache]",
)
@click.option("--json", "json_file", type=OUTPUT, help="Write all figures there.")
@click.option(
    "--html", "html_file", type=OUTPUT, help="Write a page with charts there."
)
@click.option(
    "--markdown",
    "markdown_file",
    type=OUTPUT,
    help="Write tables there, between its marks if it has them, and plots beside it.",
)
@click.option(
    "--list", "is_list", is_flag=True, help="Print the names of all, and do nothing."
)
def compare_command(
    *,
    names: Sequence[str],
    rounds: int,
    listeners: int,
    size: int,
    rate: float,
    seconds: float,
    capacity: bool,
    slow: bool,
    cache: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    markdown_file: Path | None,
    is_list: bool,
) -> None:
    """Run our server and its peers on the same scenarios, in turns.

    Peers are fetched from their registries with pip and npm, exact releases, each
    into a folder of its own. One that cannot be fetched is skipped with a line that
    says why. Each server runs on one core, and the load comes from the others.

    \b
    Exit codes: 0 compared; 1 interrupted, or a turn failed; 2 wrong options.
    """
    if is_list:
        for peer in PEERS:
            said = ", ".join((*peer.pip, *peer.npm)) or "comes with the broker"
            click.echo(f"{peer.name:<16} {peer.label}: {said}")
        return
    setup = Setup(
        listeners=listeners,
        size_bytes=size,
        rate_per_s=rate,
        paced_s=seconds,
        try_s=seconds / 2,
        rounds=rounds,
        has_capacity=capacity,
        has_slow=slow,
    )
    # A plain kill must not leave servers behind: they are ended as the stack unwinds.
    signal.signal(signal.SIGTERM, _leave)
    homes, entries = _install(names, cache or _user_cache())
    if not homes:
        raise click.ClickException("none of these servers can run here")
    comparison = _compare(homes, entries, setup)
    _show(comparison)
    if json_file:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(comparison)))
    if html_file and any(trial.paced for trial in comparison.trials):
        html_file.write_text(_page(comparison), encoding="utf-8")
    if markdown_file:
        write_markdown(comparison, markdown_file, _facts(comparison))
    has_failed = any(trial.failed for trial in comparison.trials)
    sys.exit(1 if has_failed or not comparison.is_complete else 0)


def _install(
    names: Sequence[str], cache: Path
) -> tuple[dict[Peer, Home], tuple[Entry, ...]]:
    homes: dict[Peer, Home] = {}
    entries: list[Entry] = []
    for peer in PEERS:
        if names and peer.name not in names:
            continue
        entry = Entry(name=peer.name, label=peer.label)
        try:
            homes[peer] = install(peer, cache, say=_say)
        except NotInstallable as error:
            entry = msgspec.structs.replace(entry, skipped=str(error))
            _say(f"{peer.label} is skipped: {error}")
        else:
            entry = msgspec.structs.replace(entry, versions=homes[peer].versions)
        entries.append(entry)
    return homes, tuple(entries)


def _compare(
    homes: dict[Peer, Home], entries: tuple[Entry, ...], setup: Setup
) -> Comparison:
    on, beside = share_cores()
    started, began = datetime.now(UTC), time.monotonic()
    trials: list[Trial] = []
    is_complete = True
    try:
        for trial in compare(homes, setup, run=run, say=_say):
            trials.append(trial)
            if trial.failed:
                _say(f"{trial.peer} failed: {trial.failed}")
    except KeyboardInterrupt:
        is_complete = False
    return Comparison(
        started=started.isoformat(timespec="seconds"),
        setup=setup,
        entries=entries,
        trials=tuple(trials),
        is_complete=is_complete,
        is_pinned=bool(on) and on != beside,
        seconds=time.monotonic() - began,
    )


def _show(comparison: Comparison) -> None:
    # Not wrapped to the width of a pipe, which is no width at all.
    console = Console(width=None if sys.stdout.isatty() else 220)
    for table in tables(comparison):
        grid = Grid(title=table.title, caption=table.prose, caption_justify="left")
        for number, name in enumerate(table.header):
            grid.add_column(name, justify="right" if number else "left")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)


def _facts(comparison: Comparison) -> list[str]:
    minutes = comparison.seconds / 60
    started = datetime.fromisoformat(comparison.started)
    rounds = plural(comparison.setup.rounds, "round", "rounds")
    facts = [f"{started:%Y-%m-%d %H:%M} UTC, {rounds} in {minutes:.0f} min"]
    report = next((each.paced for each in comparison.trials if each.paced), None)
    if report is not None:
        machine = report.machine
        facts += (
            f"{machine.processor}, {machine.cores} cores, {machine.system}",
            f"Python {machine.python}",
        )
    if comparison.is_pinned:
        facts.append("each server on a core of its own, the generator on the others")
    else:
        facts.append("server and generator share their cores: figures are worth less")
    if not comparison.is_complete:
        facts.append("interrupted: turns so far")
    return facts


def _page(comparison: Comparison) -> str:
    """Return the paced run with the middle p99 of each server, the naive loop first."""
    reports: list[Report] = []
    for entry in comparison.entries:
        paced = [
            trial.paced
            for trial in comparison.trials
            if trial.peer == entry.name and trial.paced
        ]
        paced.sort(key=lambda report: report.audiences[0].latency.p99_ms)
        position = 0 if entry.name == BASELINE else len(reports)
        reports[position:position] = paced[len(paced) // 2 :][:1]
    return render(reports)


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "asgi-broker" / "peers"


def _say(line: str) -> None:
    click.echo(line, err=True)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)

"""``broker bench``: puts load on a WebSocket server, and says what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from adapters.cli_bench_options import Output, in_options, plan_of, plan_options
from adapters.loadtest.plan import Plan

if TYPE_CHECKING:
    from adapters.loadtest.asserting import Assertion
    from adapters.loadtest.report import Report

__all__ = ("bench",)

EXIT_DOES_NOT_HOLD, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130  # the last as shells do
# Commands that have a name: where each is.
NAMED = {
    "compare": ("adapters.cli_compare", "compare_command"),
    "report": ("adapters.cli_report", "report_command"),
}
PACKAGES = ("hdrh", "picows", "rich", "uvloop")  # of the extra
FILE = Output(dir_okay=False, writable=True)


class Refused(click.ClickException):
    """The test cannot be run; one line says why."""

    exit_code = EXIT_REFUSED


class UnnamedContext(click.Context):
    """Of a command that has no name."""

    @property
    def command_path(self) -> str:
        """Return what comes before the options; without two blanks for the name."""
        return " ".join(super().command_path.split())


class Unnamed(click.Command):
    """A command that has no name of its own."""

    context_class = UnnamedContext


class Commands(click.Group):
    """A group whose command may be left out: what is no command's name is the URL's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the command that was left out."""
        if not args or args[0] not in self.list_commands(ctx):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Leave it out again of what is shown."""
        name, command, rest = super().resolve_command(ctx, args)
        return (None if name == "run" else name), command, rest

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return those that have a name."""
        return sorted(NAMED)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; what it needs is imported only now."""
        if cmd_name == "run":
            return run_command
        if cmd_name not in NAMED:
            return None
        _need_packages()
        module, name = NAMED[cmd_name]
        found: click.Command = getattr(import_module(module), name)
        return found


@click.group(cls=Commands, add_help_option=False)
def bench() -> None:
    """Put load on a WebSocket server, and say what came of it."""


@click.command(
    "run",
    cls=Unnamed,
    epilog="See also: broker bench compare, our server and its peers in turns; "
    "broker bench report, what was written with --json, again or side by side.",
)
@click.argument("url")
@plan_options
@click.option(
    "--floor/--no-floor",
    default=True,
    show_default=True,
    help="Measure first, for a second or two, what this machine can send at all.",
)
@click.option(
    "--json",
    "json_file",
    type=Output(dir_okay=False, writable=True, allow_dash=True),
    help="Write all figures there; - for standard output.",
)
@click.option("--html", "html_file", type=FILE, help="Write a page with charts there.")
@click.option(
    "--assert",
    "claims",
    multiple=True,
    metavar="CLAIM",
    help="What must hold: 'p99<50ms', 'loss==0', 'delivered>=99.9%'; may be repeated.",
)
@click.option("--quiet", is_flag=True, help="Show nothing while it runs.")
def run_command(
    *,
    claims: Sequence[str],
    floor: bool,
    json_file: Path | None,
    html_file: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Put load on the WebSocket server at URL, and say what came of it.

    Messages have intended times, and latency is counted from these, however late they
    are sent. Ctrl-C gives the figures so far.

    \b
    Exit codes: 0 measured, and all claims hold; 1 one does not; 2 wrong options, or
    the server cannot be reached; 130 interrupted before anything was measured.
    """
    _need_packages()
    from adapters.loadtest.live import LiveView, print_report

    plan = plan_of(options)
    assertions = [_assertion(claim) for claim in claims]
    view = None if quiet else LiveView(plan)
    with nullcontext() if view is None else view:
        report = _run(plan, None if view is None else view.update, with_floor=floor)
    outcomes = [assertion.check(report) for assertion in assertions]
    is_piped = json_file is not None and str(json_file) == "-"
    if not is_piped:
        print_report(report, outcomes)
    try:
        _write(report, json_file, html_file)
    except OSError as error:
        raise Refused(f"cannot write {error.filename}: {error.strerror}") from error
    if is_piped:
        for outcome in outcomes:
            if not outcome.holds:
                click.echo(f"does not hold: {outcome.text}", err=True)
    if not all(outcome.holds for outcome in outcomes):
        sys.exit(EXIT_DOES_NOT_HOLD)


def _assertion(claim: str) -> Assertion:
    from adapters.loadtest.asserting import parse

    try:
        return parse(claim)
    except ValueError as error:
        raise click.UsageError(f"--assert: {error}") from error


def _run(plan: Plan, on_moment: Any, *, with_floor: bool) -> Report:
    from adapters.loadtest.coordinator import BenchError, run
    from adapters.loadtest.preflight import PreflightError

    try:
        return run(plan, on_moment, with_floor=with_floor)
    except PreflightError as error:
        raise Refused(in_options(str(error))) from error
    except BenchError as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted before anything was measured", err=True)
        sys.exit(EXIT_INTERRUPTED)


def _write(report: Report, json_file: Path | None, html_file: Path | None) -> None:
    if json_file is not None:
        text = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
        if str(json_file) == "-":
            sys.stdout.buffer.write(text)
        else:
            json_file.write_bytes(text)
    if html_file is not None:
        from adapters.loadtest.page import render

        html_file.write_text(render([report]), encoding="utf-8")


def _need_packages() -> None:
    """Say what is missing, if anything is.

    Raises:
        Refused: a package of the extra is not there.
    """
    if any(find_spec(name) is None for name in PACKAGES):
        raise Refused(
            "broker bench needs the load tester's packages: "
            "pip install 'asgi-broker[loadtest]'"
        )

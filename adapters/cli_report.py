"""``broker bench report``: shows what load tests have found, again and side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from adapters.loadtest.live import print_report
from adapters.loadtest.page import render
from adapters.loadtest.report import Report

__all__ = ("report_command",)

EXIT_REFUSED = 2


class Unreadable(click.ClickException):
    """A file is no report; one line says which, and why."""

    exit_code = EXIT_REFUSED


@click.command("report")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a page there; of several reports, one that compares them.",
)
def report_command(*, files: Sequence[Path], html_file: Path | None) -> None:
    """Show reports that were written with --json; ratios are to the first.

    \b
    Exit codes: 0 shown; 2 a file cannot be read, or is no report.
    """
    reports = [_read(file) for file in files]
    if html_file is None:
        for report in reports:
            print_report(report)
        return
    try:
        page = render(reports)
    except ValueError as error:
        raise Unreadable(f"{', '.join(map(str, files))}: {error}") from error
    try:
        html_file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"cannot write {html_file}: {error.strerror}") from error


def _read(file: Path) -> Report:
    """Return a report.

    Raises:
        Unreadable: there is none in the file.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except OSError as error:
        raise Unreadable(f"cannot read {file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{file} is no report of broker bench: {error}") from error

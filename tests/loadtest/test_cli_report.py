"""``broker bench report``: from files of figures to a page."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli_report import report_command

from . import samples


def run(*arguments: object) -> Result:
    return CliRunner().invoke(report_command, [str(each) for each in arguments])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two reports."""
    found = []
    for number, report in enumerate((samples.clean(), samples.faulty())):
        path = tmp_path / f"{number}.json"
        path.write_bytes(msgspec.json.encode(report))
        found.append(path)
    return found


def test_reports_are_printed_one_after_the_other(files: list[Path]) -> None:
    result = run(*files)
    assert result.exit_code == 0
    assert "Clean: broker serve" in result.output
    assert "Faults found: a loop over a list" in result.output
    assert result.output.index("Clean") < result.output.index("Faults found")


def test_several_are_compared_on_a_page(files: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run(*files, "--html", page)
    assert result.exit_code == 0, result.output
    text = page.read_text("utf-8")
    assert "2 load tests" in text
    assert "Ratios are to A: broker serve" in text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "truncated"),
        (b"\xff\xfe", "is no report"),
        (b"[]", "Expected `object`"),
        (b'{"plan": {"url": 1}}', "Expected `str`"),
    ],
)
def test_what_is_no_report_is_one_line(
    content: bytes, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "wrong.json is no report of broker bench" in result.output
    assert why in result.output


def test_a_histogram_that_is_none_and_a_page_that_cannot_be_written(
    files: list[Path], tmp_path: Path
) -> None:
    report = samples.clean()
    (healthy,) = report.audiences
    broken = msgspec.structs.replace(
        healthy, latency=msgspec.structs.replace(healthy.latency, histogram="no")
    )
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(
        msgspec.json.encode(msgspec.structs.replace(report, audiences=(broken,)))
    )
    result = run(wrong, "--html", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "HdrHistogram" in result.output
    assert not (tmp_path / "page.html").exists()

    result = run(files[0], "--html", tmp_path / "none" / "page.html")
    assert result.exit_code == 2
    assert "cannot write" in result.output


def test_a_file_that_is_not_there() -> None:
    assert run("/nowhere/at/all.json").exit_code == 2

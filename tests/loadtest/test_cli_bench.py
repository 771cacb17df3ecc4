"""``broker bench`` as people call it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli_bench import bench
from adapters.cli_bench_options import in_bytes, in_seconds, share
from adapters.loadtest.plan import Scenario, Wire
from adapters.loadtest.report import Report
from tests.loadtest.dishonest import Faults, dishonest

QUICK = (
    *("--wire", "text", "--clients", "3", "--rate", "100", "--no-floor"),
    *("--duration", "300ms", "--warmup", "0", "--settle", "500ms"),
)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(bench, arguments, prog_name="broker bench")


def test_a_test_is_run_shown_and_written(tmp_path: Path) -> None:
    json_file, html_file = tmp_path / "r.json", tmp_path / "r.html"
    files = ("--json", str(json_file), "--html", str(html_file))
    claims = ("--assert", "loss==0", "--assert", "delivered >= 99.9%")
    with dishonest(Wire.TEXT) as url:
        result = call(url, *QUICK, *files, *claims, "--label", "of the test")
    assert result.exit_code == 0, result.output
    report = msgspec.json.decode(json_file.read_bytes(), type=Report)
    assert report.plan.label == "of the test"
    assert report.sent == 30
    assert report.audiences[0].delivered == 60
    assert "of the test" in html_file.read_text()
    assert result.stdout.count("holds") == 2
    assert result.stderr.startswith("connecting 0 s: connected 0 of 3\n")


def test_a_claim_that_does_not_hold_is_exit_code_1() -> None:
    with dishonest(Wire.TEXT, Faults(drop=frozenset({9}))) as url:
        result = call(url, *QUICK, "--assert", "loss==0", "--json", "-", "--quiet")
    assert result.exit_code == 1
    report = msgspec.json.decode(result.stdout_bytes, type=Report)
    assert report.audiences[0].missed_untold == 2
    assert result.stderr.startswith("does not hold: loss")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'URL'"),
        (("ws://127.0.0.1:1", "--quiet"), "client 0 at ws://127.0.0.1:1/: connection"),
        (("http://h",), "it must begin with ws:// or wss://"),
        (("ws://h", "--size", "3x"), "'3x' is not 128, 4KiB or 1MiB"),
        (("ws://h", "--duration", "soon"), "'soon' is not 10s"),
        (("ws://h", "--assert", "p99"), "--assert: 'p99' is no"),
        (("ws://h", "--scenario", "riot"), "'riot' is not one of 'fan-out', 'rooms'"),
        (("ws://h", "--clients", "1"), "somebody has to listen"),
        (("ws://127.0.0.1:1", "--pid", "4194305"), "4194305"),
        (("compare", "--nonsense"), "No such option"),
        (("ws://127.0.0.1:1", "--json", "no/r.json"), "cannot write into 'no'"),
        (("ws://127.0.0.1:1", "--html", "no/r.html"), "cannot write into 'no'"),
        (("ws://h", "--rate", "0"), "Error: --rate must be more than 0"),
        (("ws://h", "--size", "3"), "Error: --size must be "),
        (("ws://h", "--churn", "1"), "fan-out: leave --churn away, or take churn"),
        (("ws://h", "--slow", "1%"), "fan-out: leave --slow away, or take slow"),
        (
            ("ws://h", "--scenario", "storm", "--drop", "5"),
            "back before the end: --duration over 10",
        ),
        (("ws://h", "--rooms", "0"), "Error: --rooms must be 1 or more"),
        (("ws://h", "--scenario", "rooms"), "Error: rooms needs 2 rooms or more"),
        (("ws://h", "--insecure"), "Error: --insecure is about certificates"),
        (("ws://e.org", "--sources", "2"), "is not on it: leave --sources away"),
        (("ws://h", "--pid", "4194305"), "Error: --pid: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], said: str
) -> None:
    usual = QUICK if arguments[:1] != ("compare",) and len(arguments) else ()
    result = call(*arguments[:1], *usual, *arguments[1:])
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert len([line for line in result.stderr.splitlines() if "Error" in line]) == 1


def test_the_command_that_has_no_name_and_those_that_have() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: broker bench [OPTIONS] URL\n")
    for each in (*Scenario, *Wire):
        assert each.value in result.stdout
    for name in ("compare", "report"):
        assert f"broker bench {name}" in " ".join(result.stdout.split())
        assert call(name, "--help").stdout.startswith(f"Usage: broker bench {name} ")


@pytest.mark.parametrize("package", ["hdrh", "picows", "rich", "uvloop"])
def test_a_missing_package_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for arguments in (("ws://h",), ("compare",)):
        result = call(*arguments)
        assert result.exit_code == 2
        assert "pip install 'asgi-broker[loadtest]'" in result.stderr


def test_units() -> None:
    assert [in_seconds(text) for text in ("2", "1.5s", "20ms", "2min", "1h")] == [
        *(2.0, 1.5, 0.02, 120.0, 3600.0)
    ]
    assert [in_bytes(text) for text in ("64", "2KiB", "1MiB")] == [64, 2048, 1048576]
    assert [share(text) for text in ("0.5", "1%")] == [0.5, 0.01]
    for wrong in ("", "-1", "1 parsec", "1%%", "nan"):
        for read in (in_seconds, in_bytes, share):
            with pytest.raises(click.BadParameter):
                read(wrong)

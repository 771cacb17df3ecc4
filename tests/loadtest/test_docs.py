"""What docs/load-testing.md says of options is what the command has."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from adapters.cli_bench import run_command
from adapters.loadtest.asserting import CLASSES, COUNTS, SINGLES, TIMES, parse
from adapters.loadtest.plan import Scenario, Slowness, Wire

PAGE = Path(__file__).parents[2] / "docs" / "load-testing.md"
TEXT = PAGE.read_text("utf-8")
ROW = re.compile(r"\| (`--.*?) \| (.*?) ?\| .*? \|")
# Their defaults depend on the scenario.
DEPEND = {"slow": "`1%` with `slow`", "churn": "`10` with `churn`"}


def test_the_table_of_options_is_complete_and_true() -> None:
    told = dict(ROW.findall(TEXT))
    options = [each for each in run_command.params if isinstance(each, click.Option)]
    expected = {}
    for option in options:
        names = (*option.opts, *option.secondary_opts)
        expected[", ".join(f"`{name}`" for name in names)] = default_of(option)
    assert told == expected


def default_of(option: click.Option) -> str:
    name = str(option.name)
    if name in DEPEND:
        return DEPEND[name]
    if option.secondary_opts:
        return f"`{option.opts[0]}`"
    if option.is_flag or option.multiple or option.default in (None, ""):
        return ""
    default = option.to_info_dict()["default"]
    return f"`{default}`" if isinstance(default, str | int | float) else ""


@pytest.mark.parametrize("word", [*Scenario, *Wire, *Slowness])
def test_every_choice_is_told(word: str) -> None:
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("name", [*COUNTS, *SINGLES])
def test_every_claim_is_told(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_claims_in_examples_are_understood() -> None:
    claims = re.findall(r"--assert '(.*?)'", TEXT)
    claims += [f"{name}<1s" for name in re.findall(r"`([a-z]+\.p99)`", TEXT)]
    assert len(claims) >= 8
    for claim in claims:
        parse(claim)
    assert all(f"`{time}.p99`" in TEXT for time in TIMES)
    assert "slow" in CLASSES


def test_examples_have_options_that_there_are() -> None:
    known = {name for each in run_command.params for name in each.opts}
    known |= {name for each in run_command.params for name in each.secondary_opts}
    ours = re.sub("broker serve .*", "", TEXT)  # which has options of its own
    assert set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", ours)) <= known

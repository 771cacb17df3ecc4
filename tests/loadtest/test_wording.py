"""Figures in words, which must never say more than the figures."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.loadtest import wording
from adapters.loadtest.plan import Plan
from adapters.loadtest.report import Audience, Report

from . import samples


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0 %"),
        (0.00001, "under 0.01 %"),
        (0.0012, "0.12 %"),
        (0.062, "6.2 %"),
        (0.35, "35 %"),
        (0.9949, "99.49 %"),
        (0.99985, "99.98 %"),
        (0.999999, "over 99.99 %"),
        (1, "100 %"),
        (1.5, "150 %"),
    ],
)
def test_percent(share: float, words: str) -> None:
    assert wording.percent(share) == words


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_only_all_is_100_percent_and_only_nothing_0(due: int, came: int) -> None:
    words = wording.percent(min(came, due) / due)
    if 0 < came < due:
        assert words not in ("0 %", "100 %")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (0, "0 ms"),
        (0.033, "33 µs"),
        (0.84, "0.84 ms"),
        (12, "12 ms"),
        (12.345, "12.3 ms"),
        (999.6, "1 s"),
        (1350, "1.35 s"),
        (3_600_000, "3,600 s"),
    ],
)
def test_ms(time: float, words: str) -> None:
    assert wording.ms(time) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (12, "12 s"),
        (-2, "-2 s"),
        (59.96, "60 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (119.8, "2 min"),
        (3600, "60 min"),
    ],
)
def test_seconds(value: float, words: str) -> None:
    assert wording.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (56.3 * 1024, "56.3 KiB"),
        (1000 * 1024, "0.977 MiB"),
        (98 * 1024**2, "98 MiB"),
        (5000 * 1024**2, "4.88 GiB"),
        (-2048, "−2 KiB"),
    ],
)
def test_size(value: float, words: str) -> None:
    assert wording.size(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1 k"),
        (10_000, "10 k"),
        (999_400, "999 k"),
        (999_600, "1 M"),
        (1_500_000, "1.5 M"),
    ],
)
def test_short(value: float, words: str) -> None:
    assert wording.short(value) == words


def test_a_clean_test_is_called_clean() -> None:
    verdict = wording.judge(samples.clean())
    assert verdict.state is wording.State.CLEAN
    assert verdict.findings[0] == (
        "300,000 of 300,000 deliveries came: "
        "none lost, repeated, out of order or meant for others."
    )
    assert "6.2 % of what one core" in verdict.costs[0]
    assert "5.35 times a bare send" in verdict.costs[1]


def test_every_fault_is_named() -> None:
    verdict = wording.judge(samples.faulty())
    assert verdict.state is wording.State.FAULTY
    assert verdict.findings[0] == (
        "299,880 of 300,000 deliveries came: 20 lost, and the server said so, "
        "100 lost without a word, 3 repeated, 7 out of order, none meant for others."
    )
    assert "The server ended 2 of 1,000 healthy connections." in verdict.findings


@pytest.mark.parametrize("fault", ["missed_untold", "repeated", "reordered", "strayed"])
def test_one_fault_of_one_client_is_one_too_many(fault: str) -> None:
    report = with_audience(samples.clean(), **{fault: 1})
    assert wording.judge(report).state is wording.State.FAULTY


def test_what_was_told_is_no_fault() -> None:
    report = with_audience(samples.clean(), missed_told=5, delivered=299_995)
    verdict = wording.judge(report)
    assert verdict.state is wording.State.CLEAN
    assert "5 lost, and the server said so" in verdict.findings[0]


def test_what_slow_clients_miss_is_told_and_not_judged() -> None:
    report = samples.slow()
    verdict = wording.judge(report)
    assert verdict.state is wording.State.CLEAN
    assert (
        "Slow clients got 600 of 3,000 and missed 2,400; the server ended 10 of 10."
        in verdict.findings
    )
    healthy, slow = report.audiences
    twice = msgspec.structs.replace(slow, repeated=1)
    report = msgspec.structs.replace(report, audiences=(healthy, twice))
    assert wording.judge(report).state is wording.State.FAULTY


def test_warnings_and_interruptions_ask_for_care() -> None:
    report = samples.clean()
    for less in (
        msgspec.structs.replace(report, warnings=("something",)),
        msgspec.structs.replace(report, is_complete=False),
    ):
        assert wording.judge(less).state is wording.State.DOUBTFUL


def test_nothing_due_is_not_clean() -> None:
    report = with_audience(samples.clean(), expected=0, delivered=0)
    assert wording.judge(report).state is wording.State.EMPTY


def test_who_came_back_is_counted() -> None:
    findings = wording.judge(samples.storm()).findings
    assert (
        "996 of 1,000 who came back got all that they had missed, "
        "99 % within 890 ms of the drop."
    ) in findings
    anew = msgspec.structs.replace(samples.storm(), resumed=0, not_resumed=0)
    assert (
        "860 came back and began anew, 99 % within 890 ms of the drop."
    ) in wording.judge(anew).findings


def test_a_url_is_named_without_its_secrets() -> None:
    plan = Plan(url="wss://ada:secret@example.org:8000/ws?token=secret")
    report = Report(plan=plan, started="", machine=samples.MACHINE)
    assert wording.name(report) == "wss://example.org:8000/ws?…"


def test_nothing_printable_is_left_out_and_nothing_else_let_in() -> None:
    assert wording.printable("Grüße, 世界\x1b[2J\n") == "Grüße, 世界�[2J�"


def with_audience(report: Report, **changes: int) -> Report:
    """Return a report with another audience."""
    (audience,) = report.audiences
    changed: Audience = msgspec.structs.replace(audience, **changes)
    return msgspec.structs.replace(report, audiences=(changed,))

"""Servers side by side: the search, the figures, what is fetched, and what is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import click.testing
import msgspec
import pytest

from adapters.cli_compare import compare_command
from adapters.loadtest.compare import Comparison, Entry, Setup, Trial, compare
from adapters.loadtest.coordinator import BenchError
from adapters.loadtest.peers.capacity import Capacity, Outcome, judge, search
from adapters.loadtest.peers.catalogue import BASELINE, OURS, PEERS, SERVERS, Peer
from adapters.loadtest.peers.findings import Spread, find
from adapters.loadtest.peers.installing import Home, NotInstallable, install
from adapters.loadtest.peers.serving import NotServing, confined, serve, share_cores
from adapters.loadtest.peers.tables import BEGIN, END, plots, tables, write_markdown
from adapters.loadtest.plan import Plan
from adapters.loadtest.report import (
    Audience,
    Generators,
    Machine,
    Report,
    ServerUse,
)
from tests.loadtest.samples import latency

MIB = 1_048_576


def report(
    *,
    p99_ms: float = 10.0,
    lost: int = 0,
    ended: int = 0,
    cost_us: float = 50.0,
    server: float = 0.5,
    generator: float = 0.2,
    sent: int = 100,
    slow: Audience | None = None,
) -> Report:
    healthy = Audience(
        name="healthy",
        clients=100,
        expected=1_000,
        delivered=1_000 - lost,
        missed_untold=lost,
        ended=ended,
        latency=latency([p99_ms] * (1_000 - lost)),
    )
    return Report(
        plan=Plan(url="ws://127.0.0.1:1/ws"),
        started="2026-11-23T12:00:00+00:00",
        machine=Machine(cores=2, processor="one", system="a system", python="3.11"),
        sent=sent,
        audiences=(healthy, slow) if slow else (healthy,),
        generators=Generators(cpu=(generator,)),
        server=ServerUse(
            cpu=server,
            cpu_us_per_delivery=cost_us,
            idle_rss_bytes=30 * MIB,
            connected_rss_bytes=40 * MIB,
            peak_rss_bytes=50 * MIB,
        ),
    )


def comparison() -> Comparison:
    """Two rounds of two; the second is a better time for both."""

    def trial(peer: str, number: int, cost_us: float, rate: float) -> Trial:
        return Trial(
            peer=peer,
            number=number,
            paced=report(cost_us=cost_us),
            full=report(cost_us=cost_us / 2),
            capacity=Capacity(
                rate_per_s=rate, is_least=peer == "serve" and number == 1, tries=()
            ),
        )

    return Comparison(
        started="2026-11-23T12:00:00+00:00",
        setup=Setup(listeners=100, rounds=2),
        entries=(
            Entry(name="serve", label="ours <b>"),
            Entry(name=BASELINE, label="naive loop"),
            Entry(name="bun", label="Bun", skipped="needs Node.js with npm"),
        ),
        trials=(
            trial("serve", 0, cost_us=80, rate=200),
            trial(BASELINE, 0, cost_us=40, rate=100),
            trial(BASELINE, 1, cost_us=20, rate=200),
            trial("serve", 1, cost_us=60, rate=600),
        ),
    )


@pytest.mark.parametrize("guess", [1.0, 70.0, 99.0, 101.0, 4_000.0])
def test_the_highest_rate_is_found_from_any_guess(guess: float) -> None:
    found = search(lambda rate: Outcome.HELD if rate <= 100 else Outcome.BEHIND, guess)
    assert 100 / 1.19 <= found.rate_per_s <= 100
    assert not found.is_least
    assert len({rate for rate, _ in found.tries}) == len(found.tries)


def test_a_generator_that_gives_up_first_makes_it_a_least() -> None:
    found = search(lambda rate: Outcome.HELD if rate <= 100 else Outcome.UNKNOWN, 60)
    assert found.is_least
    assert 100 / 1.19 <= found.rate_per_s <= 100


def test_a_server_that_holds_nothing_has_no_rate() -> None:
    found = search(lambda rate: Outcome.BEHIND, 5)
    assert (found.rate_per_s, found.is_least) == (0, False)
    assert found.tries[-1] == (1, Outcome.BEHIND)


def test_a_server_that_holds_anything_ends_the_search() -> None:
    found = search(lambda rate: Outcome.HELD, 1)
    assert found.is_least
    assert found.rate_per_s == found.tries[-1][0]


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (report(), Outcome.HELD),
        (report(generator=0.99), Outcome.HELD),
        (report(p99_ms=251, server=0.7), Outcome.BEHIND),
        (report(p99_ms=251), Outcome.DISTURBED),
        (report(lost=1, server=0.95), Outcome.BEHIND),
        (report(ended=1, server=0.95), Outcome.BEHIND),
        (report(sent=90, server=0.95), Outcome.BEHIND),
        (report(p99_ms=251, generator=0.95), Outcome.UNKNOWN),
        (report(p99_ms=251, generator=0.95, server=0.97), Outcome.BEHIND),
    ],
)
def test_what_held_means(found: Report, outcome: Outcome) -> None:
    assert judge(found) is outcome


def test_nothing_heard_is_not_held() -> None:
    silent = Audience(name="healthy", clients=10)
    found = msgspec.structs.replace(report(), audiences=(silent,))
    assert judge(found) is not Outcome.HELD


def test_a_try_that_was_disturbed_is_made_once_more() -> None:
    tried: list[float] = []

    def attempt(rate: float) -> Outcome:
        tried.append(rate)
        if rate > 100:
            return Outcome.BEHIND
        return Outcome.HELD if tried.count(rate) == 2 else Outcome.DISTURBED

    assert 100 / 1.19 <= search(attempt, 50).rate_per_s <= 100
    never = search(lambda rate: Outcome.DISTURBED, 1.5)
    assert (never.rate_per_s, len(never.tries)) == (0, 3)


def test_ratios_are_of_the_same_round() -> None:
    ours, naive = find(comparison())
    assert ours.cost_ratio == Spread(2.5, 2.0, 3.0, 2)  # 80 / 40 and 60 / 20
    assert ours.capacity_ratio == Spread(2.5, 2.0, 3.0, 2)
    assert ours.capacity_per_s == Spread(40_000, 20_000, 60_000, 2)
    assert ours.is_least
    assert naive.cost_ratio == Spread(1, 1, 1, 2)
    assert not naive.is_least


def test_a_round_that_was_disturbed_does_not_move_the_middle() -> None:
    before = comparison()
    trials = [
        msgspec.structs.replace(before.trials[0], paced=report(p99_ms=p99_ms))
        for p99_ms in (12, 900, 10)
    ]
    found = find(msgspec.structs.replace(before, trials=tuple(trials)))[0].p99_ms
    assert (found.median, found.lowest, found.highest) == pytest.approx(
        (12, 10, 900), rel=0.01
    )


def test_stalled_clients_have_a_table_of_their_own() -> None:
    slow = report(p99_ms=900, lost=250, slow=Audience(name="slow", ended=1))
    before = comparison()
    trials = [msgspec.structs.replace(each, slow=slow) for each in before.trials]
    after = msgspec.structs.replace(before, trials=tuple(trials))
    assert len(list(tables(before))) == 1
    _, stalled = tables(after)
    assert stalled.rows[0][1:] == ("900 ms", "900 ms", "25 %", "ended", "10.0")


def test_tables_are_replaced_between_their_marks(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"# Before\n\n{BEGIN}\noutdated\n{END}\n\nAfter.\n")
    write_markdown(comparison(), file, ["a machine"])
    text = file.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n\n* a machine\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "outdated" not in text
    assert "≥ 40 k (20 k to 60 k) | 2.50 (2.00 to 3.00)" in text
    assert "Bun (needs Node.js with npm)" in text
    images = sorted(each.name for each in tmp_path.glob("*.svg"))
    assert images == [
        f"page-{each}.svg" for each in ("capacity", "cost", "full-cost", "latency")
    ]
    assert all(f"({name})" in text for name in images)


def test_plots_are_documents_with_a_bar_for_each_server() -> None:
    for _, document in plots(comparison()):
        tree = ElementTree.fromstring(document)
        bars = tree.findall(".//{*}rect")
        assert sorted(bar.attrib["class"] for bar in bars) == ["other", "ours"]
        titles = [each.text or "" for each in tree.findall(".//{*}title")]
        assert any(title.startswith("ours <b>: ") for title in titles)


def test_all_peers_are_there_and_pinned() -> None:
    names = {peer.name for peer in PEERS}
    assert len(names) == len(PEERS)
    assert OURS | {BASELINE} <= names
    for peer in PEERS:
        assert all("==" in each for each in peer.pip)
        assert all("@" in each[1:] for each in peer.npm)
        assert (peer.name in OURS | {BASELINE}) == (not peer.pip and not peer.npm)
        for word in peer.command:
            if word.startswith("{servers}"):
                assert Path(word.format(servers=SERVERS)).exists()
            if word.endswith((":app", ":application")):
                assert (SERVERS / f"{word.split(':')[0]}.py").exists()


def test_a_peer_without_its_program_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = click.testing.CliRunner().invoke(
        compare_command, ["--peer", "ws", "--cache", str(tmp_path / "cache")]
    )
    assert "ws, Node.js is skipped: needs Node.js with npm" in run.output
    assert "none of these servers can run here" in run.output
    assert run.exit_code == 1


def test_where_nothing_can_be_written_is_seen_at_the_start(tmp_path: Path) -> None:
    run = click.testing.CliRunner().invoke(
        compare_command, ["--json", str(tmp_path / "no" / "such.json")]
    )
    assert run.exit_code == 2
    assert "cannot write into" in run.output


def test_a_peer_that_cannot_be_fetched_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_offline", "true")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    peer = next(each for each in PEERS if each.name == "ws")
    cache = tmp_path / "cache"
    said: list[str] = []
    with pytest.raises(NotInstallable) as caught:
        install(peer, cache, say=said.append)
    if "needs Node.js" in str(caught.value):
        pytest.skip("node and npm are not installed")
    assert said == [f"fetching {', '.join((*peer.pip, *peer.npm))}"]
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_server_that_does_not_start_is_reported_with_its_last_words() -> None:
    program = "import sys; print('first', flush=True); sys.exit('no such thing')"
    peer = Peer(name="no", label="no", command=("{python}", "-c", program))
    with pytest.raises(NotServing, match=r"^no such thing$"), serve(peer, Home()):
        pass
    other = msgspec.structs.replace(peer, name="other")
    turns = compare({peer: Home(), other: Home()}, Setup(), run=failing, say=print)
    found = [(each.number, each.peer, each.failed) for each in turns]
    # The last of one round is the first of the next.
    order = [(0, "no"), (0, "other"), (1, "other"), (1, "no"), (2, "no"), (2, "other")]
    assert found == [(*each, "no such thing") for each in order]


def failing(plan: Plan) -> Report:
    raise AssertionError("nothing is to be loaded")


def test_a_turn_keeps_what_came_before_it_failed() -> None:
    naive = next(each for each in PEERS if each.name == BASELINE)
    plans: list[Plan] = []

    def run(plan: Plan) -> Report:
        plans.append(plan)
        if len(plans) == 2:
            raise BenchError("the server has gone")
        return report()

    trials = list(compare({naive: Home()}, Setup(rounds=1), run=run, say=print))
    assert [(each.paced, each.failed) for each in trials] == [
        (report(), "the server has gone")
    ]
    assert [plan.clients for plan in plans] == [101, 101]
    assert [plan.slow_share for plan in plans] == [0, 0.01]


def test_who_is_confined_is_let_out_again() -> None:
    on, beside = share_cores()
    before = os.sched_getaffinity(0)
    assert on | beside == before
    with confined(on):
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"],
            capture_output=True,
            check=True,
            text=True,
        )
    assert child.stdout == "1\n"
    assert os.sched_getaffinity(0) == before

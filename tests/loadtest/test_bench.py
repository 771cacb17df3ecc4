"""A load tester is believed because it has caught each of these."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from adapters.loadtest.coordinator import BenchError, run
from adapters.loadtest.latencies import Latencies
from adapters.loadtest.plan import Scenario, Wire
from adapters.loadtest.process import CannotMeasure, ProcessUse
from adapters.loadtest.progress import Phase, Progress
from adapters.loadtest.report import Report
from adapters.loadtest.wording import State, judge
from tests.loadtest.dishonest import Faults, dishonest
from tests.loadtest.runs import LISTENERS, MESSAGES, losses, of, quick
from tests.serving import wait_until

ROOT = Path(__file__).parents[2]
# Of warm-up: then the first second, which is cut short, is told at once.
SOON_S = 0.05
PROGRAM = """
import sys, msgspec
from adapters.loadtest.coordinator import run
from adapters.loadtest.plan import Plan
plan = msgspec.json.decode(sys.argv[1], type=Plan)
report = run(plan, lambda progress: print(progress.phase, flush=True))
print(msgspec.json.encode(report).decode())
"""


@pytest.mark.parametrize("wire", Wire)
def test_what_is_dropped_repeated_and_reordered_is_counted(wire: Wire) -> None:
    """Of the 20 messages of the warm-up only order and repeats are looked at."""
    faults = Faults(
        drop=frozenset({5, 30, 50}),
        repeat=frozenset({7}),
        reorder=frozenset({10, 40, 60}),
        split=frozenset({33}),
    )
    with dishonest(wire, faults) as url:
        report = run(quick(url, wire, warmup_s=0.2))
    audience = of(report)
    assert report.is_complete
    assert report.sent == MESSAGES
    assert audience.clients == LISTENERS
    assert audience.expected == MESSAGES * LISTENERS
    assert audience.delivered == (MESSAGES - 2) * LISTENERS == audience.latency.count
    assert losses(audience) == {
        "missed_untold": 2 * LISTENERS,
        "repeated": LISTENERS,
        "reordered": 3 * LISTENERS,
    }


def test_a_pause_is_in_the_latency_of_all_that_was_due_meanwhile() -> None:
    """And not of the one message alone that was held up: no coordinated omission."""
    pause_s = 0.3
    with dishonest(Wire.TEXT, Faults(pause_s={MESSAGES - 10: pause_s})) as url:
        report = run(quick(url, settle_s=10.0))
    latency = of(report).latency
    assert losses(of(report)) == {}
    assert latency.max_ms >= pause_s * 1000
    # Sent every 10 ms, the first waited 300 ms, the next 290, …
    assert late(report, over_ms=200.0) >= 10 * LISTENERS


def late(report: Report, *, over_ms: float) -> int:
    """Return how many deliveries took longer."""
    latencies = Latencies()
    latencies.add(of(report).latency.histogram)
    counts = latencies.take()
    return sum(times for us, times in counts.items() if us >= over_ms * 1000)


def test_what_is_refused_is_said_and_what_is_ended_is_missed() -> None:
    """To call it lost without a word, of what the server spoke about, was wrong."""
    faults = Faults(refuse=frozenset({4, 5}), close={20: True, 30: False})
    with dishonest(Wire.CENTRIFUGE, faults) as url:
        report = run(quick(url, Wire.CENTRIFUGE))
    assert losses(of(report)) == {
        "ended": 2,
        "missed_told": MESSAGES - 21,  # one came with the word that it is over
        "missed_untold": MESSAGES - 30,
    }
    assert of(report).expected == (MESSAGES - 2) * LISTENERS
    assert set(report.warnings) >= {
        "The server refused 2 messages (error 111 too many requests); "
        "they were due to nobody.",
        "The server ended 1 connection: 3008 slow.",
        "The server ended 1 connection: closed without a close frame.",
    }


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_refused_waits_nowhere(processes: int) -> None:
    """Refused to the end, to listeners of another process too."""
    faults = Faults(refuse=frozenset(range(10, MESSAGES)))
    with dishonest(Wire.CENTRIFUGE, faults) as url:
        report = run(quick(url, Wire.CENTRIFUGE, processes=processes))
    assert losses(of(report)) == {}
    assert (of(report).expected, of(report).delivered) == (50, 50)
    assert report.sent == MESSAGES
    assert report.moments[-1].outstanding == 0
    assert judge(report).state is State.DOUBTFUL
    assert f"The server refused {MESSAGES - 10} messages" in report.warnings[0]


@pytest.mark.parametrize(
    ("faults", "wrong"),
    [
        (Faults(forget=1), {"missed_untold": LISTENERS}),
        (Faults(replay=2), {"repeated": 2 * LISTENERS}),
    ],
    ids=["forgets", "repeats"],
)
def test_a_resumption_is_checked(faults: Faults, wrong: dict[str, int]) -> None:
    with dishonest(Wire.CENTRIFUGE, faults) as url:
        plan = quick(url, Wire.CENTRIFUGE, scenario=Scenario.RESUME, drop_s=0.1)
        report = run(plan)
    audience = of(report, "resuming")
    assert audience.expected == MESSAGES * LISTENERS
    assert losses(audience) == wrong
    assert (report.resumed, report.not_resumed) == (LISTENERS, 0)
    assert report.returning.count == LISTENERS


def test_what_a_resumption_admits_to_have_lost_is_told() -> None:
    """The last of two is back long before the last message: it shows where it ends."""
    with dishonest(Wire.CENTRIFUGE, Faults(admit=True)) as url:
        plan = quick(
            *(url, Wire.CENTRIFUGE),
            scenario=Scenario.RESUME,
            drop_s=0.1,
            clients=3,
            duration_s=2.0,
        )
        report = run(plan)
    found = losses(of(report, "resuming"))
    assert found.keys() == {"missed_told"}
    assert 2 <= found["missed_told"] < 2 * 200
    assert (report.resumed, report.not_resumed) == (0, 2)


def test_a_storm_needs_no_server_that_can_resume() -> None:
    """What is published while they are away is due to nobody."""
    with dishonest(Wire.TEXT) as url:
        report = run(quick(url, scenario=Scenario.STORM, drop_s=0.1))
    audience = of(report, "resuming")
    assert losses(audience) == {}
    assert 0 < audience.delivered == audience.expected < MESSAGES * LISTENERS
    assert audience.clients == report.returning.count == LISTENERS
    assert report.connecting.count == 2 * LISTENERS + 1
    assert (report.resumed, report.not_resumed) == (0, 0)


def test_who_is_not_let_in_again_has_missed_nothing_and_is_missed() -> None:
    faults = Faults(doors=1 + LISTENERS + 3)
    with dishonest(Wire.CENTRIFUGE, faults) as url:
        plan = quick(url, Wire.CENTRIFUGE, scenario=Scenario.STORM, drop_s=0.1)
        report = run(plan)
    audience = of(report, "resuming")
    assert losses(audience) == {}
    half = MESSAGES // 2  # what the two have heard before they dropped, give or take
    assert 3 * MESSAGES < audience.delivered < 3 * MESSAGES + 2 * (MESSAGES - half // 2)
    assert (report.resumed, report.returning.count) == (3, 3)
    assert any("2 clients did not come back" in said for said in report.warnings)


def test_everybody_in_a_chat_hears_the_others_of_the_room() -> None:
    """Here the server has no rooms: what is meant for one goes astray in the other."""
    with dishonest(Wire.SOCKETIO) as url:
        plan = quick(
            *(url, Wire.SOCKETIO),
            scenario=Scenario.CHAT,
            clients=8,
            rooms=2,
            processes=2,
            settle_s=2.0,
        )
        report = run(plan)
    assert losses(of(report)) == {"strayed": MESSAGES * 4}
    assert of(report).clients == 8
    assert of(report).delivered == of(report).expected == MESSAGES * 3
    assert report.connecting.count == 8
    assert len(report.generators.cpu) == 2
    moments = report.moments
    assert sum(moment.sent for moment in moments) == report.sent == MESSAGES
    assert sum(moment.delivered for moment in moments) == MESSAGES * 3
    assert moments[-1].outstanding == 0


def test_those_who_come_and_go_are_counted_apart() -> None:
    with dishonest(Wire.TEXT) as url:
        url = url.replace("127.0.0.1", "localhost")  # which is often ::1 first
        plan = quick(url, scenario=Scenario.CHURN, churn_per_s=20.0, clients=9)
        report = run(plan)
    assert losses(of(report)) == losses(of(report, "churning")) == {}
    assert of(report).delivered == MESSAGES * 4
    assert of(report, "churning").clients == 4 + 10
    assert report.connecting.count == 9 + 10


@pytest.mark.parametrize(
    ("spoken", "wire", "said"),
    [
        (Wire.SOCKETIO, Wire.CENTRIFUGE, "not the Centrifuge protocol in JSON: '0{"),
        (Wire.TEXT, Wire.TEXT, "the server answered with HTTP 404"),
    ],
)
def test_a_server_that_speaks_otherwise_is_named_in_one_line(
    spoken: Wire, wire: Wire, said: str
) -> None:
    with dishonest(spoken) as url:
        path = url.replace("/x", "/404") if spoken is wire else url
        with pytest.raises(BenchError, match=re.escape(said)) as caught:
            run(quick(path, wire))
    assert len(str(caught.value).splitlines()) == 1
    assert not children()


def test_certificates_are_looked_at_unless_told_otherwise(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 2"
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with dishonest(Wire.TEXT, context=context) as url:
        with pytest.raises(BenchError, match="its certificate: self-signed"):
            run(quick(url))
        report = run(quick(url, insecure=True))
    assert losses(of(report)) == {}
    assert of(report).delivered == MESSAGES * LISTENERS


def test_a_stalled_generator_is_reported_as_such() -> None:
    stopped: list[int] = []
    stopped_s = 0.8

    def stall(progress: Progress) -> None:
        if progress.phase is Phase.WARM_UP and not stopped:
            stopped.extend(children())
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
                threading.Timer(stopped_s, os.kill, (pid, signal.SIGCONT)).start()

    with dishonest(Wire.TEXT) as url:
        report = run(quick(url, duration_s=1.0, warmup_s=SOON_S), stall)
    assert len(stopped) == 1
    assert losses(of(report)) == {}
    assert of(report).delivered == 100 * LISTENERS
    # What was sent late counts from when it should have been sent.
    assert late(report, over_ms=400.0) >= 30 * LISTENERS
    assert report.generators.lateness.max_ms >= 700
    assert report.generators.waking.max_ms >= 700
    assert max(moment.late_ms for moment in report.moments) >= 700
    assert any(
        said.startswith("The load generator was late") for said in report.warnings
    )


def test_what_a_full_socket_does_not_take_waits_nowhere() -> None:
    """The server reads nothing for a second: megabytes do, and 50 are published."""
    with dishonest(Wire.TEXT, Faults(pause_s={1: 1.0})) as url:
        report = run(quick(url, clients=2, size_bytes=1_000_000, settle_s=10.0))
    assert 2 <= report.sent < MESSAGES
    assert losses(of(report)) == {}
    assert of(report).delivered == report.sent
    unsent = MESSAGES - report.sent
    assert any(
        f"{unsent} messages of 50 could not be" in said for said in report.warnings
    )


def test_of_what_could_not_be_sent_the_warm_up_is_not_counted() -> None:
    """It said: 19 messages of 10."""
    with dishonest(Wire.TEXT, Faults(close={2: True})) as url:
        report = run(quick(url, clients=2, scenario=Scenario.CHAT, warmup_s=1.0))
    said = [each for each in report.warnings if "could not be sent" in each]
    (found,) = [re.match(r"(\d+) messages of (\d+) ", each) for each in said]
    assert found is not None
    assert 0 < int(found[1]) <= int(found[2]) == MESSAGES


def test_ctrl_c_gives_the_figures_so_far() -> None:
    """A terminal sends it to the generators as well, were they in its group."""
    with dishonest(Wire.TEXT) as url:
        with started(url) as process:
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout is not None
            last = process.stdout.read().splitlines()[-1]
    assert process.returncode == 0
    report = msgspec.json.decode(last, type=Report)
    assert not report.is_complete
    assert 0 < report.measured_s < 60
    assert 0 < report.sent < 6000
    assert of(report).delivered == report.sent * LISTENERS
    assert losses(of(report)) == {}


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    def press_twice(progress: Progress) -> None:
        if progress.phase is not Phase.CONNECTING:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    # The message that is lost would be waited for.
    faults = Faults(drop=frozenset({1}))
    with dishonest(Wire.TEXT, faults) as url:
        plan = quick(url, warmup_s=SOON_S, duration_s=60.0, settle_s=60.0)
        with pytest.raises(KeyboardInterrupt):
            run(plan, press_twice)
    assert not children()


def test_a_generator_that_dies_ends_the_test() -> None:
    def kill(progress: Progress) -> None:
        if progress.phase is not Phase.CONNECTING:
            os.kill(min(children()), signal.SIGKILL)

    with dishonest(Wire.TEXT) as url:
        plan = quick(url, warmup_s=SOON_S, duration_s=60.0, processes=2)
        with pytest.raises(BenchError, match="generator process 0 has died"):
            run(plan, kill)
    assert not children()


def test_generators_end_with_their_coordinator() -> None:
    with dishonest(Wire.TEXT) as url:
        with started(url) as process:
            generators = children(process.pid)
            process.kill()
    assert len(generators) == 1
    wait_until(lambda: not any(map(runs, generators)))


@contextmanager
def started(url: str) -> Generator[subprocess.Popen[str], None, None]:
    """Run a test of a minute in a group of its own, and wait until it has begun.

    It prints its phases, and at the end the report.
    """
    plan = quick(url, warmup_s=SOON_S, duration_s=60.0)
    command = [sys.executable, "-c", PROGRAM, msgspec.json.encode(plan).decode()]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in ("measuring\n", ""):
            pass
        yield process


def children(parent: int = 0) -> set[int]:
    """Return the processes that a process, or this one, has started and not reaped."""
    tasks = Path(f"/proc/{parent or os.getpid()}/task")
    texts = [each.read_text() for each in tasks.glob("*/children")]
    return {int(pid) for text in texts for pid in text.split()}


def runs(pid: int) -> bool:
    """Return whether a process runs; one that nobody has reaped does not."""
    try:
        ProcessUse(pid)
    except CannotMeasure:
        return False
    return True

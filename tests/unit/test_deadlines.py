"""When a session has waited long enough, and what starts the wait afresh."""

from __future__ import annotations

from broker.config import Limits
from broker.ending import EndKind
from broker.state.deadlines import Deadlines

START = 1000.0


class Watch:
    """A session's counters, and the watchdog that looks at them."""

    def __init__(
        self,
        *,
        hello_s: float | None = None,
        idle_s: float | None = None,
        silence_s: float | None = None,
        stall_s: float = 1e9,
    ) -> None:
        limits = Limits(
            hello_s=hello_s, idle_s=idle_s, silence_s=silence_s, stall_s=stall_s
        )
        self.deadlines = Deadlines(limits, START)
        self.received = 0
        self.sent = 0
        self.is_sending = False
        self.is_inbox_full = False

    def at(self, time_s: float) -> EndKind | None:
        return self.deadlines.check(
            START + time_s,
            received=self.received,
            sent=self.sent,
            is_sending=self.is_sending,
            is_inbox_full=self.is_inbox_full,
        )


def test_without_limits_nothing_ends() -> None:
    watch = Watch()
    assert watch.at(0) is None
    assert watch.at(1e8) is None


def test_hello() -> None:
    watch = Watch(hello_s=10)
    watch.sent = 3  # what we send is no hello
    assert watch.at(9.9) is None
    assert watch.at(10) is EndKind.HELLO_TIMEOUT


def test_one_message_is_hello_enough() -> None:
    watch = Watch(hello_s=10)
    watch.received = 1
    assert watch.at(9) is None
    assert watch.at(100) is None


def test_a_hello_between_two_looks_is_not_late() -> None:
    watch = Watch(hello_s=10)
    assert watch.at(9) is None
    watch.received = 1
    assert watch.at(11) is None


def test_idle() -> None:
    watch = Watch(idle_s=10)
    assert watch.at(9.9) is None
    assert watch.at(10) is EndKind.IDLE


def test_either_direction_ends_idleness() -> None:
    watch = Watch(idle_s=10)
    watch.received += 1
    assert watch.at(8) is None
    watch.sent += 1
    assert watch.at(16) is None
    assert watch.at(25.9) is None
    assert watch.at(26) is EndKind.IDLE


def test_silence() -> None:
    """What we send does not count."""
    watch = Watch(silence_s=10)
    watch.sent += 1
    assert watch.at(9.9) is None
    watch.sent += 1
    assert watch.at(10) is EndKind.SILENT


def test_a_message_resets_silence() -> None:
    watch = Watch(silence_s=10)
    watch.received += 1
    assert watch.at(9) is None
    assert watch.at(18.9) is None
    assert watch.at(19) is EndKind.SILENT


def test_stall() -> None:
    watch = Watch(stall_s=10)
    watch.is_sending = True
    assert watch.at(5) is None  # the stall is first seen here
    assert watch.at(14.9) is None
    assert watch.at(15) is EndKind.STALLED


def test_one_frame_sent_resets_a_stall() -> None:
    watch = Watch(stall_s=10)
    watch.is_sending = True
    assert watch.at(0) is None
    watch.sent += 1
    assert watch.at(9) is None  # another one is being sent
    assert watch.at(10) is None
    assert watch.at(19.9) is None
    assert watch.at(20) is EndKind.STALLED


def test_a_finished_send_is_no_stall() -> None:
    watch = Watch(stall_s=10)
    watch.is_sending = True
    assert watch.at(0) is None
    watch.is_sending = False
    assert watch.at(9) is None
    watch.is_sending = True
    assert watch.at(11) is None
    assert watch.at(21) is EndKind.STALLED


def test_hearing_from_the_client_does_not_end_a_stall() -> None:
    watch = Watch(stall_s=10)
    watch.is_sending = True
    assert watch.at(0) is None
    watch.received += 1
    assert watch.at(10) is EndKind.STALLED


def test_full_inbox() -> None:
    watch = Watch(stall_s=10)
    watch.is_inbox_full = True
    assert watch.at(5) is None
    watch.sent += 1
    assert watch.at(14.9) is None
    assert watch.at(15) is EndKind.INBOX_FULL


def test_a_frame_taken_in_resets_a_full_inbox() -> None:
    """Slow is allowed; stuck is not."""
    watch = Watch(stall_s=10)
    watch.is_inbox_full = True
    assert watch.at(0) is None
    watch.received += 1
    assert watch.at(9) is None
    assert watch.at(10) is None
    assert watch.at(20) is EndKind.INBOX_FULL


def test_room_in_the_inbox_ends_the_wait() -> None:
    watch = Watch(stall_s=10)
    watch.is_inbox_full = True
    assert watch.at(0) is None
    watch.is_inbox_full = False
    assert watch.at(9) is None
    watch.is_inbox_full = True
    assert watch.at(11) is None
    assert watch.at(21) is EndKind.INBOX_FULL


def test_each_has_its_own_limit() -> None:
    watch = Watch(hello_s=40, idle_s=30, silence_s=20, stall_s=10)
    watch.is_sending = True
    assert watch.at(0) is None
    assert watch.at(10) is EndKind.STALLED
    watch.is_sending = False
    assert watch.at(19) is None
    assert watch.at(20) is EndKind.SILENT

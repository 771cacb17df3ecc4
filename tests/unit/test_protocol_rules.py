"""When a client's commands may come, and when its connection is over."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from broker import UsageError
from broker.protocol.codes import Disconnects
from broker.protocol.frames import Command, Connect, Pong, Send, Subscribe
from broker.protocol.rules import ProtocolTimes, Rules

CONNECT, OTHER, PONG = (
    Command(1, Connect()),
    Command(2, Subscribe()),
    Command(0, Pong()),
)
TIMES = ProtocolTimes(ping_s=20, pong_s=5, stale_s=10)


def fresh(now: float = 0.0) -> Rules:
    return Rules(TIMES, now, Random(1))


def connected(now: float = 0.0) -> Rules:
    rules = fresh(now)
    assert rules.check(CONNECT) is None
    rules.connected(now)
    return rules


def test_connect_comes_first_and_once() -> None:
    for first in (OTHER, Command(0, Send()), PONG):
        assert fresh().check(first) is Disconnects.BAD_REQUEST
    rules = fresh()
    assert rules.check(CONNECT) is None
    assert rules.check(OTHER) is None  # in the same frame, before the reply
    assert rules.check(CONNECT) is Disconnects.BAD_REQUEST


def test_who_does_not_connect_goes_stale() -> None:
    for rules in (fresh(100), fresh(100)):
        rules.check(CONNECT)  # sent, but not answered yet
        assert rules.tick(109.9) is False
        assert rules.tick(110) is Disconnects.STALE
    assert connected(100).tick(110) in (True, False)


def test_a_refused_client_is_not_listened_to() -> None:
    rules = fresh()
    assert not rules.is_deaf
    rules.check(CONNECT)
    rules.refused()
    assert rules.is_deaf
    assert rules.tick(10) is Disconnects.STALE


@pytest.mark.parametrize("seed", range(20))
def test_the_first_ping_comes_at_a_moment_of_its_own(seed: int) -> None:
    rules = Rules(TIMES, 0, Random(seed))
    rules.check(CONNECT)
    rules.connected(3)
    at = next(each / 10 for each in range(300) if rules.tick(each / 10))
    assert 13 <= at <= 23.1


def test_first_pings_are_spread() -> None:
    drawn = set()
    for seed in range(20):
        rules = Rules(TIMES, 0, Random(seed))
        rules.connected(0)
        drawn.add(next(each for each in range(30) if rules.tick(each)))
    assert len(drawn) > 4


def test_each_ping_wants_one_pong() -> None:
    rules = connected()
    assert rules.tick(20) is True
    assert rules.tick(24.9) is False
    assert rules.check(PONG) is None
    assert rules.check(PONG) is Disconnects.BAD_REQUEST
    assert rules.tick(39.9) is False
    assert rules.tick(40) is True
    assert rules.tick(45) is Disconnects.NO_PONG


@pytest.mark.parametrize(
    "times",
    [
        {"ping_s": 0},
        {"stale_s": -1},
        {"expired_s": 0},
        {"pong_s": 0},
        {"ping_s": 8, "pong_s": 8},  # each ping would put off the deadline
    ],
)
def test_times_that_make_no_sense(times: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        ProtocolTimes(**times)


class RulesModel(RuleBasedStateMachine):
    """Against the log of what has happened, read anew at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.come()

    @precondition(lambda self: self.is_over)
    @rule()
    def come(self) -> None:
        self.began = self.now
        self.ours = fresh(self.now)
        self.log: list[tuple[str, float]] = []
        self.is_over = False

    def at(self, *kinds: str) -> list[float]:
        return [when for kind, when in self.log if kind in kinds]

    @property
    def unanswered(self) -> float | None:
        last = [entry for entry in self.log if entry[0] in ("ping", "pong")][-1:]
        return last[0][1] if last and last[0][0] == "ping" else None

    @precondition(lambda self: not self.is_over)
    @rule(pause=st.sampled_from([0, 0.5, 1, 4, 5, 6, 10, 20, 45]))
    def tick(self, pause: float) -> None:
        self.now += pause
        told = self.ours.tick(self.now)
        if not self.at("connected"):
            assert told is (Disconnects.STALE if self.now - self.began >= 10 else False)
        elif self.unanswered is not None and self.now - self.unanswered >= 5:
            assert told is Disconnects.NO_PONG
        elif self.at("ping"):
            assert told is (self.now - self.at("ping")[-1] >= 20)
        elif self.now - self.at("connected")[0] < 10:
            assert told is False
        elif self.now - self.at("connected")[0] > 20:
            assert told is True
        if told is True:
            self.log.append(("ping", self.now))
        self.is_over = not isinstance(told, bool)

    @precondition(lambda self: not self.is_over)
    @rule(command=st.sampled_from([CONNECT, OTHER, PONG]))
    def check(self, command: Command) -> None:
        told = self.ours.check(command)
        if command is PONG:
            is_fine = self.unanswered is not None
        else:
            is_fine = (command is CONNECT) != bool(self.at("connect"))
        assert told is (None if is_fine else Disconnects.BAD_REQUEST)
        if command is PONG and is_fine:
            self.log.append(("pong", self.now))
        elif command is CONNECT and is_fine:
            self.log.append(("connect", self.now))
        self.is_over = not is_fine

    @precondition(lambda self: self.at("connect") and not self.at("connected"))
    @rule()
    def succeed(self) -> None:
        self.ours.connected(self.now)
        self.log.append(("connected", self.now))
        assert self.ours.is_connected


TestRules = RulesModel.TestCase

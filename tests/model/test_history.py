"""One topic's history against the list of all that was ever published."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.message import Message, Position, Share
from broker.state.history import History

TTL_S = 10


class HistoryModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.history = History("e")
        self.now = 0
        self.published: list[Message] = []
        self.kept: list[tuple[int, Message]] = []  # (expires at, message)

    def next_message(self, cost: int) -> Message:
        position = self.history.advance()
        message = Message("t", "x" * cost, position, share=Share(cost))
        self.published.append(message)
        assert position == Position("e", len(self.published))
        return message

    @rule(size=st.integers(0, 5), cost=st.integers(0, 9))
    def publish(self, size: int, cost: int) -> None:
        message, expires_at = self.next_message(cost), self.now + TTL_S
        self.history.keep(message, size=size, expires_at=expires_at)
        self.kept.append((expires_at, message))
        self.kept = self.kept[len(self.kept) - min(size, len(self.kept)) :]

    @rule(cost=st.integers(0, 9))
    def publish_and_keep_four(self, cost: int) -> None:
        self.publish(4, cost)

    @rule(cost=st.integers(0, 9))
    def publish_unkept(self, cost: int) -> None:
        """By a node whose rules keep nothing."""
        self.next_message(cost)

    @rule(seconds=st.integers(0, TTL_S + 1))
    def time_passes(self, seconds: int) -> None:
        """Without anybody who sweeps: ``since`` must look at the time itself."""
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.forget()
        self.history.expire(self.now)
        assert len(self.history) == len(self.kept)

    @rule(back=st.integers(-1, 7), epoch=st.sampled_from(["e", "e", "e", "other"]))
    def resume(self, back: int, epoch: str) -> None:
        """All or None, never a part."""
        self.forget()
        start = len(self.published) - back
        found = self.history.since(Position(epoch, start), self.now)
        known = [message for _, message in self.kept]
        missed = self.published[start:] if start >= 0 else []
        is_known = epoch == "e" and 0 <= start <= len(self.published)
        if is_known and all(message in known for message in missed):
            assert found == missed
        else:
            assert found is None

    @rule()
    def read_all(self) -> None:
        self.forget()
        assert self.history.since(None, self.now) == [each for _, each in self.kept]

    def forget(self) -> None:
        self.kept = [each for each in self.kept if each[0] > self.now]

    @invariant()
    def agrees(self) -> None:
        assert self.history.position == Position("e", len(self.published))
        cost = sum(message.size_bytes for _, message in self.kept)
        assert len(self.history) == len(self.kept)
        assert self.history.size_bytes == cost
        assert self.history.expires_at == (self.kept[0][0] if self.kept else None)


TestHistory = HistoryModel.TestCase
TestHistory.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)

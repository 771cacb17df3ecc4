"""All histories against a dict, with users who come and go as a backplane's do."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.errors import LimitExceeded
from broker.message import Message, Position, Share
from broker.state.streams import Streams

TOPICS = st.sampled_from("abcd")
MAX_TOPICS = 3
SIZE = 3
# All messages of one topic live as long; the topic itself may live longer.
TTL_S = {"a": 5, "b": 10, "c": 10, "d": 30}
TTLS = st.sampled_from([5, 10, 30])


@dataclass
class Life:
    epoch: str
    expires_at: int = 0
    offset: int = 0
    kept: list[int] = field(default_factory=list)  # until when, oldest first


class StreamsModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.streams = Streams((f"e{number}" for number in count(1)), MAX_TOPICS)
        self.now = 0
        self.lives: dict[str, Life] = {}
        self.used: set[str] = set()
        self.epochs: set[str] = set()

    def open(self, topic: str) -> Life | None:
        """Open a topic; None if there are too many."""
        life = self.lives.get(topic)
        if life is None and len(self.lives) == MAX_TOPICS:
            with pytest.raises(LimitExceeded):
                self.streams.open(topic)
            return None
        epoch = self.streams.open(topic).epoch
        if life is None:
            assert epoch not in self.epochs, "each life has its own epoch"
            self.epochs.add(epoch)
            life = self.lives[topic] = Life(epoch)
        assert epoch == life.epoch
        return life

    @rule(topic=TOPICS)
    def join(self, topic: str) -> None:
        if self.open(topic):
            self.used.add(topic)

    @rule(topic=TOPICS, ttl_s=TTLS)
    def leave(self, topic: str, ttl_s: int) -> None:
        if topic in self.used:
            self.used.remove(topic)
            self.extend(self.lives[topic], topic, ttl_s)

    @rule(topic=TOPICS)
    def leave_and_forget(self, topic: str) -> None:
        self.used.discard(topic)
        self.lives.pop(topic, None)
        self.streams.forget(topic)

    @rule(topic=TOPICS)
    def publish(self, topic: str) -> None:
        life = self.open(topic)
        if life is None:
            return
        life.offset += 1
        position = self.streams.open(topic).advance()
        assert position == Position(life.epoch, life.offset)
        message = Message(topic, "x", position, share=Share(1))
        self.streams.keep(message, size=SIZE, ttl_s=TTL_S[topic], now=self.now)
        until = self.now + TTL_S[topic]
        life.kept = [*life.kept, until][-SIZE:]
        life.expires_at = max(life.expires_at, until)

    @rule(topic=TOPICS, ttl_s=TTLS)
    def publish_unkept(self, topic: str, ttl_s: int) -> None:
        life = self.open(topic)
        if life is None:
            return
        life.offset += 1
        assert self.streams.open(topic).advance().offset == life.offset
        self.extend(life, topic, ttl_s)

    def extend(self, life: Life, topic: str, ttl_s: int) -> None:
        self.streams.extend(topic, self.now + ttl_s)
        life.expires_at = max(life.expires_at, self.now + ttl_s)

    @rule(seconds=st.integers(0, 12))
    def sweep(self, seconds: int) -> None:
        self.now += seconds
        self.streams.expire(self.now, self.used.__contains__)
        for topic, life in list(self.lives.items()):
            while life.kept and life.kept[0] <= self.now:
                del life.kept[0]
            if topic not in self.used and life.expires_at <= self.now:
                del self.lives[topic]

    @invariant()
    def agrees(self) -> None:
        assert len(self.streams) == len(self.lives)
        for topic in "abcd":
            history, life = self.streams.find(topic), self.lives.get(topic)
            assert (topic in self.streams) == (life is not None)
            if history is None or life is None:
                assert history is None
                assert life is None
                continue
            assert history.position == Position(life.epoch, life.offset)
            assert len(history) == len(life.kept)

    def teardown(self) -> None:
        """Everything is forgotten once nobody uses it."""
        for topic in list(self.used):
            self.leave(topic, 5)
        self.sweep(30)
        assert len(self.streams) == 0
        assert not self.streams._agenda


TestStreams = StreamsModel.TestCase
TestStreams.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)

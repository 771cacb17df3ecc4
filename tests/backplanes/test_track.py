"""Following one topic, against all that a connection and a stream may do to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from adapters.backplane.body import Delivery
from adapters.backplane.track import Track
from broker.config import TopicRules
from broker.message import Message, Position

from .judge import Watcher

PAGE = 3  # messages that are read at once
RULES = TopicRules()

# "publish", "lose the push", "restart", "read", "compare", "reconnect"
STEPS = st.lists(
    st.sampled_from("pppplrxcn"),
    max_size=60,
)


@dataclass
class World:
    """A topic in Redis, the connection to one node, and that node."""

    keeps: int
    track: Track = field(default_factory=lambda: Track("t", RULES))
    watcher: Watcher = field(default_factory=Watcher)
    top: Position = field(default_factory=lambda: Position("e0", 0))
    kept: list[Delivery] = field(default_factory=list)
    published: dict[Position, str | bytes] = field(default_factory=dict)

    def publish(self, *, is_pushed: bool = True) -> None:
        self.top = Position(self.top.epoch, self.top.offset + 1)
        payload = f"{self.top.epoch}:{self.top.offset}"
        self.published[self.top] = payload
        delivery = Delivery(Message("t", payload, self.top), self.top, None)
        if self.keeps:
            self.kept = [*self.kept, delivery][-self.keeps :]
        if is_pushed:
            self.track.arrive(delivery, self.watcher)

    def restart(self) -> None:
        self.top = Position(f"e{int(self.top.epoch[1:]) + 1}", 0)
        self.kept.clear()

    def read(self, meanwhile: int = 0, *, restarts: bool = False) -> bool:
        """Read the stream; something may happen before the answer is handled."""
        last, top = self.track.position, self.top
        older = len(self.track.held or ())
        after = last.offset if last is not None and last.epoch == top.epoch else 0
        found = [each for each in self.kept if each.position.offset > after]
        found = [] if last is None else found[:PAGE]
        until = found[-1].position.offset if len(found) == PAGE else None
        for _ in range(meanwhile):
            self.publish()
        if restarts:
            self.restart()
            self.publish()
        return self.track.resume(
            top, found, until=until, older=older, node=self.watcher
        )

    def compare(self) -> None:
        if self.track.held is None and self.track.is_behind(self.top):
            self.track.fall_behind()


@given(STEPS, st.integers(0, 9), st.data())
@settings(deadline=None, max_examples=300)
def test_nothing_is_lost_in_silence(
    steps: list[str], keeps: int, data: st.DataObject
) -> None:
    world = World(keeps)
    world.read()
    start = Position("e0", 0)
    assert world.track.position == start
    for step in steps:
        if step == "p":
            world.publish()
        elif step == "l":
            world.publish(is_pushed=False)
        elif step == "r":
            world.restart()
        elif step == "c":
            world.compare()
        elif step == "n":
            world.track.forget_held()
        elif world.track.held is not None:
            meanwhile = data.draw(st.integers(0, 4))
            world.read(meanwhile, restarts=data.draw(st.booleans()))
    world.compare()
    rounds = 0
    while world.track.held is not None:
        world.read()
        rounds += 1
        assert rounds < 100, "it never becomes live"
    event(f"rounds: {min(rounds, 3)}")
    assert world.track.position == world.top
    world.watcher.judge("t", start, world.published)


@given(st.lists(st.sampled_from("pplxcn"), max_size=60), st.data())
@settings(deadline=None)
def test_nothing_is_lost_where_all_is_kept(
    steps: list[str], data: st.DataObject
) -> None:
    world = World(keeps=1_000)
    world.read()
    for step in steps:
        if step in "pl":
            world.publish(is_pushed=step == "p")
        elif step == "c":
            world.compare()
        elif step == "n":
            world.track.forget_held()
        elif world.track.held is not None:
            world.read(data.draw(st.integers(0, 4)))
    world.compare()
    while world.track.held is not None:
        world.read()
    assert world.watcher.payloads("t") == list(world.published.values())
    assert world.watcher.shape("t") == world.watcher.payloads("t")


def test_what_does_not_fit_is_read_again() -> None:
    """Only two messages of 3 MB fit, so the third is read in another round."""
    track, watcher = Track("t", RULES), Watcher()
    track.position = Position("e", 0)
    deliveries = []
    for offset in range(1, 5):
        position = Position("e", offset)
        message = Message("t", str(offset), position)
        message.share.size_bytes = 3_000_000
        deliveries.append(Delivery(message, position, None))
        assert not track.arrive(deliveries[-1], watcher)
    top = Position("e", 0)
    assert not track.resume(top, [], until=None, older=0, node=watcher)
    assert watcher.shape("t") == ["1", "2"]
    found = deliveries[2:]
    top = Position("e", 4)
    assert track.resume(top, found, until=None, older=0, node=watcher)
    assert watcher.shape("t") == ["1", "2", "3", "4"]

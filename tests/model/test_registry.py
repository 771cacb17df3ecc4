"""The registry against a list of names and subscribers."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.state.registry import Registry
from broker.topics import is_pattern, matches

SEGMENTS = st.sampled_from(["a", "b", "*"])
PREFIXES = st.sampled_from(["", "", "$presence."])
NAMES = st.builds(
    lambda prefix, segments, rest: prefix + ".".join([*segments, *rest]),
    PREFIXES,
    st.lists(SEGMENTS, max_size=3),
    st.sampled_from([["a"], ["*"], [">"]]),
)
TOPICS = st.builds(
    lambda prefix, segments: prefix + ".".join(segments),
    PREFIXES,
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
)
SUBSCRIBERS = st.integers(1, 4)


class RegistryModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.registry: Registry[int] = Registry()
        self.joined: list[tuple[str, int]] = []
        self.looked_up: set[str] = set()

    @rule(name=NAMES, subscriber=SUBSCRIBERS)
    def add(self, name: str, subscriber: int) -> None:
        is_new = (name, subscriber) not in self.joined
        assert self.registry.add(name, subscriber) == is_new
        if is_new:
            self.joined.append((name, subscriber))

    @rule(number=st.integers(0, 99), subscriber=SUBSCRIBERS)
    def add_to_one(self, number: int, subscriber: int) -> None:
        if self.joined:
            self.add(self.joined[number % len(self.joined)][0], subscriber)

    @rule(name=NAMES, subscriber=SUBSCRIBERS)
    def remove(self, name: str, subscriber: int) -> None:
        """Most often there is nothing to remove."""
        is_there = (name, subscriber) in self.joined
        assert self.registry.remove(name, subscriber) == is_there
        if is_there:
            self.joined.remove((name, subscriber))

    @rule(number=st.integers(0, 99))
    def remove_one(self, number: int) -> None:
        if self.joined:
            self.remove(*self.joined[number % len(self.joined)])

    @rule(topic=TOPICS)
    def look_up(self, topic: str) -> None:
        self.looked_up.add(topic)

    @invariant()
    def finds_each_once(self) -> None:
        """What is found for a topic with subscribers of its own is remembered."""
        own = {name for name, _ in self.joined if not is_pattern(name)}
        for topic in self.looked_up | own:
            found = self.registry.targets(topic)
            expected = {who for name, who in self.joined if matches(name, topic)}
            assert set(found) == expected
            assert len(found) == len(expected)

    @invariant()
    def counts(self) -> None:
        names = {name for name, _ in self.joined}
        patterns = {name for name in names if is_pattern(name)}
        assert len(self.registry) == len(names)
        assert self.registry.pattern_count == len(patterns)
        assert self.registry.topic_count == len(names) - len(patterns)
        assert all(name in self.registry for name in names)

    def teardown(self) -> None:
        """When all have left, nothing takes memory."""
        for name, subscriber in list(self.joined):
            self.remove(name, subscriber)
            self.counts()
            assert (name in self.registry) == (name in {n for n, _ in self.joined})
        assert len(self.registry) == 0
        assert not self.registry._topics
        assert not self.registry._pattern_counts
        assert not self.registry._patterns


TestRegistry = RegistryModel.TestCase
TestRegistry.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)

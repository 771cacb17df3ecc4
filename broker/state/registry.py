"""Who subscribes to what: topics and patterns, looked up by topic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from broker.topics import is_pattern

__all__ = ("Registry",)

SubscriberT = TypeVar("SubscriberT")  # hashable


class _Topic(Generic[SubscriberT]):
    """The subscribers of one topic, and what was last found to cover it."""

    __slots__ = ("found", "generation", "members")

    def __init__(self) -> None:
        self.members: dict[SubscriberT, None] = {}  # join order
        self.found: tuple[SubscriberT, ...] | None = None
        self.generation = -1


class _Node(Generic[SubscriberT]):
    """One segment in the tree of patterns."""

    __slots__ = ("children", "members", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node[SubscriberT]] = {}
        self.members: dict[SubscriberT, None] = {}  # whose pattern ends here
        self.rest: dict[SubscriberT, None] = {}  # whose pattern goes on with ">"

    def __bool__(self) -> bool:
        return bool(self.children or self.members or self.rest)


class Registry(Generic[SubscriberT]):
    """Subscribers by topic and by pattern.

    Finding the subscribers of a topic costs the same however many other topics there
    are, and a walk through the patterns that share its first segments.

    Invariant: names without subscribers take no memory.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Topic[SubscriberT]] = {}
        self._patterns: _Node[SubscriberT] = _Node()
        self._pattern_counts: dict[str, int] = {}  # {pattern: subscribers}
        self._generation = 0  # of the patterns: what was found before is stale

    def __len__(self) -> int:
        """Return how many names, topics and patterns, have subscribers."""
        return len(self._topics) + len(self._pattern_counts)

    def __contains__(self, name: str) -> bool:
        return name in self._topics or name in self._pattern_counts

    @property
    def topic_count(self) -> int:
        """How many topics have subscribers of their own."""
        return len(self._topics)

    @property
    def pattern_count(self) -> int:
        """How many patterns have subscribers."""
        return len(self._pattern_counts)

    def add(self, name: str, subscriber: SubscriberT) -> bool:
        """Subscribe to a checked name. Returns False if it was subscribed already."""
        if is_pattern(name):
            return self._add_pattern(name, subscriber)
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        elif subscriber in topic.members:
            return False
        topic.members[subscriber] = None
        topic.found = None
        return True

    def remove(self, name: str, subscriber: SubscriberT) -> bool:
        """Unsubscribe from a name. Returns False if it was not subscribed."""
        if is_pattern(name):
            return self._remove_pattern(name, subscriber)
        topic = self._topics.get(name)
        if topic is None or subscriber not in topic.members:
            return False
        del topic.members[subscriber]
        topic.found = None
        if not topic.members:
            del self._topics[name]
        return True

    def targets(self, topic: str) -> tuple[SubscriberT, ...]:
        """Return all whose topics and patterns cover a concrete topic, each once.

        The tuple is a snapshot: whoever joins or leaves later does not change it.
        """
        entry = self._topics.get(topic)
        if entry is None:
            if not self._pattern_counts:
                return ()
            return tuple(dict.fromkeys(self._matching(topic)))
        if entry.found is None or entry.generation != self._generation:
            members = entry.members
            if self._pattern_counts:
                members = members | dict.fromkeys(self._matching(topic))
            entry.found = tuple(members)
            entry.generation = self._generation
        return entry.found

    def by_pattern(self) -> list[tuple[str, tuple[SubscriberT, ...]]]:
        """Return all patterns and who has subscribed to each. Costs a walk."""
        return [(name, tuple(self._members(name))) for name in self._pattern_counts]

    def _members(self, pattern: str) -> dict[SubscriberT, None]:
        node = self._patterns
        *path, last = pattern.split(".")
        for segment in path if last == ">" else (*path, last):
            node = node.children[segment]
        return node.rest if last == ">" else node.members

    def _matching(self, topic: str) -> Iterator[SubscriberT]:
        nodes = [self._patterns]
        segments = topic.split(".")
        for segment in segments:
            following = []
            for node in nodes:
                # A wildcard never covers the broker's own topics.
                hidden = node is self._patterns and topic[0] == "$"
                if not hidden:
                    yield from node.rest
                for key in (segment,) if hidden else (segment, "*"):
                    child = node.children.get(key)
                    if child is not None:
                        following.append(child)
            nodes = following
        for node in nodes:
            yield from node.members

    def _add_pattern(self, pattern: str, subscriber: SubscriberT) -> bool:
        node = self._patterns
        *path, last = pattern.split(".")
        for segment in path:
            node = node.children.setdefault(segment, _Node())
        if last == ">":
            members = node.rest
        else:
            members = node.children.setdefault(last, _Node()).members
        if subscriber in members:
            return False
        members[subscriber] = None
        self._pattern_counts[pattern] = self._pattern_counts.get(pattern, 0) + 1
        self._generation += 1
        return True

    def _remove_pattern(self, pattern: str, subscriber: SubscriberT) -> bool:
        node = self._patterns
        trail = []
        *path, last = pattern.split(".")
        for segment in path if last == ">" else (*path, last):
            trail.append((node, segment))
            child = node.children.get(segment)
            if child is None:
                return False
            node = child
        members = node.rest if last == ">" else node.members
        if subscriber not in members:
            return False
        del members[subscriber]
        self._generation += 1
        self._pattern_counts[pattern] -= 1
        if not self._pattern_counts[pattern]:
            del self._pattern_counts[pattern]
        for parent, segment in reversed(trail):
            if parent.children[segment]:
                break
            del parent.children[segment]
        return True

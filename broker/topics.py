"""The grammar of topics and patterns: segments split by dots, NATS's wildcards."""

from __future__ import annotations

import re

from .errors import InvalidTopic, UsageError

__all__ = (
    "MAX_SEGMENTS",
    "MAX_TOPIC_BYTES",
    "PRESENCE_PREFIX",
    "check_pattern",
    "check_topic",
    "is_pattern",
    "matches",
    "namespace_of",
    "overlaps",
    "presence_topic",
    "subject_of",
)

MAX_TOPIC_BYTES = 255  # as Centrifugo's channel_max_length and most brokers' names
MAX_SEGMENTS = 32  # guess: bounds the walk through the pattern tree
PRESENCE_PREFIX = "$presence."  # names that start with a dollar sign are the broker's

# A segment: printable ASCII but for the space and the three characters of the grammar.
_SEGMENT = r"[!-)+,\-/-=?-~]+"
_TOPIC = re.compile(rf"(?!\$){_SEGMENT}(?:\.{_SEGMENT})*")
_PATTERN = re.compile(rf"(?:(?:\*|{_SEGMENT})\.)*(?:\*|>|{_SEGMENT})")


def check_topic(topic: str) -> None:
    """Accept a concrete topic that one may publish to.

    Raises:
        InvalidTopic: empty, over 255 bytes or 32 segments, an empty segment, a space,
            a control or non-ASCII character, a wildcard, or a leading ``$``, which
            marks the broker's own topics. The error names the character and where.
        UsageError: it is not text.
    """
    try:
        is_good = (
            len(topic) <= MAX_TOPIC_BYTES
            and _TOPIC.fullmatch(topic)
            and topic.count(".") < MAX_SEGMENTS
        )
    except TypeError:  # asked for text no sooner than it matters: this is hot
        is_good = False
    if not is_good:
        raise _explain(topic, wildcards=False)


def check_pattern(pattern: str) -> None:
    """Accept what one may subscribe to: a topic, a presence topic or a pattern.

    In a pattern a segment may be ``*`` (any one segment), and the last one ``>`` (one
    segment or more).

    Raises:
        InvalidTopic: as ``check_topic``; ``$`` may lead only as ``$presence.…``, and
            what follows there must not begin with it again.
        UsageError: it is not text.
    """
    try:
        is_good = (
            len(pattern) <= MAX_TOPIC_BYTES
            and _PATTERN.fullmatch(pattern)
            and pattern.count(".") < MAX_SEGMENTS
            and subject_of(pattern)[0] != "$"
        )
    except TypeError:
        is_good = False
    if not is_good:
        raise _explain(pattern, wildcards=True)


def is_pattern(name: str) -> bool:
    """Return whether a checked name holds a wildcard."""
    return "*" in name or name[-1] == ">"


def matches(pattern: str, topic: str) -> bool:
    """Return whether a checked pattern covers a checked topic, or all of a pattern.

    Wildcards never cover the broker's own topics; a pattern that itself begins with
    ``$presence.`` does.
    """
    if topic[0] == "$" and pattern[0] != "$":
        return False
    wanted, given = pattern.split("."), topic.split(".")
    for index, segment in enumerate(wanted):
        if segment == ">":
            return len(given) > index
        if index == len(given) or given[index] == ">":
            return False
        if segment not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def overlaps(one: str, other: str) -> bool:
    """Return whether some topic is covered by both of two checked patterns."""
    if (one[0] == "$") != (other[0] == "$"):
        return False
    left, right = one.split("."), other.split(".")
    for mine, yours in zip(left, right, strict=False):
        if ">" in (mine, yours):
            return True
        if mine != yours and "*" not in (mine, yours):
            return False
    return len(left) == len(right)


def presence_topic(topic: str) -> str:
    """Return the topic on which joins and leaves of ``topic`` are published."""
    return PRESENCE_PREFIX + topic


def namespace_of(topic: str) -> str | None:
    """Return what stands before the first colon of a topic; None without one."""
    namespace, colon, _ = topic.partition(":")
    return namespace if colon else None


def subject_of(name: str) -> str:
    """Return the topic whose rules govern ``name``: for presence, its subject."""
    return name.removeprefix(PRESENCE_PREFIX)


def _explain(name: str, *, wildcards: bool) -> UsageError:
    """Find the first character at fault and say what is wrong with it."""
    if not isinstance(name, str):
        return UsageError(f"a topic is text, not {type(name).__name__}")
    if not name:
        return InvalidTopic(name, 0, "it is empty")
    if (size := len(name.encode("utf-8", "surrogatepass"))) > MAX_TOPIC_BYTES:
        problem = f"it has {size} bytes; the limit is {MAX_TOPIC_BYTES}"
        return InvalidTopic(name, 0, problem)
    start = len(name) - len(subject_of(name)) if wildcards else 0
    if name[start : start + 1] == "$":
        problem = f"character '$' at position {start} marks the broker's own topics"
        return InvalidTopic(name, start, problem)
    return _explain_segments(name, wildcards=wildcards)


def _explain_segments(name: str, *, wildcards: bool) -> InvalidTopic:
    segments = name.split(".")
    position = 0
    for index, segment in enumerate(segments):
        if not segment:
            problem = f"the segment at position {position} is empty"
            return InvalidTopic(name, position, problem)
        for at, character in enumerate(segment, position):
            what = f"character {character!a} at position {at}"
            if not "!" <= character <= "~":
                return InvalidTopic(name, at, f"{what} is not printable ASCII")
            if character not in "*>":
                continue
            if not wildcards:
                return InvalidTopic(
                    name, at, f"{what} is a wildcard; a concrete topic is needed here"
                )
            if len(segment) > 1:
                return InvalidTopic(name, at, f"{what} is not a segment of its own")
            if character == ">" and index < len(segments) - 1:
                return InvalidTopic(name, at, f"{what} is not the last segment")
        position += len(segment) + 1
    problem = f"it has {len(segments)} segments; the limit is {MAX_SEGMENTS}"
    return InvalidTopic(name, 0, problem)

"""The grammar of names, the words of its errors, and what wildcards cover."""

from __future__ import annotations

import pytest

from broker.errors import InvalidTopic
from broker.topics import (
    MAX_SEGMENTS,
    MAX_TOPIC_BYTES,
    check_pattern,
    check_topic,
    is_pattern,
    matches,
    overlaps,
    presence_topic,
    subject_of,
)

LONGEST = "a" * MAX_TOPIC_BYTES
DEEPEST = ".".join("a" * MAX_SEGMENTS)
BOTH_REFUSE = [
    ("", 0, "it is empty"),
    (LONGEST + "a", 0, "it has 256 bytes; the limit is 255"),
    ("é" * 128, 0, "it has 256 bytes; the limit is 255"),
    ("\ud800" * 86, 0, "it has 258 bytes; the limit is 255"),
    (DEEPEST + ".a", 0, "it has 33 segments; the limit is 32"),
    ("a.b\n", 3, r"character '\n' at position 3 is not printable ASCII"),
    ("a\x00b", 1, r"character '\x00' at position 1 is not printable ASCII"),
    ("a\x7f", 1, r"character '\x7f' at position 1 is not printable ASCII"),
    ("chat.café", 8, r"character '\xe9' at position 8 is not printable ASCII"),
    ("a\ud800", 1, r"character '\ud800' at position 1 is not printable ASCII"),
    ("my room", 2, "character ' ' at position 2 is not printable ASCII"),
    (" a", 0, "character ' ' at position 0 is not printable ASCII"),
    (".", 0, "the segment at position 0 is empty"),
    (".a", 0, "the segment at position 0 is empty"),
    ("a..b", 2, "the segment at position 2 is empty"),
    ("ab.c.", 5, "the segment at position 5 is empty"),
    ("$sys", 0, "character '$' at position 0 marks the broker's own topics"),
    ("$presence", 0, "character '$' at position 0 marks the broker's own topics"),
]
TOPIC_REFUSES = [
    ("a.*", 2, "character '*' at position 2 is a wildcard; a concrete topic is needed"),
    ("a*b", 1, "character '*' at position 1 is a wildcard; a concrete topic is needed"),
    (">", 0, "character '>' at position 0 is a wildcard; a concrete topic is needed"),
    (
        "a.b>",
        3,
        "character '>' at position 3 is a wildcard; a concrete topic is needed",
    ),
]
PATTERN_REFUSES = [
    (">.a", 0, "character '>' at position 0 is not the last segment"),
    ("a.>.>", 2, "character '>' at position 2 is not the last segment"),
    ("a.b*", 3, "character '*' at position 3 is not a segment of its own"),
    ("*b.c", 0, "character '*' at position 0 is not a segment of its own"),
    ("a.**", 2, "character '*' at position 2 is not a segment of its own"),
    ("a.b>", 3, "character '>' at position 3 is not a segment of its own"),
    ("$presence.", 10, "the segment at position 10 is empty"),
    ("$presence.$a", 10, "character '$' at position 10 marks the broker's own topics"),
    (
        "$presence.$presence.a",
        10,
        "character '$' at position 10 marks the broker's own topics",
    ),
]
ACCEPTED = ["a", "a.b", LONGEST, DEEPEST, "a.$b", "!#$%&'()+,-/:;<=?@[]^_`{|}~", "0"]


@pytest.mark.parametrize("topic", ACCEPTED)
def test_topics_are_patterns_too(topic: str) -> None:
    check_topic(topic)
    check_pattern(topic)


@pytest.mark.parametrize(
    "pattern", ["*", ">", "a.*", "*.a", "a.>", "*.*.>", "$presence.a", "$presence.>"]
)
def test_patterns(pattern: str) -> None:
    check_pattern(pattern)
    with pytest.raises(InvalidTopic):
        check_topic(pattern)


@pytest.mark.parametrize(("name", "position", "problem"), BOTH_REFUSE)
def test_what_neither_accepts(name: str, position: int, problem: str) -> None:
    for check in (check_topic, check_pattern):
        with pytest.raises(InvalidTopic) as caught:
            check(name)
        shown = ascii(name[:80])[1:-1]
        assert str(caught.value) == f"invalid topic '{shown}': {problem}"
        assert caught.value.position == position
        assert caught.value.topic == shown


@pytest.mark.parametrize(("name", "position", "problem"), TOPIC_REFUSES)
def test_wildcards_are_no_topics(name: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_topic(name)
    assert str(caught.value) == f"invalid topic '{name}': {problem} here"
    assert caught.value.position == position


@pytest.mark.parametrize(("name", "position", "problem"), PATTERN_REFUSES)
def test_misplaced_wildcards(name: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_pattern(name)
    assert str(caught.value) == f"invalid topic '{name}': {problem}"
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("name", "position"), [("*é", 0), ("$ ", 0), ("a..b c", 2), (".\n", 0)]
)
def test_the_first_fault_is_named(name: str, position: int) -> None:
    """Whichever rule the later ones break."""
    with pytest.raises(InvalidTopic) as caught:
        check_topic(name)
    assert caught.value.position == position


def test_presence_topics_are_not_published_to() -> None:
    with pytest.raises(InvalidTopic, match="marks the broker's own topics"):
        check_topic(presence_topic("a"))


def test_the_error_is_safe_to_log() -> None:
    """It shows 80 characters, escaped."""
    with pytest.raises(InvalidTopic) as caught:
        check_topic("\x1b[31m" + "a" * 200)
    assert caught.value.topic == r"\x1b[31m" + "a" * 75


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", False), ("a.b", False), ("*", True), (">", True), ("a.*.b", True)],
)
def test_is_pattern(name: str, expected: bool) -> None:
    assert is_pattern(name) is expected


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("a", "a"),
        ("*", "a"),
        (">", "a"),
        (">", "a.b"),
        ("a.>", "a.b"),
        ("a.>", "a.b.c"),
        ("a.*.c", "a.b.c"),
        ("*.>", "a.b"),
        ("$presence.>", "$presence.a"),
        ("$presence.*", "$presence.a"),
    ],
)
def test_matches(pattern: str, topic: str) -> None:
    assert matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("a", "b"),
        ("a", "a.b"),
        ("a.b", "a"),
        ("*", "a.b"),
        ("a.>", "a"),
        ("*.>", "a"),
        ("a.*", "a.b.c"),
        (">", "$presence.a"),
        ("*.a", "$presence.a"),
        ("$presence.a", "a"),
    ],
)
def test_does_not_match(pattern: str, topic: str) -> None:
    assert not matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "narrower"), [("a.>", "a.*"), ("*", "*"), (">", ">"), ("*.>", "a.>")]
)
def test_patterns_cover_patterns(pattern: str, narrower: str) -> None:
    assert matches(pattern, narrower)


@pytest.mark.parametrize(
    ("pattern", "wider"), [("a.*", "a.>"), ("*", ">"), ("*.*", "a.>"), ("a", "*")]
)
def test_one_segment_does_not_cover_the_rest(pattern: str, wider: str) -> None:
    assert not matches(pattern, wider)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a.*", "*.b", True),
        ("a.*", "b.*", False),
        ("a.>", "a", False),
        ("a.>", "*.b.c", True),
        ("a.*", "a", False),
        (">", "$presence.a", False),
        ("$presence.>", "$presence.*", True),
    ],
)
def test_overlaps(one: str, other: str, expected: bool) -> None:
    assert overlaps(one, other) is expected
    assert overlaps(other, one) is expected


def test_presence_topics_belong_to_their_subject() -> None:
    assert presence_topic("a.b") == "$presence.a.b"
    assert subject_of("$presence.a.b") == "a.b"
    assert subject_of("a.b") == "a.b"

"""The grammar and the wildcards, against slower ways to say the same."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.config import RuleBook, TopicRules
from broker.errors import InvalidTopic
from broker.topics import (
    check_pattern,
    check_topic,
    is_pattern,
    matches,
    overlaps,
    subject_of,
)

PREFIXES = ["", "$presence."]
# Every name of up to three segments; "c" stands for what no pattern names.
BODIES = [
    *(".".join(each) for n in (1, 2, 3) for each in product("ab*", repeat=n)),
    *(".".join([*each, ">"]) for n in (0, 1, 2) for each in product("ab*", repeat=n)),
]
NAMES = [prefix + body for prefix in PREFIXES for body in BODIES]
TOPICS = [
    prefix + ".".join(each)
    for prefix in PREFIXES
    for n in (1, 2, 3, 4)
    for each in product("abc", repeat=n)
]


def covered(pattern: str) -> frozenset[str]:
    """The topics that a pattern covers, by way of a regular expression."""
    body = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    guard = "" if pattern[0] == "$" else r"(?!\$)"
    return frozenset(topic for topic in TOPICS if re.fullmatch(guard + body, topic))


COVERED = {name: covered(name) for name in NAMES}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_matches_as_a_regular_expression(prefix: str) -> None:
    for pattern in (prefix + body for body in BODIES):
        matched = {topic for topic in TOPICS if matches(pattern, topic)}
        assert matched == COVERED[pattern], pattern


def test_matches_patterns_that_are_covered_whole() -> None:
    for pattern, name in product(NAMES, repeat=2):
        expected = COVERED[name] <= COVERED[pattern]
        assert matches(pattern, name) == expected, (pattern, name)


def test_overlaps_if_some_topic_is_covered_by_both() -> None:
    for one, other in product(NAMES, repeat=2):
        expected = not COVERED[one].isdisjoint(COVERED[other])
        assert overlaps(one, other) == expected, (one, other)


def test_is_pattern_if_it_can_cover_more_than_itself() -> None:
    for name in NAMES:
        assert is_pattern(name) == (COVERED[name] != {name}), name


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(BODIES), max_size=4),
    st.sampled_from(NAMES),
)
@example(["a.*", "a.>"], "a.>")
@example(["*", ">"], ">")
def test_who_governs_a_name(patterns: list[str], name: str) -> None:
    """Every rule that decides about a topic of it, and none that has no part in it."""
    rules = [TopicRules(pattern=pattern) for pattern in patterns]
    book = RuleBook(rules)
    governing = [each.pattern for each in book.governing(name)]
    subjects = COVERED[subject_of(name)]
    deciding = {
        next((p for p in patterns if subject in COVERED[p]), ">")
        for subject in subjects
    }
    assert deciding <= set(governing)
    assert all(not COVERED[each].isdisjoint(subjects) for each in governing)
    assert subjects <= COVERED[book.of(name).pattern]
    assert book.of(name).pattern in governing


def faults(name: str, *, wildcards: bool) -> list[int]:
    """Where a name breaks the grammar, character by character."""
    start = 10 if wildcards and name.startswith("$presence.") else 0
    found = [start] if name[start : start + 1] == "$" else []
    ended = "." + name + "."
    for at in range(len(name) + 1):
        before, here, after = ended[at], ended[at + 1], ended[at + 2 : at + 3]
        is_last = at == len(name) - 1
        if before == "." and here == ".":
            found.append(at)
        if here in "*>" and not wildcards:
            found.append(at)
        if here in "*>" and not before == after == ".":
            found.append(at)
        if here == ">" and not is_last:
            found.append(at)
        if not 0x21 <= ord(here) <= 0x7E:
            found.append(at)
    return found


TEXTS = st.one_of(
    st.text("ab.*>$ é\x00\x7f~!", max_size=8),
    st.text("ab.*>$", max_size=6).map(lambda text: "$presence." + text),
    st.lists(st.sampled_from(["a", "b", "*", ">"]), min_size=28, max_size=36).map(
        ".".join
    ),
    st.text(max_size=6),
    st.integers(250, 260).map(lambda n: "a" * n),
    st.integers(120, 130).map(lambda n: "é" * n),
)


@settings(max_examples=250, deadline=None)
@given(name=TEXTS, wildcards=st.booleans())
def test_the_grammar(name: str, wildcards: bool) -> None:
    """What is refused breaks a rule, and the error says where it does so first."""
    wrong = faults(name, wildcards=wildcards)
    is_too_long = len(name.encode("utf-8", "surrogatepass")) > 255
    check = check_pattern if wildcards else check_topic
    if wrong or is_too_long or name.count(".") > 31:
        with pytest.raises(InvalidTopic) as caught:
            check(name)
        first = 0 if is_too_long or not wrong else min(wrong)
        assert caught.value.position == first
    else:
        check(name)

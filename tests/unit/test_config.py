"""Settings refuse what cannot work, and rules are found for topics and patterns."""

from __future__ import annotations

from dataclasses import fields
from math import inf, nan
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from broker.config import Access, Limits, Overflow, RuleBook, TopicRules
from broker.errors import InvalidTopic, UsageError

NAMES = [field.name for field in fields(Limits)]
CLOSED = TopicRules(pattern="a.secret", subscribe=Access.NOBODY)
USERS = TopicRules(pattern="a.*", subscribe=Access.USERS)
OPEN = TopicRules(pattern="a.>")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, nan])
def test_limits_are_positive(name: str, value: float) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(UsageError) as caught:
        Limits(**given)
    assert str(caught.value) == f"Limits.{name} must be > 0, not {value!r}"


@pytest.mark.parametrize("name", ["max_outbox_bytes", "max_inbox_bytes"])
def test_the_largest_message_fits(name: str) -> None:
    sizes: dict[str, Any] = {"max_message_bytes": 10, name: 10}
    assert getattr(Limits(**sizes), name) == 10
    sizes[name] = 9
    with pytest.raises(UsageError) as caught:
        Limits(**sizes)
    assert str(caught.value) == (
        f"Limits.{name} is below max_message_bytes: the largest message would never fit"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_sessions": "5"}, "max_sessions must be a number, not '5'"),
        ({"max_sessions": 1.5}, "max_sessions must be a whole number, not 1.5"),
        ({"max_sessions": inf}, "max_sessions must be a whole number, not inf"),
        (
            {"max_sessions_per_user": 1.5},
            "max_sessions_per_user must be a whole number",
        ),
        ({"stall_s": None}, "stall_s must be a number, not None"),
        ({"stall_s": "5"}, "stall_s must be a number, not '5'"),
        ({"hello_s": "none"}, "hello_s must be a number, not 'none'"),
    ],
)
def test_limits_are_numbers(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits(**options)
    assert str(caught.value).startswith(f"Limits.{problem}")


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_limit_is_what_says_so(name: str) -> None:
    """None is taken where the type has it, and nowhere else."""
    kind = get_type_hints(Limits)[name]
    given: dict[str, Any] = {name: None}
    if NoneType in get_args(kind):
        assert getattr(Limits(**given), name) is None
    else:
        with pytest.raises(UsageError, match="number, not None"):
            Limits(**given)


def test_times_may_have_no_end() -> None:
    limits = Limits(hello_s=None, idle_s=None, silence_s=None, stall_s=inf)
    assert (limits.idle_s, limits.stall_s) == (None, inf)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"history_size": -1}, "history_size must be >= 0, not -1"),
        ({"history_ttl_s": 0}, "history_ttl_s must be > 0, not 0"),
        ({"history_ttl_s": -1.5}, "history_ttl_s must be > 0, not -1.5"),
        ({"history_ttl_s": nan}, "history_ttl_s must be > 0, not nan"),
        ({"join_leave": True}, "join_leave needs presence=True"),
        ({"history_size": "5"}, "history_size must be a whole number, not '5'"),
        ({"history_size": 1.5}, "history_size must be a whole number, not 1.5"),
        ({"history_bytes": 1.5}, "history_bytes must be a whole number, not 1.5"),
        ({"history_ttl_s": None}, "history_ttl_s must be a number, not None"),
        (
            {"overflow": "conflate"},
            "overflow must be one of Overflow.DISCONNECT, Overflow.DROP_OLDEST, "
            "Overflow.DROP_NEWEST, Overflow.CONFLATE, Overflow.BLOCK, not 'conflate'",
        ),
        *(
            (
                {name: "anyone"},
                f"{name} must be one of Access.ANYONE, Access.USERS, Access.NOBODY, "
                "not 'anyone'",
            )
            for name in ("subscribe", "publish", "read_presence", "read_history")
        ),
        (
            {"resume": True},
            "resume must be one of Resume.MISSED, Resume.LATEST, Resume.NOTHING, "
            "not True",
        ),
        ({"namespace": 5}, "namespace must be str, not int"),
        ({"pattern": 5}, "a topic is text, not int"),
    ],
)
def test_rules_refuse(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        TopicRules(**options)
    assert str(caught.value) == problem


def test_rules_need_a_pattern_that_is_one() -> None:
    with pytest.raises(InvalidTopic) as caught:
        TopicRules(pattern="a.>.b")
    assert caught.value.position == 2


def test_rules_accept_the_least() -> None:
    rules = TopicRules(history_size=0, presence=True, join_leave=True)
    assert rules.pattern == ">"
    assert rules.overflow is Overflow.DISCONNECT


def test_a_topic_without_rules_has_the_defaults() -> None:
    book = RuleBook([OPEN])
    assert book.of("b") == TopicRules()
    assert book.governing("b") == [TopicRules()]


def test_the_first_rule_that_covers_a_topic_wins() -> None:
    book = RuleBook([CLOSED, USERS, OPEN])
    assert book.of("a.secret") is CLOSED
    assert book.of("a.b") is USERS
    assert book.of("a.b.c") is OPEN
    assert RuleBook([OPEN, CLOSED]).of("a.secret") is OPEN


def test_one_rule_governs_a_topic() -> None:
    book = RuleBook([CLOSED, USERS, OPEN])
    assert book.governing("a.secret") == [CLOSED]
    assert book.governing("a.b") == [USERS]


def test_presence_is_governed_by_its_subject() -> None:
    book = RuleBook([CLOSED, USERS, OPEN])
    assert book.of("$presence.a.secret") is CLOSED
    assert book.governing("$presence.a.secret") == [CLOSED]
    assert book.governing("$presence.a.*") == [CLOSED, USERS]


def test_every_rule_that_overlaps_governs_a_pattern() -> None:
    """Or a wildcard would open what a narrower rule has closed."""
    book = RuleBook([CLOSED, USERS, OPEN])
    assert book.governing("a.*") == [CLOSED, USERS]
    assert book.governing("*.secret") == [CLOSED, USERS, OPEN, TopicRules()]
    assert book.governing(">") == [CLOSED, USERS, OPEN, TopicRules()]
    assert book.governing("b.>") == [TopicRules()]


def test_one_segment_does_not_hide_what_follows_it() -> None:
    """A rule for ``a.*`` says nothing about ``a.b.c``, which ``a.>`` covers."""
    users = TopicRules(pattern="a.>", subscribe=Access.USERS)
    book = RuleBook([TopicRules(pattern="a.*"), users, CLOSED])
    assert users in book.governing("a.>")
    assert book.of("a.>") is users
    nobody = TopicRules(pattern=">", subscribe=Access.NOBODY)
    assert nobody in RuleBook([TopicRules(pattern="*"), nobody]).governing(">")


def test_what_covers_all_of_a_pattern_gives_its_options() -> None:
    book = RuleBook([CLOSED, USERS, OPEN])
    assert book.of("a.*") is USERS
    assert book.of("a.>") is OPEN
    assert book.of(">") == TopicRules()


def test_a_namespace_is_what_stands_before_the_colon() -> None:
    chat = TopicRules(namespace="chat", history_size=10)
    quiet = TopicRules(namespace="chat", pattern="*.quiet", publish=Access.NOBODY)
    book = RuleBook([quiet, chat])
    assert book.of("chat:room") is chat
    assert book.of("chat:room.quiet") is quiet
    assert book.of("$presence.chat:room") is chat
    for other in ("chat", "chat.room", "chats:room", "news:chat:room", "room"):
        assert book.of(other) == TopicRules()
    assert book.namespaces == {"chat", None}


def test_a_pattern_may_reach_into_namespaces() -> None:
    chat = TopicRules(namespace="chat", subscribe=Access.NOBODY)
    book = RuleBook([chat])
    assert book.governing(">") == [chat, TopicRules()]
    assert book.governing("*.a") == [chat, TopicRules()]
    assert book.governing("chat:x.>") == [chat]
    assert book.governing("news:x.>") == [TopicRules()]


@pytest.mark.parametrize("wrong", ["", "a:b", "a.b", "a b", "é", "*"])
def test_what_is_no_namespace(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"^no namespace: .*; write letters, digits, "):
        TopicRules(namespace=wrong)

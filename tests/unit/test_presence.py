"""Who is in a topic, and which changes are joins and leaves."""

from __future__ import annotations

from broker.state.presence import Member, Presence

ANN, BOB = Member("1", "ann"), Member("2")


def test_joins_and_leaves_are_told_once() -> None:
    presence = Presence()
    assert presence.enter("t", ANN)
    assert not presence.enter("t", ANN)
    assert presence.leave("t", "1")
    assert not presence.leave("t", "1")
    assert not presence.leave("unknown", "1")


def test_members_in_the_order_of_joining() -> None:
    presence = Presence()
    presence.enter("t", BOB)
    presence.enter("t", ANN)
    presence.enter("u", ANN)
    renamed = Member("2", "bob")
    assert not presence.enter("t", renamed)
    assert presence.members("t") == [renamed, ANN]
    assert presence.members("u") == [ANN]
    assert presence.members("unknown") == []


def test_who_comes_back_is_the_last() -> None:
    presence = Presence()
    presence.enter("t", ANN)
    presence.enter("t", BOB)
    presence.leave("t", "1")
    assert presence.enter("t", ANN)
    assert presence.members("t") == [BOB, ANN]


def test_empty_topics_take_no_memory() -> None:
    presence = Presence()
    presence.enter("t", ANN)
    presence.enter("t", BOB)
    presence.leave("t", "1")
    assert len(presence) == 1
    presence.leave("t", "2")
    presence.leave("unknown", "2")
    presence.members("unknown")
    assert len(presence) == 0


def test_a_list_of_members_is_a_copy() -> None:
    presence = Presence()
    presence.enter("t", ANN)
    presence.members("t").clear()
    assert presence.members("t") == [ANN]

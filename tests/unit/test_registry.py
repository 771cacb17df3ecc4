"""Subscribers by name; the model test covers the lookup itself."""

from __future__ import annotations

import pytest

from broker.state.registry import Registry


@pytest.mark.parametrize("name", ["a.b", "a.*", "a.>"])
def test_once_is_enough(name: str) -> None:
    registry: Registry[str] = Registry()
    assert registry.add(name, "ann")
    assert not registry.add(name, "ann")
    assert registry.targets("a.b") == ("ann",)
    assert name in registry
    assert registry.remove(name, "ann")
    assert not registry.remove(name, "ann")
    assert registry.targets("a.b") == ()
    assert name not in registry
    assert len(registry) == 0


def test_several_names_of_one_subscriber_are_one_target() -> None:
    registry: Registry[str] = Registry()
    for name in ("a.b", "a.*", "a.>", ">", "*.b"):
        registry.add(name, "ann")
    registry.add("a.*", "bob")
    assert sorted(registry.targets("a.b")) == ["ann", "bob"]
    assert sorted(registry.targets("a.c")) == ["ann", "bob"]
    assert registry.targets("b") == ("ann",)
    assert (registry.topic_count, registry.pattern_count, len(registry)) == (1, 4, 5)


def test_targets_are_a_snapshot() -> None:
    registry: Registry[str] = Registry()
    registry.add("a", "ann")
    before = registry.targets("a")
    registry.add("a", "bob")
    assert registry.targets("a") == ("ann", "bob")
    registry.add("*", "eve")
    assert before == ("ann",)
    assert sorted(registry.targets("a")) == ["ann", "bob", "eve"]
    registry.remove("*", "eve")
    assert registry.targets("a") == ("ann", "bob")
    registry.remove("a", "ann")
    assert registry.targets("a") == ("bob",)


def test_removing_what_was_never_there() -> None:
    registry: Registry[str] = Registry()
    registry.add("a.b.c", "ann")
    registry.add("a.*.c", "ann")
    for name in ("a", "a.*", "a.*.c.>", "a.*.*", "a.b.c.>", "*"):
        assert not registry.remove(name, "ann")
    assert not registry.remove("a.*.c", "bob")
    assert registry.targets("a.b.c") == ("ann",)

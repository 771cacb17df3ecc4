"""Message ids are remembered for a while, and not too many of them."""

from __future__ import annotations

from broker.message import Position
from broker.state.idempotency import RecentIds

FIRST, SECOND = Position("e", 1), Position("e", 2)


def test_an_id_is_known_until_its_time_has_come() -> None:
    recent = RecentIds(ttl_s=10, max_ids=5)
    assert recent.find("t", "id", 0) is None
    recent.add("t", "id", FIRST, 0)
    assert recent.find("t", "id", 9.9) == FIRST
    assert recent.find("t", "id", 10) is None
    assert len(recent) == 0


def test_ids_are_of_one_topic() -> None:
    recent = RecentIds(ttl_s=10, max_ids=5)
    recent.add("t", "id", FIRST, 0)
    assert recent.find("u", "id", 0) is None
    recent.add("u", "id", SECOND, 0)
    assert recent.find("t", "id", 0) == FIRST
    assert recent.find("u", "id", 0) == SECOND


def test_the_oldest_goes_first() -> None:
    recent = RecentIds(ttl_s=10, max_ids=2)
    for number in range(3):
        recent.add("t", str(number), Position("e", number), number)
    assert len(recent) == 2
    assert recent.find("t", "0", 3) is None
    assert recent.find("t", "1", 3) == Position("e", 1)
    assert recent.find("t", "2", 3) == Position("e", 2)


def test_expire_forgets_all_that_is_due_and_no_more() -> None:
    recent = RecentIds(ttl_s=10, max_ids=5)
    for number in range(4):
        recent.add("t", str(number), FIRST, number)
    recent.expire(12)
    assert len(recent) == 1
    assert recent.find("t", "3", 12) == FIRST


def test_a_forgotten_id_can_be_used_again() -> None:
    recent = RecentIds(ttl_s=10, max_ids=5)
    recent.add("t", "id", FIRST, 0)
    assert recent.find("t", "id", 20) is None
    recent.add("t", "id", SECOND, 20)
    assert recent.find("t", "id", 29) == SECOND

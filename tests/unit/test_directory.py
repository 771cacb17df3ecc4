"""Sessions by client and by user."""

from __future__ import annotations

from dataclasses import dataclass

from broker.state.directory import Directory


@dataclass(frozen=True)
class Entry:
    client_id: str
    user: str | None = None


ANN_1, ANN_2, BOB, NOBODY = (
    Entry("1", "ann"),
    Entry("2", "ann"),
    Entry("3", "bob"),
    Entry("4"),
)


def directory(*entries: Entry) -> Directory[Entry]:
    listed: Directory[Entry] = Directory()
    for entry in entries:
        listed.add(entry)
    return listed


def test_look_up() -> None:
    listed = directory(ANN_1, BOB, NOBODY, ANN_2)
    assert len(listed) == 4
    assert list(listed) == [ANN_1, BOB, NOBODY, ANN_2]
    assert "1" in listed
    assert "ann" not in listed
    assert listed.of_client("3") == [BOB]
    assert listed.of_client("5") == []
    assert listed.of_user("ann") == [ANN_1, ANN_2]
    assert listed.of_user("eve") == []


def test_remove() -> None:
    listed = directory(ANN_1, BOB, NOBODY, ANN_2)
    listed.remove(ANN_1)
    assert "1" not in listed
    assert listed.of_client("1") == []
    assert listed.of_user("ann") == [ANN_2]
    listed.remove(NOBODY)
    assert list(listed) == [BOB, ANN_2]


def test_users_who_left_take_no_memory() -> None:
    listed = directory(ANN_1, ANN_2)
    listed.remove(ANN_1)
    listed.remove(ANN_2)
    assert len(listed) == 0
    assert not listed._by_user


def test_entries_may_leave_while_one_goes_through_them() -> None:
    listed = directory(ANN_1, ANN_2, BOB)
    for entry in listed:
        listed.remove(entry)
    for entry in directory(ANN_1, ANN_2).of_user("ann"):
        assert entry.user == "ann"
    assert len(listed) == 0

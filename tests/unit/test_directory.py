"""Sessions by client, by user and by host."""

from __future__ import annotations

from dataclasses import dataclass

from broker.state.directory import Directory


@dataclass(frozen=True)
class Entry:
    client_id: str
    user: str | None = None
    client_host: str | None = None


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


def test_counts() -> None:
    here = [Entry(str(number), "ann", "192.0.2.1") for number in range(3)]
    listed = directory(*here, Entry("4", "bob", "192.0.2.2"), Entry("5"))
    assert listed.count_of_host("192.0.2.1") == listed.count_of_user("ann") == 3
    assert listed.count_of_host("192.0.2.3") == listed.count_of_user("eve") == 0
    assert listed.has_user("bob")
    assert not listed.has_user("eve")
    for entry in here:
        listed.remove(entry)
    assert listed.count_of_host("192.0.2.1") == 0
    assert list(listed._of_host) == ["192.0.2.2"]  # who has left takes no memory


def test_entries_may_leave_while_one_goes_through_them() -> None:
    listed = directory(ANN_1, ANN_2, BOB)
    for entry in listed:
        listed.remove(entry)
    for entry in directory(ANN_1, ANN_2).of_user("ann"):
        assert entry.user == "ann"
    assert len(listed) == 0

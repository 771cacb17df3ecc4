"""What was due, what came and how, against the shortest code that could be right."""

from __future__ import annotations

from itertools import chain

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.loadtest.report import Audience, Latency
from adapters.loadtest.stamp import Stamp
from adapters.loadtest.tally import (
    FROM_FIRST,
    Ear,
    Sent,
    Tally,
    TallyResult,
    audiences,
)

PUBLISHERS = 3
MESSAGES = 8  # of each
START, END = 20, 60  # ns; a message is intended each 10 ns
DELAY_NS = 7_000_000
SECOND = 1_000_000_000  # ns
PERFECT = list(range(MESSAGES))
# What the measured time makes of them.
SENT = Sent(total=MESSAGES, first=2, end=6)
# Of one publisher the server takes all, of the others not.
REFUSED = ((), ((0, 2), (3, 5)), ((4, MESSAGES),))

Step = tuple[str, int | None, int | None]

publishers = st.integers(0, PUBLISHERS - 1)
numbers = st.integers(0, MESSAGES - 1)
# Mostly messages, so that other steps find something to change.
hear = st.tuples(st.just("hear"), publishers, numbers)
hear_next = st.tuples(st.just("hear next"), publishers, st.integers(0, 2))
steps = st.one_of(
    hear,
    hear_next,
    hear_next,
    hear_next,
    st.tuples(st.just("expect"), publishers, numbers | st.just(FROM_FIRST)),
    st.tuples(st.just("told"), publishers, st.none() | numbers),
    st.tuples(st.just("told"), st.none(), st.none() | numbers),
    st.tuples(st.just("leave"), st.sampled_from([True, False]), st.just(0)),
)
# Where a client is, what it expects first of each publisher, and what becomes of it.
stories = st.tuples(
    st.booleans(),
    st.tuples(*[st.sampled_from([0, 0, 0, 1, 3, 7, FROM_FIRST, None])] * PUBLISHERS),
    st.lists(steps, max_size=40),
)


def stamp(publisher: int, number: int) -> Stamp:
    return Stamp(publisher, number, 10 * number)


def does_count(number: int) -> bool:
    return START <= 10 * number < END


COUNTS = (
    "expected",
    "delivered",
    "repeated",
    "reordered",
    "strayed",
    "missed_told",
    "missed_untold",
    "ended",
)


class Model:
    """One client, as lists of everything."""

    def __init__(self) -> None:
        self.start: dict[int, int | None] = {}  # {publisher: first due, if it is known}
        self.seen: dict[int, list[int]] = {}
        self.highest: dict[int, int] = {}  # {publisher: the next that is not behind}
        self.credit: dict[int | None, int] = {}
        self.forgiven: set[tuple[int, int]] = set()
        self.gone: str | None = None
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)

    def expect(self, publisher: int, number: int | None) -> None:
        self.start[publisher] = number
        self.seen[publisher] = []
        self.highest[publisher] = number or 0

    def hear(self, publisher: int, number: int) -> None:
        if self.gone:
            return
        if publisher not in self.start:
            self.counts["strayed"] += 1
            return
        if self.start[publisher] is None:
            self.start[publisher] = self.highest[publisher] = number
        start, seen = self.start[publisher], self.seen[publisher]
        assert start is not None
        if number in seen:
            self.counts["repeated"] += 1
        elif number < start:
            self.counts["reordered" if seen else "strayed"] += 1
        else:
            if seen and number < max(seen):
                self.counts["reordered"] += 1
            seen.append(number)
            before = self.highest[publisher]
            if number >= before:
                if (publisher, before) in self.forgiven:
                    self.excuse(publisher, number - before)
                self.highest[publisher] = number + 1

    def told(self, publisher: int | None, missed: int | None) -> None:
        if missed is not None:
            self.excuse(publisher, missed)
        elif not self.gone:
            for each in self.start if publisher is None else [publisher]:
                if self.start.get(each) is not None:
                    self.forgiven.add((each, self.highest[each]))

    def excuse(self, publisher: int | None, missed: int) -> None:
        self.credit[publisher] = self.credit.get(publisher, 0) + missed

    def close(self) -> dict[str, int]:
        missing = []  # [(number, publisher)], rising
        for publisher, start in self.start.items():
            if start is None:
                continue
            end = MESSAGES
            if self.gone == "by itself":
                end = self.highest[publisher]
            if self.gone == "ended":
                self.counts["ended"] = 1
                if (publisher, self.highest[publisher]) in self.forgiven:
                    self.excuse(publisher, MESSAGES - self.highest[publisher])
            for number in range(start, end):
                never = any(low <= number < high for low, high in REFUSED[publisher])
                if never and number not in self.seen[publisher]:
                    continue
                self.counts["expected"] += does_count(number)
                if number in self.seen[publisher]:
                    self.counts["delivered"] += does_count(number)
                else:
                    missing.append((number, publisher))
        self.counts["ended"] = self.gone == "ended"
        untold = [
            each for each in sorted(missing) if not self.spend(each[1])
        ]  # first from what was said of its publisher, then from what was said of all
        untold = [each for each in untold if not self.spend(None)]
        self.counts["missed_untold"] = sum(does_count(number) for number, _ in untold)
        self.counts["missed_told"] = (
            self.counts["expected"]
            - self.counts["delivered"]
            - self.counts["missed_untold"]
        )
        return self.counts

    def spend(self, publisher: int | None) -> bool:
        if self.credit.get(publisher, 0) < 1:
            return False
        self.credit[publisher] -= 1
        return True


def play(ear: Ear, model: Model, story: list[Step]) -> None:
    """Live through it, the client and its model."""
    for what, who, number in story:
        if what == "leave":
            model.gone = model.gone or ("ended" if who else "by itself")
            ear.left(ended_by_server=bool(who))
        elif what == "told":
            model.told(who, number)
            ear.told(who, number)
        elif who is None:
            raise AssertionError
        elif what == "expect":
            if number is None or who in model.start or model.gone:
                continue
            if number == FROM_FIRST:
                model.expect(who, None)
                ear.expect_from_first(who)
            else:
                model.expect(who, number)
                ear.expect(who, number)
        else:
            at = number or 0
            if what == "hear next":
                at += model.highest.get(who, 0)
            if at < MESSAGES:
                model.hear(who, at)
                ear.heard(stamp(who, at), 10 * at + DELAY_NS)


def counts_of(one: TallyResult | Audience) -> dict[str, int]:
    return {
        name: count
        for name, count in msgspec.structs.asdict(one).items()
        if name in COUNTS
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(stories, max_size=4), st.integers(0, 20))
def test_it_agrees_with_the_model(
    clients: list[tuple[bool, tuple[int | None, ...], list[Step]]], cut: int
) -> None:
    """Clients in two processes, whatever happens to them."""
    tallies = [Tally("healthy", start_ns=START, end_ns=END) for _ in range(2)]
    total: dict[str, int] = dict.fromkeys(COUNTS, 0)
    new = seconds = 0
    for where, expected, story in clients:
        model, ear = Model(), tallies[where].ear()
        play(ear, model, [("expect", who, first) for who, first in enumerate(expected)])
        play(ear, model, story[:cut])
        seconds += tallies[where].take_second().delivered
        play(ear, model, story[cut:])
        new += sum(map(len, model.seen.values()))
        for name, count in model.close().items():
            total[name] += count
    sent = {
        publisher: msgspec.structs.replace(SENT, refused=refused)
        for publisher, refused in enumerate(REFUSED)
    }
    seconds += sum(tally.take_second().delivered for tally in tallies)
    (merged,) = audiences(tally.close(sent) for tally in tallies)
    assert counts_of(merged) == total
    assert merged.latency.count == merged.delivered
    assert merged.clients == len(clients)
    assert seconds == new


def listening(numbers: list[int]) -> tuple[Tally, Ear]:
    tally = Tally("healthy", start_ns=START, end_ns=END)
    ear = tally.ear()
    ear.expect(0)
    for number in numbers:
        ear.heard(stamp(0, number), 10 * number + DELAY_NS)
    return tally, ear


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        (PERFECT, {}),
        ([0, 1, 2, 2, 3, 4, 5, 6, 7], {"repeated": 1}),
        ([0, 1, 3, 2, 4, 5, 6, 7], {"reordered": 1}),
        ([0, 1, 4, 5, 6, 7], {"missed_untold": 2, "delivered": 2}),
        # In the warm-up and after the end: order is of interest, losses are not.
        ([1, 0, 0, 2, 3, 4, 5], {"repeated": 1, "reordered": 1}),
        ([], {"missed_untold": 4, "delivered": 0}),
        (PERFECT * 2, {"repeated": 8}),
        (PERFECT[::-1], {"reordered": 7}),
    ],
)
def test_each_fault_has_its_name(numbers: list[int], wrong: dict[str, int]) -> None:
    tally, _ = listening(numbers)
    fine = {"expected": 4, "delivered": 4}
    faults = {k: v for k, v in counts_of(tally.close({0: SENT})).items() if v}
    assert faults == {k: v for k, v in (fine | wrong).items() if v}


def test_only_what_was_intended_in_the_time_is_timed() -> None:
    tally, _ = listening(PERFECT)
    assert tally.take_second().latencies == {7000: 8}
    (audience,) = audiences([tally.close({0: SENT})])
    assert audience.latency.count == 4
    assert audience.latency.max_ms == pytest.approx(7, rel=0.001)


def test_a_second_is_what_came_since_the_last() -> None:
    tally, ear = listening([0, 1, 2])
    first = tally.take_second()
    assert (first.delivered, sum(first.latencies.values())) == (3, 3)
    assert tally.take_second().delivered == 0
    ear.heard(stamp(0, 3), 30)
    ear.heard(stamp(0, 3), 30)
    assert tally.take_second().delivered == 1


def test_a_gap_that_was_told_is_no_silence() -> None:
    for missed in (2, None):
        tally, ear = listening([0, 1, 2])
        ear.told(0, missed)
        ear.heard(stamp(0, 5), DELAY_NS)
        result = tally.close({0: SENT})
        assert (result.missed_told, result.missed_untold) == (2, 0)


def test_told_of_nothing_in_particular_excuses_nothing_later() -> None:
    """The next message came right after it: what is lost then was not told."""
    tally, ear = listening([0, 1, 2])
    ear.told(None, None)
    ear.heard(stamp(0, 3), DELAY_NS)
    ear.heard(stamp(0, 5), DELAY_NS)
    result = tally.close({0: SENT})
    assert (result.missed_told, result.missed_untold) == (0, 1)


def test_a_loss_in_the_warm_up_is_no_excuse() -> None:
    tally, ear = listening([2, 5])
    ear.told(0, 3)
    result = tally.close({0: SENT})
    assert (result.missed_told, result.missed_untold) == (1, 1)


def test_who_leaves_has_missed_nothing_and_whom_the_server_ends_has() -> None:
    for ended, told, missed in (
        (False, False, (0, 0)),
        (True, False, (0, 3)),
        (True, True, (3, 0)),
    ):
        tally, ear = listening([0, 1, 2])
        if told:
            ear.told(None, None)
        ear.left(ended_by_server=ended)
        ear.left(ended_by_server=True)  # too late to change the story
        ear.heard(stamp(0, 3), DELAY_NS)
        result = tally.close({0: SENT})
        assert (result.missed_told, result.missed_untold) == missed
        assert result.ended == ended


# Of a publisher whose messages come each second, three of which are known.
MARKED = Sent(
    total=8, first=2, end=8, marks=((2, 2 * SECOND), (4, 4 * SECOND), (6, 6 * SECOND))
)


def newcomer(came_s: int | None, numbers: list[int]) -> tuple[Tally, Ear]:
    tally = Tally("churning", start_ns=2 * SECOND, end_ns=8 * SECOND)
    ear = tally.ear()
    ear.expect_from_first(0)
    if came_s is not None:
        ear.came(came_s * SECOND)
    for number in numbers:
        ear.heard(Stamp(0, number, number * SECOND), number * SECOND)
    return tally, ear


@pytest.mark.parametrize(
    ("came_s", "numbers", "expected", "missed"),
    [
        (None, [], 0, 0),  # nobody knows since when it hears
        (None, [5, 7], 3, 1),
        (3, [], 4, 4),  # 4 is the first that is known to be meant for it
        (3, [4, 5, 6, 7], 4, 0),
        (3, [3, 4, 5, 6, 7], 5, 0),  # it was earlier than it had to
        (3, [6, 7], 4, 2),
        (4, [5, 6, 7], 4, 1),
        (5, [6, 7], 2, 0),
        (7, [], 0, 0),  # of nothing is known that it was later
    ],
)
def test_who_came_must_hear_what_was_sent_from_then_on(
    came_s: int | None, numbers: list[int], expected: int, missed: int
) -> None:
    tally, _ = newcomer(came_s, numbers)
    result = tally.close({0: MARKED})
    assert (result.expected, result.missed_untold) == (expected, missed)


@pytest.mark.parametrize(
    ("came_s", "left_s", "numbers", "expected", "missed"),
    [
        (3, 6, [4], 1, 0),  # what comes after it may have been on its way
        (3, 6, [5], 2, 1),
        (3, 8, [], 3, 3),
        (3, 6, [], 1, 1),
        (3, 5, [], 0, 0),
        (0, 7, [], 3, 3),
    ],
)
def test_who_leaves_without_having_heard_anything_was_left_in_the_cold(
    came_s: int, left_s: int, numbers: list[int], expected: int, missed: int
) -> None:
    tally, ear = newcomer(came_s, numbers)
    ear.left(now_ns=left_s * SECOND)
    result = tally.close({0: MARKED})
    assert (result.expected, result.missed_untold) == (expected, missed)


def test_who_comes_back_is_the_same_client() -> None:
    tally, ear = listening([0, 1, 2])
    ear.left()
    again = tally.ear(is_new=False)
    again.expect_from_first(0)
    again.heard(stamp(0, 5), DELAY_NS)
    result = tally.close({0: SENT})
    assert (result.clients, result.expected, result.delivered) == (1, 2, 2)


def test_another_rooms_message_is_a_stray() -> None:
    tally, ear = listening(PERFECT)
    ear.heard(stamp(1, 3), DELAY_NS)
    result = tally.close({0: SENT, 1: SENT})
    assert (result.strayed, result.expected, result.delivered) == (1, 4, 4)


def test_who_said_not_what_it_sent_owes_nothing() -> None:
    tally, _ = listening(PERFECT)
    assert tally.close({}).expected == 0


def test_nobody_is_expected_twice() -> None:
    _, ear = listening([])
    with pytest.raises(ValueError, match="expected already"):
        ear.expect_from_first(0)
    ear.left()
    with pytest.raises(ValueError, match="too late"):
        ear.expect(1)


def test_early_messages_are_told() -> None:
    tally, ear = listening([])
    ear.heard(stamp(0, 0), -1)
    ear.heard(stamp(0, 2), 19)
    assert tally.close({0: SENT}).early == 2


def test_classes_are_added_up_each_by_itself() -> None:
    healthy, _ = listening(PERFECT)
    other, _ = listening([0, 1, 2])
    slow = Tally("slow", start_ns=START, end_ns=END)
    slow.ear()
    results = [tally.close({0: SENT}) for tally in (healthy, slow, other)]
    first, second = audiences(results)
    assert (first.name, first.clients, first.expected, first.delivered) == (
        "healthy",
        2,
        8,
        5,
    )
    assert second == Audience(name="slow", clients=1, latency=Latency())
    assert audiences(chain()) == ()

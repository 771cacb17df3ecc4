"""What one class of clients has heard, against what it should have."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

import msgspec

from .latencies import Latencies
from .report import Audience
from .stamp import Stamp

__all__ = ("Ear", "Second", "Sent", "Tally", "TallyResult", "audiences")

FROM_FIRST = -1  # in place of a number: whichever comes first
# What was intended so shortly before a client left may have been on its way (guess).
ON_ITS_WAY_NS = 1_000_000_000
# What of a result is added up over the processes.
SUMS = (
    "clients",
    "expected",
    "delivered",
    "repeated",
    "reordered",
    "strayed",
    "missed_told",
    "missed_untold",
    "ended",
)


class Sent(msgspec.Struct, frozen=True):
    """What a publisher has sent.

    Attributes:
        total: messages in the whole test; their numbers are 0 to ``total - 1``.
        first: the lowest number that was intended in the counted time.
        end: one more than the highest that was; ``first`` if there is none.
        marks: some numbers and when they were intended (ns), rising; about one for each
            second. By them is known what was due to who came later.
        refused: what the server has said it would not take, [(first, end)], rising:
            it is due to nobody.
    """

    total: int
    first: int
    end: int
    marks: tuple[tuple[int, int], ...] = ()
    refused: tuple[tuple[int, int], ...] = ()

    def number_from(self, at_ns: int) -> int:
        """Return the first number known to be intended at that time or later."""
        at = bisect_left(self.marks, at_ns, key=itemgetter(1))
        return self.marks[at][0] if at < len(self.marks) else self.total

    def number_before(self, at_ns: int) -> int:
        """Return one more than the last number known to be intended before that."""
        at = bisect_left(self.marks, at_ns, key=itemgetter(1))
        return self.marks[at - 1][0] + 1 if at else 0


class Second(msgspec.Struct, frozen=True):
    """What came since the last time.

    Attributes:
        delivered: first deliveries, warm-up included.
        latencies: theirs, for ``Latencies.add_counts``: {µs: times}.
    """

    delivered: int
    latencies: dict[int, int]


class TallyResult(msgspec.Struct, frozen=True, kw_only=True):
    """A class of clients of one process, at the end; for the rest see ``Audience``.

    Attributes:
        latencies: as ``Latencies.add`` takes them.
        early: messages that came before they were intended: no honest clock does that.
    """

    name: str
    clients: int
    expected: int
    delivered: int
    repeated: int
    reordered: int
    strayed: int
    missed_told: int
    missed_untold: int
    ended: int
    early: int
    latencies: str


class Tally:
    """Counts for one class of clients in one generator process.

    Messages are counted and timed if they were intended in a span of time: in it begins
    and ends what is measured, whenever they come. Order, repeats and strays are checked
    over the whole test.

    Args:
        name: of the class, as in ``Audience``.
        start_ns: first instant that counts, on ``time.monotonic_ns``'s clock (ns).
        end_ns: first that does not any more (ns, > ``start_ns``).
    """

    def __init__(self, name: str, *, start_ns: int, end_ns: int) -> None:
        self.name = name
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.repeated = 0
        self.reordered = 0
        self.strayed = 0
        self.ended = 0
        self._clients = 0
        self._ears: list[Ear] = []
        # Of what counts: all, and what came since take_second; of what does not: that.
        self._all = Latencies()
        self.counted = Latencies()
        self.uncounted = Latencies()

    def ear(self, *, is_new: bool = True) -> Ear:
        """Return a client's; it is kept to the end, as what it missed is.

        Args:
            is_new: it is no client that had one before, and counts as one more.
        """
        ear = Ear(self)
        self._ears.append(ear)
        self._clients += is_new
        return ear

    def take_second(self) -> Second:
        """Return what came since the last call; costs about a millisecond."""
        counted, uncounted = self.counted.take(), self.uncounted.take()
        self._all.add_counts(counted)
        for us, times in counted.items():
            uncounted[us] = uncounted.get(us, 0) + times
        return Second(sum(uncounted.values()), uncounted)

    def close(self, sent: Mapping[int, Sent]) -> TallyResult:
        """Return the whole.

        Args:
            sent: {publisher: what it sent}; of those who are not in it nothing was due.
        """
        self.take_second()
        expected = missed = told = 0
        for ear in self._ears:
            due, lacking, excused = ear.balance(sent)
            expected += due
            missed += lacking
            told += excused
        return TallyResult(
            name=self.name,
            clients=self._clients,
            expected=expected,
            delivered=expected - missed,
            repeated=self.repeated,
            reordered=self.reordered,
            strayed=self.strayed,
            missed_told=told,
            missed_untold=missed - told,
            ended=self.ended,
            early=self.counted.early + self.uncounted.early,
            latencies=self._all.encode(),
        )


class Ear:
    """One client: knows what it must hear. Made by ``Tally.ear``.

    It remembers a number for each publisher, and the holes before it: 100 bytes for
    each, so a server that loses every other message costs that much for each of them.
    """

    __slots__ = (
        "_at_end",
        "_came_ns",
        "_first",
        "_forgiven",
        "_holes",
        "_left_ns",
        "_next",
        "_tally",
        "_told",
        "_was_ended",
    )

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._next: dict[int, int] = {}  # {publisher: one more than the highest heard}
        self._at_end: dict[int, int] | None = None  # the same, of who is gone
        self._was_ended = False
        self._came_ns: int | None = None
        self._left_ns = 0
        # What follows has an entry only for whom there is something to say.
        self._first: dict[int, int] = {}  # {publisher: the first that is due}; else 0
        self._holes: dict[
            int, list[tuple[int, int]]
        ] = {}  # {publisher: [(first, end)]}
        self._told: dict[int | None, int] = {}  # {publisher or None: missing for good}
        self._forgiven: dict[int, int] = {}  # {publisher: where a hole may begin}

    def expect(self, publisher: int, number: int = 0) -> None:
        """All of a publisher's messages are due, from that number on.

        Raises:
            ValueError: it is expected already, or the client is gone; nothing changed.
        """
        if publisher in self._next or self._at_end is not None:
            raise ValueError(f"publisher {publisher} is expected already, or too late")
        self._next[publisher] = number
        if number > 0:
            self._first[publisher] = number

    def expect_from_first(self, publisher: int) -> None:
        """All are due from whichever comes first: for who comes while others talk.

        Without ``came`` none was due if none comes, and a server that leaves such a
        client in the cold is not seen.

        Raises:
            ValueError: it is expected already, or the client is gone; nothing changed.
        """
        self.expect(publisher, FROM_FIRST)

    def came(self, now_ns: int) -> None:
        """The server has accepted a client that expects from the first.

        What is intended from now on is due to it. If it leaves by itself, and has heard
        nothing at all, then all until a second before that.

        Args:
            now_ns: on ``time.monotonic_ns``'s clock (ns).
        """
        self._came_ns = now_ns

    def heard(self, stamp: Stamp, now_ns: int) -> None:
        """A message came; one that comes after ``left`` is not looked at.

        One of a publisher who is not expected is a stray, and so is one from before the
        first that is due.

        Args:
            now_ns: when its frame was read, on ``time.monotonic_ns``'s clock (ns).
        """
        publisher, number, intended_ns = stamp
        if self._next.get(publisher) == number:
            self._next[publisher] = number + 1
        elif not self._is_new(publisher, number):
            return
        tally = self._tally
        if tally.start_ns <= intended_ns < tally.end_ns:
            tally.counted.record(now_ns - intended_ns)
        else:
            tally.uncounted.record(now_ns - intended_ns)

    def told(self, publisher: int | None, missed: int | None) -> None:
        """The server said that messages are missing for good.

        Only sums are compared: a server that says more than are missing is forgiven as
        many that it loses without a word.

        Args:
            publisher: whose; None if it did not say.
            missed: how many; None if it did not say. Then it is what lies between the
                last message before and the first after; or, if the server ends the
                connection before there is one, all the rest.
        """
        if missed is not None:
            self._told[publisher] = self._told.get(publisher, 0) + missed
        elif publisher is None:
            self._forgiven.update(self._next)
        elif publisher in self._next:
            self._forgiven[publisher] = self._next[publisher]

    def left(self, *, ended_by_server: bool = False, now_ns: int = 0) -> None:
        """The client is gone; a second call changes nothing.

        Args:
            ended_by_server: it did not leave by itself. Then what is published from now
                on remains due, and will have been missed.
            now_ns: on ``time.monotonic_ns``'s clock (ns); needed after ``came``.
        """
        if self._at_end is None:
            self._at_end, self._next = self._next, {}
            self._was_ended = ended_by_server
            self._left_ns = now_ns
            self._tally.ended += ended_by_server

    def balance(self, sent: Mapping[int, Sent]) -> tuple[int, int, int]:
        """Return what was due, what of it is missing, and of that what it was told of.

        Of messages that count, but what it was told of is taken for the earliest that
        are missing, and those may be of the warm-up.
        """
        expected = missing = told = before = 0
        for publisher, heard_to in (self._at_end or self._next).items():
            if publisher not in sent:
                continue
            does_count = sent[publisher]
            first, holes, end = self._due(publisher, heard_to, does_count)
            low = max(first, does_count.first)
            high = max(min(end, does_count.end), low)
            never = list(common(holes, does_count.refused))
            spared = sum(overlap(part, low, high) for part in never)
            lacking = sum(overlap(hole, low, high) for hole in holes) - spared
            earlier = sum(overlap(hole, 0, low) for hole in holes)
            earlier -= sum(overlap(part, 0, low) for part in never)
            credit = self._told.get(publisher, 0)
            if self._was_ended and self._forgiven.get(publisher) == heard_to:
                credit += max(end - heard_to, 0)
            excused = min(max(credit - earlier, 0), lacking)
            expected += high - low - spared
            missing += lacking
            told += excused
            before += max(earlier - credit, 0)
        anyone = self._told.get(None, 0)
        told += min(max(anyone - before, 0), missing - told)
        return expected, missing, told

    def _due(
        self, publisher: int, heard_to: int, sent: Sent
    ) -> tuple[int, list[tuple[int, int]], int]:
        """Return the first number that was due, what is missing, and the end."""
        stays = self._at_end is None or self._was_ended
        end = sent.total if stays else heard_to
        first = heard_first = self._first.get(publisher, 0)
        if self._came_ns is not None:
            first = sent.number_from(self._came_ns)
        if heard_to == FROM_FIRST:
            if self._came_ns is None:
                return 0, [], 0
            if not stays:
                end = sent.number_before(self._left_ns - ON_ITS_WAY_NS)
            return first, [(first, end)], end
        if self._came_ns is not None:
            first = min(first, heard_first)
        holes = self._holes.get(publisher, ())
        return first, [(first, heard_first), *holes, (heard_to, end)], end

    def _is_new(self, publisher: int, number: int) -> bool:
        """Judge what is not the next one; False for what came before, or is not due."""
        heard_to = self._next.get(publisher)
        if heard_to is None:
            self._tally.strayed += self._at_end is None
            return False
        if number > heard_to:
            if heard_to == FROM_FIRST:
                self._first[publisher] = number
            else:
                self._holes.setdefault(publisher, []).append((heard_to, number))
                if self._forgiven.get(publisher) == heard_to:
                    self.told(publisher, number - heard_to)
            self._next[publisher] = number + 1
            return True
        if number < (first := self._first.get(publisher, 0)):
            if heard_to > first:
                self._tally.reordered += 1
            else:
                self._tally.strayed += 1
            return False
        if not self._fills(publisher, number):
            self._tally.repeated += 1
            return False
        self._tally.reordered += 1
        return True

    def _fills(self, publisher: int, number: int) -> bool:
        """Take a number out of the hole it is in; False if it is in none."""
        holes = self._holes.get(publisher, [])
        at = bisect_right(holes, number, key=lambda hole: hole[0]) - 1
        if at < 0 or number >= holes[at][1]:
            return False
        first, end = holes[at]
        parts = ((first, number), (number + 1, end))
        holes[at : at + 1] = [part for part in parts if part[0] < part[1]]
        return True


def overlap(hole: tuple[int, int], low: int, high: int) -> int:
    """Return how many numbers of a hole are in ``range(low, high)``."""
    return max(min(hole[1], high) - max(hole[0], low), 0)


def common(
    ones: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield what is in both of two rising lists of ranges."""
    at = 0
    for first, end in ones:
        while at < len(others) and others[at][1] <= first:
            at += 1
        beyond = at
        while beyond < len(others) and others[beyond][0] < end:
            yield max(first, others[beyond][0]), min(end, others[beyond][1])
            beyond += 1


def audiences(results: Iterable[TallyResult]) -> tuple[Audience, ...]:
    """Add up what all processes found, class by class."""
    classes: dict[str, list[TallyResult]] = {}
    for result in results:
        classes.setdefault(result.name, []).append(result)
    return tuple(audience(name, parts) for name, parts in classes.items())


def audience(name: str, parts: Iterable[TallyResult]) -> Audience:
    sums: dict[str, int] = dict.fromkeys(SUMS, 0)
    latencies = Latencies()
    for part in parts:
        latencies.add(part.latencies)
        for field in SUMS:
            sums[field] += getattr(part, field)
    return Audience(name=name, latency=latencies.summary(), **sums)

"""What a subscriber is told about what it has missed: all of it, or that it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from broker import Message, Overflow, Position, Resume, TopicRules
from broker.protocol.codec import publication_of
from broker.protocol.codes import Errors
from broker.protocol.frames import Error, Subscribe, SubscribeResult
from broker.protocol.recovery import Recovery
from broker.protocol.tokens import SubscribeGrant
from broker.state.history import History

MOST = 3


def outcome(
    request: Subscribe,
    missed: list[Message],
    *,
    top: int = 0,
    is_whole: bool = True,
    is_recoverable: bool = True,
    grant: SubscribeGrant | None = None,
    ttl: int = 0,
) -> SubscribeResult | Error:
    rules = TopicRules(history_size=10 if is_recoverable else 0)
    recovery = Recovery(request, rules, max_recovered=MOST)
    return recovery.outcome(
        start=Position("e", top),
        is_whole=is_whole,
        missed=missed,
        publication=publication_of,
        grant=grant or SubscribeGrant(),
        ttl=ttl,
    )


def messages(first: int, last: int) -> list[Message]:
    return [
        Message("c", str(number), Position("e", number))
        for number in range(first, last + 1)
    ]


def test_what_the_token_says_is_passed_on() -> None:
    grant = SubscribeGrant(data=Raw(b'"hi"'), expires_at=5.0)
    result = outcome(Subscribe(), [], grant=grant, ttl=7)
    assert isinstance(result, SubscribeResult)
    assert (result.expires, result.ttl, bytes(result.data)) == (True, 7, b'"hi"')
    result = outcome(Subscribe(), [])
    assert isinstance(result, SubscribeResult)
    assert (result.expires, result.ttl) == (False, 0)


def test_as_many_as_may_be_and_one_more() -> None:
    request = Subscribe(recover=True, epoch="e", offset=1)
    result = outcome(request, messages(2, 4), top=1)
    assert isinstance(result, SubscribeResult)
    assert (result.recovered, result.offset) == (True, 1)
    result = outcome(request, messages(2, 5), top=1)
    assert isinstance(result, SubscribeResult)
    assert (result.recovered, result.offset) == (False, 5)
    assert result.publications == []


def test_only_bit_2_refuses() -> None:
    for flag in (0, 1, 4, 5):
        request = Subscribe(recover=True, flag=flag)
        assert isinstance(outcome(request, [], is_whole=False), SubscribeResult)
    for flag in (2, 3, 7):
        request = Subscribe(recover=True, flag=flag)
        told = outcome(request, [], is_whole=False)
        assert told is Errors.UNRECOVERABLE_POSITION
        # It is about recovery: who did not ask for it is not refused.
        assert isinstance(outcome(Subscribe(flag=flag), []), SubscribeResult)


@given(
    top=st.integers(0, 8),
    size=st.integers(0, 6),
    recover=st.booleans(),
    offset=st.integers(0, 10),
    epoch=st.sampled_from(["e", "other"]),
    flag=st.integers(0, 3),
    is_recoverable=st.booleans(),
)
def test_against_the_whole_stream(
    *,
    top: int,
    size: int,
    recover: bool,
    offset: int,
    epoch: str,
    flag: int,
    is_recoverable: bool,
) -> None:
    """The specification, 1.9, on a list of numbers: all after the offset, or none."""
    history = History("e")
    for number in range(1, top + 1):
        message = Message("c", str(number), history.advance())
        history.keep(message, size=size, expires_at=1_000)
    request = Subscribe(
        channel="c", recover=recover, offset=offset, epoch=epoch, flag=flag
    )
    rules = TopicRules(history_size=10 if is_recoverable else 0)
    recovery = Recovery(request, rules, max_recovered=MOST)
    assert recovery.needs_missed == (recover and is_recoverable)
    known = history.since(Position(epoch, offset), 0) if recovery.needs_missed else None
    result = recovery.outcome(
        start=history.position if known is None else Position(epoch, offset),
        is_whole=known is not None,
        missed=known or [],
        publication=publication_of,
        grant=SubscribeGrant(),
        ttl=0,
    )
    kept = list(range(max(1, top - size + 1), top + 1))
    missed = list(range(offset + 1, top + 1))
    is_fine = (
        recover
        and is_recoverable
        and epoch == "e"
        and offset <= top
        and set(missed) <= set(kept)
        and len(missed) <= MOST
    )
    if recover and not is_fine and flag & 2:
        assert result is Errors.UNRECOVERABLE_POSITION
        return
    assert isinstance(result, SubscribeResult)
    assert result.was_recovering == recover
    assert result.recovered == is_fine
    assert [each.offset for each in result.publications] == (missed if is_fine else [])
    assert result.offset == (offset if is_fine else top)
    assert result.recoverable == result.positioned == is_recoverable
    assert result.epoch == ("e" if is_recoverable else "")


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("resume", Resume)
@pytest.mark.parametrize("size", [0, 5])
def test_what_is_said_of_a_channel(
    overflow: Overflow, resume: Resume, size: int
) -> None:
    """Positioned only where a loss ends the subscription."""
    if resume is Resume.LATEST and not size:
        return  # refused by the rules
    rules = TopicRules(overflow=overflow, resume=resume, history_size=size)
    request = Subscribe(recover=True, epoch="e", offset=2)
    recovery = Recovery(request, rules, max_recovered=MOST)
    is_recoverable = size > 0 and resume is not Resume.NOTHING
    assert recovery.needs_latest == (is_recoverable and resume is Resume.LATEST)
    assert recovery.needs_missed == (is_recoverable and resume is Resume.MISSED)
    result = recovery.outcome(
        start=Position("e", 2),
        is_whole=True,
        missed=[],
        publication=publication_of,
        grant=SubscribeGrant(),
        ttl=0,
    )
    assert isinstance(result, SubscribeResult)
    assert result.recoverable == is_recoverable
    # No message is dropped for a publisher's sake either: BLOCK is for code, and a
    # client has DISCONNECT there.
    is_lossless = overflow in (Overflow.DISCONNECT, Overflow.BLOCK)
    assert result.positioned == (is_recoverable and is_lossless)
    assert bool(result.epoch) == is_recoverable


@given(
    top=st.integers(0, 5),
    is_kept=st.booleans(),
    offset=st.integers(0, 7),
    epoch=st.sampled_from(["e", "", "other"]),
    flag=st.integers(0, 3),
)
def test_the_latest(
    *, top: int, is_kept: bool, offset: int, epoch: str, flag: int
) -> None:
    """The last message if it is kept, and not again to who has it."""
    rules = TopicRules(history_size=1, resume=Resume.LATEST)
    request = Subscribe(recover=True, offset=offset, epoch=epoch, flag=flag)
    recovery = Recovery(request, rules, max_recovered=MOST)
    is_there = is_kept and top > 0
    result = recovery.outcome(
        start=Position("e", top),
        is_whole=True,
        missed=messages(top, top) if is_there else [],
        publication=publication_of,
        grant=SubscribeGrant(),
        ttl=0,
    )
    if flag & 2 and not is_there:
        assert result is Errors.UNRECOVERABLE_POSITION
        return
    assert isinstance(result, SubscribeResult)
    assert (result.recovered, result.was_recovering) == (is_there, True)
    assert (result.epoch, result.offset) == ("e", top)
    has_it = (epoch, offset) == ("e", top)
    found = [each.offset for each in result.publications]
    assert found == ([top] if is_there and not has_it else [])


def test_a_last_message_that_is_not_the_top() -> None:
    """It is an old value, and nobody says so: not recovered."""
    rules = TopicRules(history_size=1, resume=Resume.LATEST)
    recovery = Recovery(Subscribe(recover=True), rules, max_recovered=MOST)
    result = recovery.outcome(
        start=Position("e", 3),
        is_whole=True,
        missed=messages(2, 2),
        publication=publication_of,
        grant=SubscribeGrant(),
        ttl=0,
    )
    assert isinstance(result, SubscribeResult)
    assert not result.recovered
    assert result.publications == []

"""What every backplane's history must pass."""

from __future__ import annotations

from broker.backplane import Link
from broker.config import TopicRules
from broker.errors import RecoveryImpossible
from broker.message import Position

from .pair import KEPT, LOST, Pair, expect, fill, payloads, publish

__all__ = ("check_clearing", "check_pages", "check_recovery", "check_trimming")


async def check_pages(pair: Pair) -> None:
    topic = f"{pair.base}.pages"
    positions = await fill(pair.first, topic, 6, KEPT)
    after = positions[1]

    async def check(
        expected: str, since: Position | None, limit: int | None, reverse: bool
    ) -> None:
        page = await pair.second.history(
            topic, since=since, limit=limit, reverse=reverse
        )
        found = payloads(page.messages)
        options = f"since={since and since.offset}, limit={limit}, reverse={reverse}"
        expect(found == list(expected), f"history({options}) is {expected!r}", found)
        expect(page.position == positions[-1], "a page says where the stream ends")

    await check("123456", None, None, False)
    await check("654321", None, None, True)
    await check("123", None, 3, False)
    await check("654", None, 3, True)
    await check("", None, 0, False)
    await check("3456", after, None, False)
    await check("6543", after, None, True)
    await check("34", after, 2, False)
    await check("65", after, 2, True)
    await check("", positions[-1], None, False)
    page = await pair.first.history(topic)
    found = [message.position for message in page.messages]
    expect(found == positions, "kept messages have their positions", found)


async def _refuses(link: Link, topic: str, since: Position, why: str) -> None:
    try:
        page = await link.history(topic, since=since)
    except RecoveryImpossible:
        return
    raise AssertionError(
        f"RecoveryImpossible is raised {why}; found {payloads(page.messages)!a}"
    )


async def check_recovery(pair: Pair) -> None:
    topic = f"{pair.base}.recovery"
    first, *_, last = await fill(pair.first, topic, 3, KEPT)
    other = Position(f"{last.epoch}0", first.offset)
    await _refuses(pair.second, topic, other, "for another epoch")
    beyond = Position(last.epoch, last.offset + 1)
    await _refuses(pair.second, topic, beyond, "for an offset never given out")
    unknown = f"{pair.base}.unknown"
    await _refuses(pair.second, unknown, first, "for a topic that nobody knows")
    page = await pair.second.history(unknown)
    expect(
        (page.messages, page.position) == ([], None),
        "history of an unknown topic is empty and has no position",
        page,
    )
    hole = f"{pair.base}.hole"
    await pair.subscribe(hole, KEPT)
    before = (await publish(pair.first, hole, "a", KEPT)).position
    lost = (await publish(pair.first, hole, "b", LOST)).position
    await publish(pair.first, hole, "c", KEPT)
    await _refuses(pair.second, hole, before, "where a message was not kept")
    page = await pair.second.history(hole, since=lost)
    expect(payloads(page.messages) == ["c"], "what is after a hole is kept", page)


async def check_trimming(pair: Pair) -> None:
    topic = f"{pair.base}.trim"
    positions = await fill(pair.first, topic, 5, TopicRules(history_size=3))
    page = await pair.second.history(topic, since=positions[1])
    expect(payloads(page.messages) == list("345"), "history_size are kept", page)
    await _refuses(pair.second, topic, positions[0], "for what was trimmed")
    heavy = f"{pair.base}.heavy"
    rules = TopicRules(history_size=10, history_bytes=100)
    for text in "abc":
        await publish(pair.first, heavy, text * 40, rules)
    page = await pair.second.history(heavy)
    expect(
        payloads(page.messages) == ["b" * 40, "c" * 40],
        "at most history_bytes are kept",
        page,
    )
    await publish(pair.first, heavy, "d" * 101, rules)
    page = await pair.second.history(heavy)
    expect(page.messages == [], "a message above history_bytes is not kept", page)


async def check_clearing(pair: Pair) -> None:
    topic = f"{pair.base}.clear"
    await pair.subscribe(topic, KEPT)
    positions = await fill(pair.first, topic, 3, KEPT)
    await pair.second.clear_history(topic)
    page = await pair.first.history(topic)
    expect(
        (page.messages, page.position) == ([], positions[-1]),
        "clear_history forgets the messages and leaves the position",
        page,
    )
    await _refuses(pair.first, topic, positions[1], "for what was cleared")
    following = (await publish(pair.first, topic, "4", KEPT)).position
    expected = Position(positions[-1].epoch, positions[-1].offset + 1)
    expect(following == expected, "offsets go on after clear_history", following)

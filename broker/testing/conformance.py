"""What every backplane must pass, the one in memory and those of adapters."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import anyio
import anyio.lowlevel

from broker.backplane import Backplane, Link, Published
from broker.broker import Broker
from broker.config import Limits, TopicRules
from broker.message import Item, Payload, Position, size_of
from broker.state.presence import Member
from broker.tasks import collapsing

from .conformance_history import (
    check_clearing,
    check_pages,
    check_recovery,
    check_trimming,
)
from .pair import KEPT, LOST, PATIENCE_S, Pair, Recorder, expect, payloads, publish

__all__ = ("check_backplane",)

# Every character that a glob, a key or a shell could take for something else.
ODD_TOPIC = "a:b/[c]?{d}\\^~!'\"`$|%;(e)=,#@&+-_"


async def check_backplane(make: Callable[[], Backplane]) -> None:
    """Check what ``Backplane`` and ``Link`` promise, with two nodes on one backplane.

    On any event loop, and with any clock. Topics have names of their own, so the engine
    may be in use. It takes some hundred calls.

    Args:
        make: returns what a node connects by; each time the same, or another one that
            leads to the same engine.

    Raises:
        AssertionError: a promise is broken; it says which.
    """
    limits = Limits()
    for check in (
        _order,
        _idempotency,
        _exclusion,
        check_pages,
        check_recovery,
        check_trimming,
        check_clearing,
        _presence,
        _patterns,
        _interest,
        _cancellation,
        _news,
        _contents,
    ):
        one, two = Recorder(), Recorder()
        with collapsing():  # the failed check, and not a group of it
            async with (
                make().connect(one, limits) as first,
                make().connect(two, limits) as second,
            ):
                await check(Pair(one, two, first, second, f"check-{uuid4().hex}"))
    await _resume(make)


async def _order(pair: Pair) -> None:
    """One order for all nodes, dense, and each publisher's own in it."""
    topic = f"{pair.base}.order"
    start = await pair.subscribe(topic)
    positions: dict[Payload, Position] = {}

    async def publisher(link: Link, name: str) -> None:
        for number in range(20):
            text = f"{name}:{number}"
            positions[text] = (await publish(link, topic, text)).position

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(publisher, pair.first, name)
            tasks.start_soon(publisher, pair.second, name.upper())
    await publish(pair.first, topic, "end")
    for node in pair.nodes:
        found = (await node.wait(topic, "end"))[:-1]
        offsets = [each.position.offset for each in found if each.position]
        first = start.offset + 1
        expect(
            offsets == list(range(first, first + len(positions))),
            "offsets are dense, and messages come in their order",
            offsets,
        )
        for message in found:
            expect(
                positions[message.payload] == message.position,
                "publish returns the position that nodes see",
                (positions[message.payload], message.position),
            )
        for name in "abcABC":
            own = [text for text in payloads(found) if str(text).startswith(name)]
            expect(
                own == [f"{name}:{number}" for number in range(20)],
                "a publisher's messages come in the order published",
                own,
            )


async def _idempotency(pair: Pair) -> None:
    topic = f"{pair.base}.once"
    await pair.subscribe(topic, KEPT)
    original = await publish(pair.first, topic, "a", KEPT, message_id="x 1")
    again = await publish(pair.second, topic, "a", KEPT, message_id="x 1")
    expect(not original.duplicate, "the first publish with an id is no duplicate")
    expect(
        again == Published(original.position, duplicate=True),
        "a second publish with the same id, on any node, does nothing",
        again,
    )
    elsewhere = await publish(pair.second, f"{topic}.b", "a", message_id="x 1")
    expect(not elsewhere.duplicate, "an id is known per topic")
    await publish(pair.first, topic, "end", KEPT)
    for node in pair.nodes:
        found = payloads(await node.wait(topic, "end"))
        expect(found == ["a", "end"], "a duplicate is not delivered", found)


async def _exclusion(pair: Pair) -> None:
    topic = f"{pair.base}.exclude"
    await pair.subscribe(topic)
    await publish(pair.first, topic, "a", exclude="somebody")
    await publish(pair.first, topic, "b")
    for node in pair.nodes:
        await node.wait(topic, "b")
        told = [exclude for message, exclude in node.got if message.topic == topic]
        expect(told == ["somebody", None], "exclude travels to every node", told)


async def _presence(pair: Pair) -> None:
    topic = f"{pair.base}.presence"
    ann, bob = Member("c1", "ann", '{"n":"é"}'), Member("c2")
    expect(await pair.first.enter(topic, ann), "entering says that it is new")
    expect(await pair.second.enter(topic, bob), "entering says that it is new")
    older = Member("c1", "ann", '{"n":2}')
    expect(not await pair.first.enter(topic, older), "entering again is not new")
    for link in (pair.first, pair.second):
        found = await link.members(topic)
        expect(found == [older, bob], "members are those of all nodes", found)
    expect(await pair.first.leave(topic, "c1"), "leaving says that it was there")
    expect(not await pair.first.leave(topic, "c1"), "leaving twice says so")
    found = await pair.second.members(topic)
    expect(found == [bob], "who has left is no member", found)
    await pair.second.leave(topic, "c2")
    expect(await pair.first.members(topic) == [], "the last one can leave")


async def _patterns(pair: Pair) -> None:
    base = pair.base
    names = {f"{base}.*", f"{base}.>", f"{base}.*.c", f"{base}.b"}
    for name in names:
        position = await pair.first.subscribe(name, LOST)
        is_topic = name == f"{base}.b"
        expect(is_topic == (position is not None), "only a topic has a position", name)
    await pair.second.subscribe(f"{base}.*", LOST)
    topics = [f"{base}.b", f"{base}.b.c", f"{base}.b.x.c", base, f"{base}x.b"]
    for topic in (*topics, f"$presence.{base}.b"):
        await publish(pair.second, topic, topic)
    await publish(pair.second, f"{base}.end", "end")
    for node, expected in ((pair.one, topics[:3]), (pair.two, topics[:1])):
        await node.wait(f"{base}.end", "end")
        found = [message.topic for message, _ in node.got][:-1]
        expect(
            found == expected,
            "patterns bring what they cover, each message once",
            found,
        )
    await pair.first.unsubscribe(f"{base}.>")
    await publish(pair.second, f"{base}.b.x.c", "late")
    await publish(pair.second, f"{base}.b.c", "end")
    await pair.one.wait(f"{base}.b.c", "end")
    late = payloads(pair.one.of(f"{base}.b.x.c"))
    expect("late" not in late, "a pattern can be left on its own", late)


async def _interest(pair: Pair) -> None:
    topic, other = f"{pair.base}.interest", f"{pair.base}.other"
    await pair.subscribe(other)
    await publish(pair.first, topic, "before", KEPT)
    start = await pair.first.subscribe(topic, KEPT)
    await publish(pair.second, topic, "during", KEPT)
    found = await pair.one.wait(topic, "during")
    expect(payloads(found) == ["during"], "subscribing begins with now", found)
    position = found[0].position
    expect(
        start is not None
        and position == Position(start.epoch, start.offset + 1)
        and start.offset == 1,
        "subscribe returns the position before the first message delivered",
        (start, position),
    )
    await pair.first.unsubscribe(topic)
    await publish(pair.second, topic, "after", KEPT)
    await publish(pair.second, other, "end")
    for node in pair.nodes:
        await node.wait(other, "end")
    expect(len(pair.one.of(topic)) == 1, "who has unsubscribed gets nothing")
    expect(not pair.two.of(topic), "who has not subscribed gets nothing")
    again = await pair.first.subscribe(topic, KEPT)
    expect(
        start is not None and again == Position(start.epoch, 3),
        "a topic with history keeps its epoch while nobody subscribes",
        again,
    )


async def _cancellation(pair: Pair) -> None:
    """Publish, and be cancelled 0, 1, 2 … ticks later."""
    topic = f"{pair.base}.cancel"
    start = await pair.subscribe(topic)
    for ticks in range(12):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, pair.first, topic, str(ticks))
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    await publish(pair.first, topic, "end")
    one, two = [await node.wait(topic, "end") for node in pair.nodes]
    expect(one == two, "a cancelled publish reaches all nodes or none", (one, two))
    offsets = [each.position.offset for each in one if each.position]
    expect(
        offsets == list(range(start.offset + 1, start.offset + 1 + len(one))),
        "a cancelled publish leaves no hole",
        offsets,
    )
    expect(len(set(payloads(one))) == len(one), "nothing is published twice", one)


async def _news(pair: Pair) -> None:
    """What one node tells, the others hear, and it does not."""
    await pair.first.tell(b"\x00 one")
    await pair.second.tell(b"two")
    heard = [await pair.one.wait_news(b"two"), await pair.two.wait_news(b"\x00 one")]
    expect(heard == [[b"two"], [b"\x00 one"]], "all other nodes hear news", heard)


async def _contents(pair: Pair) -> None:
    """What goes in comes out, of the same type, live and from history."""
    names = [ODD_TOPIC, f"{pair.base}{'~' * (255 - len(pair.base))}"]
    contents: list[Payload] = ["", b"", "é€😀\x00\r\n", bytes(range(256)), "x" * 65_000]
    contents += [b"\xff" * 65_536, "end"]
    headers = {"": "", "Ünï": "cödé\n", "x": "y" * 100}
    for topic in names:
        await pair.first.subscribe(topic, KEPT)
        await pair.second.clear_history(topic)
        for payload in contents:
            await publish(pair.second, topic, payload, KEPT, headers=headers)
        live = await pair.one.wait(topic, "end")
        page = await pair.first.history(topic)
        for found in (live, page.messages):
            expect(payloads(found) == contents, "payloads arrive as they are")
            expect(
                all(dict(each.headers) == headers for each in found),
                "headers arrive as they are",
                [dict(each.headers) for each in found],
            )
            sizes = [message.size_bytes for message in found]
            expect(
                sizes == [size_of(payload) for payload in contents],
                "messages keep what they cost",
                sizes,
            )


async def _resume(make: Callable[[], Backplane]) -> None:
    """A subscriber that moves to the other node goes on where it was."""
    topic = f"check-{uuid4().hex}.resume"
    rules = [TopicRules(history_size=10)]
    async with Broker(make(), rules=rules) as one, Broker(make(), rules=rules) as two:
        receipt = await one.publish(topic, "a")
        for text in "bc":
            await one.publish(topic, text)
        async with two.subscribe(topic, since=receipt.position) as subscription:
            expect(subscription.recovered, "another node can resume a subscriber")
            await one.publish(topic, "d")
            found: list[Item] = []
            with anyio.move_on_after(PATIENCE_S):
                while len(found) < 3:
                    found.append(await subscription.receive())
            expect(
                [getattr(item, "payload", item) for item in found] == list("bcd"),
                "resume brings what was missed, then what is new, each once",
                found,
            )

"""Clients of the Centrifuge protocol that get changes instead of publications."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import Broker, Limits, Overflow, Resume, TopicRules
from broker.testing import FaultyBackplane
from tests.model.test_delta import apply_delta

from .client_helpers import Client, protocol, serving

DRAWN = settings(
    max_examples=40,
    deadline=None,
    # The clock goes on from example to example, which is what clocks do.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LONG = "Ёлка 🎄 и снег, un café, plain words; " * 8


def rules(**options: Any) -> list[TopicRules]:
    return [TopicRules(delta=True, **{"history_size": 100, **options})]


def document(number: int, note: str = "") -> str:
    """Return JSON that differs little from one number to the next."""
    fields = {"number": number, "text": LONG, "note": note}
    return json.dumps(fields, ensure_ascii=False)


class Reader:
    """What an SDK makes of a channel's publications with deltas.

    Attributes:
        got: {offset: payload}.
        changes: publications that were changes.
        top: offset of the last one.
        epoch: of the stream.
    """

    def __init__(self) -> None:
        self.got: dict[int, str] = {}
        self.changes = 0
        self.top = 0
        self.epoch = ""
        self._last = b""

    def take(self, publication: Any) -> str:
        """Return the payload that a publication stands for."""
        data = publication["data"].encode()
        if publication.get("delta"):
            self.changes += 1
            data = apply_delta(self._last, data)
        self._last = data
        offset = publication["offset"]
        assert offset > self.top
        self.top = offset
        self.got[offset] = data.decode()
        return self.got[offset]

    def take_reply(self, reply: Any) -> Any:
        """Take what a subscribe reply brings, which are never changes."""
        self.epoch = reply.get("epoch", "")
        if not reply.get("recovered"):
            self.top = reply.get("offset", 0)
        for publication in reply.get("publications", []):
            assert "delta" not in publication
            self.take(publication)
        return reply


async def subscribed(client: Client, reader: Reader, **fields: Any) -> Any:
    reply = await client.call("subscribe", channel="c", delta="fossil", **fields)
    assert reply["delta"]
    return reader.take_reply(reply)


async def take(client: Client, reader: Reader) -> None:
    """Take all that has come; it must be publications."""
    for line in await client.rest():
        reader.take(line["push"]["pub"])


async def test_first_all_of_it_then_changes() -> None:
    async with Broker(rules=rules()) as broker, serving(broker) as client:
        reader = Reader()
        await subscribed(client, reader)
        for number in range(1, 4):
            await broker.publish("c", document(number))
            push = (await client.push())["pub"]
            assert push.get("delta", False) == (number > 1)
            assert reader.take(push) == document(number)
            assert len(push["data"]) < 60 or number == 1


@pytest.mark.parametrize(
    ("asked", "is_allowed"), [("fossil", False), ("", True), ("xdelta", True)]
)
async def test_only_if_both_want_it(asked: str, is_allowed: bool) -> None:
    async with Broker(rules=rules() if is_allowed else ()) as broker:
        async with serving(broker) as client:
            reply = await client.call("subscribe", channel="c", delta=asked)
            assert "delta" not in reply
            for number in (1, 2):
                await broker.publish("c", document(number))
                push = (await client.push())["pub"]
                assert "delta" not in push
                assert push["data"] == json.loads(document(number))


async def test_without_history() -> None:
    """The stream has positions all the same."""
    async with Broker(rules=rules(history_size=0)) as broker:
        async with serving(broker) as client:
            reader = Reader()
            await subscribed(client, reader)
            for number in range(3):
                await broker.publish("c", document(number))
            await take(client, reader)
            assert list(reader.got.values()) == [document(each) for each in range(3)]
            assert reader.changes == 2


async def test_clients_of_both_kinds_in_one_channel() -> None:
    async with Broker(rules=rules()) as broker:
        async with serving(broker) as client, serving(broker) as plain:
            reader = Reader()
            await subscribed(client, reader)
            await plain.call("subscribe", channel="c")
            for number in range(1, 4):
                await broker.publish("c", document(number))
                data = (await plain.push())["pub"]["data"]
                assert data == json.loads(document(number))
            await take(client, reader)
            assert reader.got[3] == document(3)
            page = await client.call("history", channel="c", limit=-1)
            found = [each["data"]["number"] for each in page["publications"]]
            assert found == [1, 2, 3]


@pytest.mark.parametrize("missed", [0, 1, 3])
async def test_changes_go_on_from_what_was_recovered(missed: int) -> None:
    async with Broker(rules=rules()) as broker, serving(broker) as client:
        reader = Reader()
        await broker.publish("c", document(0))
        epoch = (await subscribed(client, reader))["epoch"]
        await broker.publish("c", document(1))
        await take(client, reader)
        await client.call("unsubscribe", channel="c")
        for number in range(2, 2 + missed):
            await broker.publish("c", document(number))
        reply = await subscribed(
            client, reader, recover=True, offset=reader.top, epoch=epoch
        )
        assert len(reply.get("publications", [])) == missed
        await broker.publish("c", document(9))
        push = (await client.push())["pub"]
        assert push.get("delta", False) == bool(missed)
        assert reader.take(push) == document(9)


async def test_not_recovered_begins_with_all_of_it() -> None:
    async with Broker(rules=rules(history_size=2)) as broker:
        async with serving(broker) as client:
            for number in range(5):
                await broker.publish("c", document(number))
            reader = Reader()
            reply = await subscribed(client, reader, recover=True, offset=1)
            assert "recovered" not in reply
            await broker.publish("c", document(5))
            push = (await client.push())["pub"]
            assert "delta" not in push
            assert reader.take(push) == document(5)


@pytest.mark.parametrize("resume", [Resume.MISSED, Resume.LATEST])
async def test_what_was_found_and_not_sent_is_no_base(resume: Resume) -> None:
    """More than may be recovered, or the value that the client has already."""
    spoken = protocol(max_recovered=1)
    async with Broker(rules=rules(resume=resume)) as broker:
        async with serving(broker, spoken) as client:
            epoch = (await broker.publish("c", document(1))).position.epoch
            for number in (2, 3):
                await broker.publish("c", document(number))
            reader = Reader()
            since = 1 if resume is Resume.MISSED else 3
            reply = await subscribed(
                client, reader, recover=True, offset=since, epoch=epoch
            )
            assert reply.get("recovered", False) == (resume is Resume.LATEST)
            assert "publications" not in reply
            await broker.publish("c", document(4))
            push = (await client.push())["pub"]
            assert "delta" not in push
            assert reader.take(push) == document(4)


async def test_the_change_is_made_once_for_all() -> None:
    """Who is as far gets the same frame: not an equal one."""
    async with Broker(rules=rules()) as broker:
        async with serving(broker) as one, serving(broker) as two:
            for client in (one, two):
                await subscribed(client, Reader())
            for number in range(4):
                await broker.publish("c", document(number))
                mine, yours = await one.pipe.receive(), await two.pipe.receive()
                assert mine is yours
                assert ('"delta":true' in str(mine)) == bool(number)


@pytest.mark.parametrize("way", ["unsubscribe", "server", "gap", "refused", "bye"])
async def test_a_channel_that_is_left_keeps_nothing(way: str) -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules()) as broker:
        async with serving(broker, user="ann") as client:
            encoders = client.session.actor.writer.framer.encoders
            if way == "refused":
                code = await client.error(
                    "subscribe",
                    channel="c",
                    delta="fossil",
                    recover=True,
                    epoch="other",
                    flag=2,
                )
                assert code == 112
                assert not encoders
                return
            await subscribed(client, Reader())
            await broker.publish("c", document(1))
            assert list(encoders) == ["c"]
            if way == "unsubscribe":
                await client.ask("unsubscribe", channel="c")
            elif way == "server":
                await broker.unsubscribe_client("c", user="ann")
            elif way == "gap":
                faults.drop_next = 1
                await broker.publish("c", document(2))
                await broker.publish("c", document(3))
            else:
                assert await broker.disconnect(user="ann") == 1
                return
            await client.rest()
            assert not encoders


async def test_subscribed_again_without_changes() -> None:
    async with Broker(rules=rules()) as broker, serving(broker) as client:
        await subscribed(client, Reader())
        await client.call("unsubscribe", channel="c")
        assert "delta" not in await client.call("subscribe", channel="c")
        for number in (1, 2):
            await broker.publish("c", document(number))
            assert (await client.push())["pub"]["data"]["number"] == number


async def test_a_gap_begins_with_all_of_it_again() -> None:
    faults = FaultyBackplane()
    async with Broker(faults, rules=rules()) as broker, serving(broker) as client:
        reader = Reader()
        epoch = (await subscribed(client, reader))["epoch"]
        await broker.publish("c", document(1))
        faults.drop_next = 1
        await broker.publish("c", document(2))
        await broker.publish("c", document(3))
        first, second = await client.rest()
        assert reader.take(first["push"]["pub"]) == document(1)
        assert second["push"]["unsubscribe"]["code"] == 2500
        await subscribed(client, reader, recover=True, offset=1, epoch=epoch)
        await broker.publish("c", document(4))
        push = (await client.push())["pub"]
        assert push["delta"]
        reader.take(push)
        assert reader.got == {number: document(number) for number in range(1, 5)}


@pytest.mark.parametrize("overflow", [Overflow.CONFLATE, Overflow.DROP_OLDEST])
async def test_where_publications_are_dropped(overflow: Overflow) -> None:
    """What was dropped is no base: each payload is exact, and the last one comes."""
    limits = Limits(max_outbox_messages=4)
    async with Broker(rules=rules(overflow=overflow), limits=limits) as broker:
        async with serving(broker, capacity=0) as client:
            reader = Reader()
            await subscribed(client, reader)
            draw = random.Random(overflow.value)
            for number in range(1, 200):
                await broker.publish("c", document(number))
                if draw.random() < 0.4:
                    await take(client, reader)
            await take(client, reader)
            assert reader.got[199] == document(199)
            assert 20 < len(reader.got) < 190
            assert reader.changes > 10
            for offset, payload in reader.got.items():
                assert payload == document(offset)


async def test_left_out_of_a_publication() -> None:
    async with Broker(rules=rules()) as broker, serving(broker) as client:
        reader = Reader()
        await subscribed(client, reader)
        for number in range(1, 7):
            left_out = client.session if number in (2, 3, 5) else None
            await broker.publish("c", document(number), exclude=left_out)
        await take(client, reader)
        assert reader.got == {number: document(number) for number in (1, 4, 6)}
        assert reader.changes == 0


@pytest.mark.parametrize(
    "payloads",
    [
        ["x" * 60_000, "x" * 60_000 + "y"],
        ['"' + "\\u0000" * 9_000 + '"', '"' + "\\u0000" * 9_000 + 'x"'],
        ["plain text " * 20, "plain text " * 20 + "!"],
        [b"\xff\x00" * 200, b"\xff\x00" * 200 + b"\x01"],
        ["", ""],
        ["1", "12"],
        ["line\nbreak" * 20, "line\nbreak" * 20],
        ['{"a":\n "' + LONG + '"}', '{"a":\r\n "' + LONG + '!"}'],
        ["\u2028\U0001f384" * 50, "\u2028\U0001f385" * 50],
    ],
    ids=lambda payloads: ascii(payloads[0][:12]),
)
async def test_any_payload(payloads: list[str | bytes]) -> None:
    """What is put together is what a client without changes gets."""
    async with Broker(rules=rules()) as broker:
        async with serving(broker) as client, serving(broker) as plain:
            reader = Reader()
            await subscribed(client, reader)
            await plain.call("subscribe", channel="c")
            for payload in (*payloads, *payloads):
                await broker.publish("c", payload)
                got = reader.take((await client.push())["pub"])
                assert json.loads(got) == (await plain.push())["pub"]["data"]
            again = Reader()
            await plain.call("unsubscribe", channel="c")
            await subscribed(plain, again, recover=True)
            assert again.got == reader.got


EDITS = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.integers(0, 40),
        st.text('aя🎄"\\\n\u2028 é', max_size=12),
        st.sampled_from(["publish", "publish", "publish", "take", "leave", "exclude"]),
    ),
    min_size=1,
    max_size=25,
)


@DRAWN
@given(
    edits=EDITS,
    clients=st.integers(1, 3),
    overflow=st.sampled_from([Overflow.DISCONNECT, Overflow.DROP_OLDEST]),
    resume=st.sampled_from([Resume.MISSED, Resume.LATEST]),
    data=st.data(),
)
async def test_every_payload_is_put_together_exactly(
    edits: list[tuple[int, int, str, str]],
    clients: int,
    overflow: Overflow,
    resume: Resume,
    data: st.DataObject,
) -> None:
    """Whoever comes, goes, resumes and is left out, at whatever place."""
    published: dict[int, Any] = {}
    text = LONG
    async with Broker(rules=rules(overflow=overflow, resume=resume)) as broker:
        async with broker.subscribe("c"), anyio.create_task_group() as tasks:
            parties: list[tuple[Client, Reader]] = []
            over = anyio.Event()

            async def party(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                async with serving(broker) as client:
                    reader = Reader()
                    await subscribed(client, reader)
                    parties.append((client, reader))
                    task_status.started()
                    await over.wait()

            for _ in range(clients):
                await tasks.start(party)
            for at, count, new, step in edits:
                client, reader = data.draw(st.sampled_from(parties))
                if step in ("publish", "exclude"):
                    text = text[:at] + new + text[at + count :]
                    left_out = client.session if step == "exclude" else None
                    payload = json.dumps(text, ensure_ascii=False)
                    receipt = await broker.publish("c", payload, exclude=left_out)
                    published[receipt.position.offset] = text
                    continue
                await take(client, reader)
                if step == "leave":
                    await client.call("unsubscribe", channel="c")
                    await subscribed(
                        client,
                        reader,
                        recover=True,
                        offset=reader.top,
                        epoch=reader.epoch,
                    )
            for client, reader in parties:
                await take(client, reader)
                for offset, payload in reader.got.items():
                    assert json.loads(payload) == published[offset]
            over.set()

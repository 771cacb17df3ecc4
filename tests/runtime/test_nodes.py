"""Nodes know of each other, and answer each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from broker import (
    BackplaneError,
    Broker,
    BrokerClosed,
    LimitExceeded,
    MemoryBackplane,
    UsageError,
    nodes,
    orders,
    survey,
)
from broker.protocol import api
from broker.testing import FaultyBackplane
from tests.runtime.helpers import connected


@asynccontextmanager
async def three_nodes() -> AsyncGenerator[
    tuple[Broker, Broker, Broker, FaultyBackplane], None
]:
    """Three brokers that know each other; the faults are the third one's."""
    shared = MemoryBackplane()
    faults = FaultyBackplane(shared)
    async with AsyncExitStack() as stack:
        brokers = [Broker(shared), Broker(shared), Broker(faults)]
        for each in brokers:
            await stack.enter_async_context(each)
        await anyio.wait_all_tasks_blocked()
        assert [len(each.nodes) for each in brokers] == [2, 2, 2]
        one, two, three = brokers
        yield one, two, three, faults


async def shout(text: str) -> str:
    return text.upper()


async def test_who_leaves_says_so_and_who_comes_back_is_another() -> None:
    async with Broker() as one:
        async with Broker(one.backplane) as two:
            await anyio.wait_all_tasks_blocked()
            assert (len(one.nodes), len(two.nodes)) == (1, 1)
            before = two.nodes.id
            assert before != one.nodes.id
        assert len(one.nodes) == 0
        async with two:
            await anyio.wait_all_tasks_blocked()
            assert (len(one.nodes), len(two.nodes)) == (1, 1)
            assert two.nodes.id != before


async def test_who_is_heard_no_more_is_forgotten_until_it_is_heard_again() -> None:
    async with three_nodes() as (one, _, three, faults):
        faults.is_cut = True
        await anyio.sleep(nodes.LOST_S - nodes.ANNOUNCE_S)
        assert len(one.nodes) == 2
        await anyio.sleep(2 * nodes.ANNOUNCE_S)
        assert (len(one.nodes), len(three.nodes)) == (1, 2)
        faults.is_cut = False
        await anyio.sleep(nodes.ANNOUNCE_S + 1)
        assert (len(one.nodes), len(three.nodes)) == (2, 2)


async def test_who_is_cut_off_does_not_answer_for_the_others() -> None:
    """However long it lasts: the others are there, and their numbers are not known."""
    async with three_nodes() as (one, _, three, faults), connected(one) as (_, session):
        await session.subscribe("a")
        faults.is_cut = True
        await anyio.sleep(3 * nodes.LOST_S)
        with pytest.raises(BackplaneError):
            await survey.channels(three, "*")
        with pytest.raises(BackplaneError):
            await survey.info(three)
        faults.is_cut = False
        assert await survey.channels(three, "*") == {"a": 1}


async def test_all_who_answer_to_a_name_are_asked() -> None:
    async with three_nodes() as (one, two, three, _):
        for each in (one, two):
            each.nodes.answer("shout", shout)
        with pytest.raises(UsageError, match="answered already"):
            one.nodes.answer("shout", shout)
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        found, missing = await three.nodes.ask("shout", "a")
        assert found == {one.nodes.id: "A", two.nodes.id: "A"}
        assert not missing
        assert (await one.nodes.ask("shout", "b")).found == {two.nodes.id: "B"}
        assert await one.nodes.ask("whisper", "c") == ({}, frozenset())
        assert anyio.current_time() - began < 1


async def test_who_does_not_answer_is_named_when_the_time_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One fails, and another takes too long; a third is lost meanwhile."""

    async def fail(_: str) -> str:
        raise ZeroDivisionError

    async def sleep(_: str) -> str:
        await anyio.sleep(100)
        return "late"

    async with three_nodes() as (one, two, three, faults):
        two.nodes.answer("name", fail)
        three.nodes.answer("name", sleep)
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        answers = await one.nodes.ask("name", "")
        assert not answers.found
        assert answers.missing == {two.nodes.id, three.nodes.id}
        assert nodes.ANSWER_S - 0.5 < anyio.current_time() - began < nodes.ANSWER_S + 1
        assert caplog.text.count("a question of another node was not answered") == 1
        faults.is_cut = True
        assert (await one.nodes.ask("name", "")).missing == {
            two.nodes.id,
            three.nodes.id,
        }
        with pytest.raises(BackplaneError):
            await three.nodes.ask("info", "")


async def test_a_node_that_leaves_is_not_waited_for() -> None:
    async def sleep(_: str) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    async with Broker() as one, anyio.create_task_group() as tasks:
        async with Broker(one.backplane) as two:
            two.nodes.answer("name", sleep)
            await anyio.wait_all_tasks_blocked()
            asked: list[nodes.Answers] = []

            async def ask() -> None:
                asked.append(await one.nodes.ask("name", ""))

            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            gone = two.nodes.id
        await anyio.wait_all_tasks_blocked()
        assert asked == [nodes.Answers({}, frozenset({gone}))]


async def test_questions_are_bounded_and_end_with_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is cancelled makes room for another."""
    monkeypatch.setattr(nodes, "MAX_QUESTIONS", 1)

    async def sleep(_: str) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    other = Broker(MemoryBackplane())
    with pytest.raises(BrokerClosed):
        await other.nodes.ask("name", "")
    async with anyio.create_task_group() as tasks, Broker(other.backplane) as one:
        one.nodes.answer("name", sleep)
        async with other:
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.1):
                await other.nodes.ask("name", "")
            asked: list[nodes.Answers] = []

            async def ask() -> None:
                asked.append(await other.nodes.ask("name", ""))

            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(LimitExceeded):
                await other.nodes.ask("name", "")
        await anyio.wait_all_tasks_blocked()
        assert asked == [nodes.Answers({}, frozenset({one.nodes.id}))]


async def test_so_many_nodes_are_kept_in_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "MAX_NODES", 1)
    async with Broker() as one:
        for number in range(3):
            one.nodes.hear(orders.Here(node=str(number)))
        assert len(one.nodes) == 1


async def test_questions_of_others_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By count and by size; whoever asks too many is not answered, and it is logged."""
    monkeypatch.setattr(nodes, "MAX_REPLIES", 3)
    monkeypatch.setattr(nodes, "MAX_REPLY_CHARS", 10)
    asked: list[str] = []
    go_on = anyio.Event()

    async def wait(text: str) -> str:
        asked.append(text)
        await go_on.wait()
        return text

    async with Broker() as one:
        one.nodes.answer("name", wait)

        async def hear(*texts: str) -> None:
            for number, text in enumerate(texts):
                one.nodes.hear(
                    orders.Question(node="n", number=number, name="name", text=text)
                )
            await anyio.wait_all_tasks_blocked()

        await hear("a", "b", "c", "d", "e")
        assert sorted(asked) == ["a", "b", "c"]
        assert caplog.text.count("some are not answered") == 1
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        asked.clear()
        go_on = anyio.Event()
        await hear("x" * 9, "yy", "z")
        assert sorted(asked) == ["x" * 9, "z"]
        assert caplog.text.count("some are not answered") == 2
    async with one:  # those that were ended with the broker take no room
        asked.clear()
        await hear("x" * 10)
        assert asked == ["x" * 10]


async def test_names_are_bounded() -> None:
    broker = Broker()
    with pytest.raises(UsageError, match="at most 255 characters"):
        broker.nodes.answer("x" * (orders.MAX_NAME_CHARS + 1), shout)
    with pytest.raises(LimitExceeded):
        for number in range(orders.MAX_NAMES):
            broker.nodes.answer(str(number), shout)
    async with broker, Broker(broker.backplane) as other:
        await anyio.wait_all_tasks_blocked()
        assert (await other.nodes.ask("0", "a")).found == {broker.nodes.id: "A"}


async def test_nobody_is_told_of_itself() -> None:
    async with Broker() as one:
        one.nodes.hear(orders.Here(node=one.nodes.id, names=("channels",)))
        assert len(one.nodes) == 0
        assert await survey.channels(one, "*") == {}


async def test_what_comes_to_nobody_changes_nothing() -> None:
    """Answers to others or too late, and words before and after."""
    broker = Broker()
    late = orders.Answer(node="n", to="other", number=1, text="")
    broker.nodes.hear(orders.Here(node="n"))
    async with broker:
        broker.nodes.hear(late)
        broker.nodes.hear(orders.Answer(node="n", to=broker.nodes.id, number=1))
        broker.nodes.hear(orders.Gone(node="n"))
        broker.nodes.hear(orders.Question(node="n", number=1, name="none", text=""))
        await anyio.wait_all_tasks_blocked()
        assert len(broker.nodes) == 0
    broker.nodes.hear(orders.Here(node="n"))
    assert len(broker.nodes) == 0


async def test_a_survey_of_all_nodes() -> None:
    async with three_nodes() as (one, two, three, faults):
        three.nodes.name = "third"
        async with (
            connected(one, user="ann") as (_, ann),
            connected(two, user="ann") as (_, again),
            connected(two) as (_, nobody),
        ):
            for session in (ann, again, nobody):
                await session.subscribe("a")
            await again.subscribe("b.c")
            numbers = {
                node.uid: (node.num_clients, node.num_users, node.num_subs)
                for node in await survey.info(three)
            }
            assert numbers == {
                three.nodes.id: (0, 0, 0),
                one.nodes.id: (1, 1, 1),
                two.nodes.id: (2, 1, 3),
            }
            names = [node.name for node in await survey.info(one)]
            assert names[0] == f"node-{one.nodes.id[:8]}"
            assert "third" in names
            assert await survey.channels(three, "*") == {"a": 3, "b.c": 1}
            assert await survey.channels(one, "b*") == {"b.c": 1}
            faults.is_cut = True  # it is still counted on
            with pytest.raises(BackplaneError, match="not answered: 1"):
                await survey.channels(one, "*")
            assert len(await survey.info(one)) == 2


async def test_more_channels_than_a_node_can_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(survey, "MAX_ANSWER_CHARS", 10)
    async with three_nodes() as (one, two, _, _), connected(two) as (_, session):
        await session.subscribe("a.long.name")
        with pytest.raises(api.ApiError, match="give a pattern"):
            await survey.channels(one, "*")
        assert await survey.channels(one, "x*") == {}
        assert await survey.channels(two, "*") == {"a.long.name": 1}


@pytest.mark.parametrize("said", ["", "[]", '{"a":-1}', '{"a":1e99}', "\ud800"])
async def test_what_a_node_says_cannot_be_read(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another version, or nobody of ours: it is an error, not a bug."""

    async def say(_: str) -> str:
        return said

    async with three_nodes() as (one, two, three, _):
        three.nodes._handlers.update(info=say, channels=say)
        with pytest.raises(BackplaneError, match="counts otherwise"):
            await survey.channels(one, "*")
        found = {node.uid for node in await survey.info(one)}
        assert found == {one.nodes.id, two.nodes.id}
        assert caplog.text.count("cannot be read") == 1


@pytest.mark.parametrize(
    "word",
    [
        orders.Here(node="n" * 65),
        orders.Here(node="n", names=("a",) * 65),
        orders.Here(node="n", names=("a" * 256,)),
        orders.Question(node="n" * 65, number=1, name="a", text=""),
    ],
)
def test_words_that_would_be_kept_are_bounded(word: orders.Word) -> None:
    with pytest.raises(ValueError, match="Expected"):
        orders.decode(orders.encode(word))


@pytest.mark.parametrize(
    "word",
    [
        orders.Here(node="n", names=("a", "\ud800")),
        orders.Gone(node="n"),
        orders.Question(node="n", number=1, name="a", text="é\n"),
        orders.Answer(node="n", to="m", number=1, text=""),
        orders.Answer(node="n", to="m", number=1),
    ],
)
def test_words_travel_whole(word: orders.Word) -> None:
    assert orders.decode(orders.encode(word)) == word

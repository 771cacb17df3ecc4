"""The other nodes of a broker: who is there, and what they say when asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

import anyio
import anyio.lowlevel

from . import orders
from .backplane import Link
from .errors import BackplaneError, BrokerClosed, LimitExceeded, UsageError

__all__ = ("ANSWER_S", "Answers", "Nodes")

logger = logging.getLogger("broker")

# Between two announcements, and after how long without one a node counts as lost (s;
# both as in Centrifugo: nodeInfoPublishInterval, nodeInfoMaxDelay).
ANNOUNCE_S = 3.0
LOST_S = 7.0
ANSWER_S = 3.0  # longest wait for answers (s; guess)
MAX_QUESTIONS = 1_000  # that one node waits for at a time (guess)
MAX_NODES = 1_000  # that are kept in mind (guess)
FAREWELL_S = 1.0  # longest wait until the others are told that we go (s; guess)

Handler: TypeAlias = Callable[[str], Awaitable[str]]
# Runs something in a task of the broker's own; Core.see_off.
Run: TypeAlias = Callable[[Callable[[], Awaitable[object]]], object]


class Answers(NamedTuple):
    """What came of a question.

    Attributes:
        found: {node: what it says}.
        missing: nodes that should have answered, and have not or cannot.
    """

    found: Mapping[str, str]
    missing: frozenset[str]


class _Question:
    """A question that waits for answers."""

    def __init__(self, asked: set[str]) -> None:
        self.waiting = asked
        self.found: dict[str, str] = {}
        self.missing: set[str] = set()
        self.is_over = anyio.Event()

    def close(self, node: str, text: str | None) -> None:
        """Wait for a node no longer."""
        if node not in self.waiting:
            return
        self.waiting.remove(node)
        if text is None:
            self.missing.add(node)
        else:
            self.found[node] = text
        if not self.waiting:
            self.is_over.set()


class Nodes:
    """All other nodes that can be heard, and what this one answers to them.

    Nodes announce themselves every few seconds. One that leaves says so; one that is
    killed or cut off is forgotten after ``LOST_S``.

    Attributes:
        id: of this node; another one each time that the broker is entered.
        name: of this node, for people; "" for one made of its id.
        version: of the application, for people.
    """

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.version = "asgi-broker"
        self._handlers: dict[str, Handler] = {}
        self._others: dict[str, tuple[float, frozenset[str]]] = {}  # {id: (heard, …)}
        self._questions: dict[int, _Question] = {}
        self._numbers = count(1)
        self._hurry = anyio.Event()
        self._link: Link | None = None
        self._run: Run | None = None

    def __len__(self) -> int:
        """Return how many other nodes there are."""
        return len(self._others)

    def answer(self, name: str, handler: Handler) -> None:
        """Answer questions to a name, from the next announcement on.

        Args:
            handler: returns the answer to a text. It has ``ANSWER_S``; whatever it
                raises is logged, and the node that asks learns that there is none.

        Raises:
            UsageError: the name is taken.
        """
        if name in self._handlers:
            raise UsageError(f"questions to {name!a} are answered already")
        self._handlers[name] = handler
        self._hurry.set()

    async def ask(self, name: str, text: str) -> Answers:
        """Ask all other nodes that answer to a name; returns within ``ANSWER_S``.

        Raises:
            LimitExceeded: too many questions are open; nobody was asked.
            BrokerClosed: the broker is not running; likewise.
            BackplaneError: nobody may have heard it.

        Cancellation: it may have been heard.
        """
        await anyio.lowlevel.checkpoint()
        if self._link is None:
            raise BrokerClosed("the broker is closed")
        asked = {node for node, (_, names) in self._others.items() if name in names}
        if not asked:
            return Answers({}, frozenset())
        if len(self._questions) >= MAX_QUESTIONS:
            raise LimitExceeded("questions to other nodes", MAX_QUESTIONS)
        number = next(self._numbers)
        question = self._questions[number] = _Question(asked)
        try:
            await self._tell(
                orders.Question(node=self.id, number=number, name=name, text=text)
            )
            with anyio.move_on_after(ANSWER_S):
                await question.is_over.wait()
        finally:
            del self._questions[number]
        return Answers(question.found, frozenset(question.missing | question.waiting))

    def hear(self, word: orders.Word) -> None:
        """Take what another node says. Never blocks and never raises."""
        if self._run is None or not self.id:
            return
        match word:
            case orders.Here(node=node, names=names):
                self._note(node, frozenset(names))
            case orders.Gone(node=node):
                self._forget(node)
            case orders.Question():
                handler = self._handlers.get(word.name)
                if handler is not None:
                    self._run(partial(self._reply, word, handler))
            case orders.Answer(to=to, number=number, node=node, text=text):
                if to == self.id and number in self._questions:
                    self._questions[number].close(node, text)

    @asynccontextmanager
    async def joined(self, link: Link, run: Run) -> AsyncGenerator[None, None]:
        """Be among the nodes for as long as the block runs.

        Args:
            link: to them.
            run: runs what answers a question, for a limited time.
        """
        self.id, self._link, self._run = uuid4().hex, link, run
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_announcing, name="broker: announcements")
                yield
                tasks.cancel_scope.cancel()
        finally:
            self._run = None
            for question in self._questions.values():
                question.is_over.set()
            with anyio.move_on_after(FAREWELL_S, shield=True), suppress(BackplaneError):
                await self._tell(orders.Gone(node=self.id))
            self._others.clear()
            self._link = None

    async def _keep_announcing(self) -> None:
        while True:
            self._hurry = anyio.Event()  # before the await: what comes meanwhile counts
            await self._announce()
            lost = anyio.current_time() - LOST_S
            for node in [each for each, (at, _) in self._others.items() if at < lost]:
                logger.warning("node %s is heard no more", node)
                self._forget(node)
            with anyio.move_on_after(ANNOUNCE_S):
                await self._hurry.wait()

    async def _announce(self) -> None:
        with suppress(BackplaneError):  # who comes back later hears of it then
            await self._tell(orders.Here(node=self.id, names=tuple(self._handlers)))

    def _note(self, node: str, names: frozenset[str]) -> None:
        if node not in self._others:
            if len(self._others) >= MAX_NODES:
                return
            self._hurry.set()  # it does not know this one either
        self._others[node] = anyio.current_time(), names

    def _forget(self, node: str) -> None:
        self._others.pop(node, None)
        for question in self._questions.values():
            question.close(node, None)

    async def _reply(self, question: orders.Question, handler: Handler) -> None:
        text = None
        with anyio.move_on_after(ANSWER_S):
            try:
                text = await handler(question.text)
            except Exception:  # a bug here, and the other node waits for nothing
                logger.exception("a question of another node was not answered")
        answer = orders.Answer(
            node=self.id, to=question.node, number=question.number, text=text
        )
        with suppress(BackplaneError):
            await self._tell(answer)

    async def _tell(self, word: Any) -> None:
        if self._link is not None:
            await self._link.tell(orders.encode(word))

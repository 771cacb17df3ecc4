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
# Of others' questions under way here at a time (guesses: eight times as many as a node
# may ask, and what as many posts of the largest messages come to).
MAX_REPLIES = 8_000
MAX_REPLY_CHARS = 67_108_864
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
    killed or cut off is forgotten after ``LOST_S``. A node that is cut off itself does
    not forget the others: asking them is an error then.

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
        self._replies = 0
        self._reply_chars = 0
        self._is_busy = False
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
            UsageError: the name is taken, or longer than ``orders.MAX_NAME_CHARS``.
            LimitExceeded: ``orders.MAX_NAMES`` are answered already.
        """
        if len(name) > orders.MAX_NAME_CHARS:
            raise UsageError(f"a name has at most {orders.MAX_NAME_CHARS} characters")
        if len(self._handlers) >= orders.MAX_NAMES:
            raise LimitExceeded("names that a node answers to", orders.MAX_NAMES)
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
        """Take what another node says. Never blocks and never raises.

        Whoever can write to the backplane can say anything: what it makes a node keep
        or do at a time is bounded.
        """
        if self._run is None or word.node == self.id:  # a lie: nobody hears itself
            return
        match word:
            case orders.Here(node=node, names=names):
                self._note(node, frozenset(names))
            case orders.Gone(node=node):
                self._forget(node)
            case orders.Question():
                handler = self._handlers.get(word.name)
                if handler is not None and self._has_room(word):
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
            try:
                await self._tell(orders.Here(node=self.id, names=tuple(self._handlers)))
            except BackplaneError:
                # Who is cut off hears nobody. To forget the others for that would be to
                # answer for them all without a word.
                now = anyio.current_time()
                self._others = {
                    each: (now, of) for each, (_, of) in self._others.items()
                }
            else:
                self._forget_the_silent()
            with anyio.move_on_after(ANNOUNCE_S):
                await self._hurry.wait()

    def _forget_the_silent(self) -> None:
        lost = anyio.current_time() - LOST_S
        for node in [each for each, (at, _) in self._others.items() if at < lost]:
            logger.warning("node %a is heard no more", node)
            self._forget(node)

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

    def _has_room(self, question: orders.Question) -> bool:
        """Whether one more can be answered; who asks is not told, and waits in vain."""
        if (
            self._replies < MAX_REPLIES
            and self._reply_chars + len(question.text) <= MAX_REPLY_CHARS
        ):
            self._replies += 1
            self._reply_chars += len(question.text)
            return True
        if not self._is_busy:
            logger.warning("too many questions of other nodes: some are not answered")
            self._is_busy = True
        return False

    async def _reply(self, question: orders.Question, handler: Handler) -> None:
        """Answer a question that ``_has_room`` has let in."""
        text = None
        try:
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
        finally:
            self._replies -= 1
            self._reply_chars -= len(question.text)
            self._is_busy = self._is_busy and self._replies > 0

    async def _tell(self, word: Any) -> None:
        if self._link is not None:
            await self._link.tell(orders.encode(word))

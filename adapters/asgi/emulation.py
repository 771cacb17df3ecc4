"""``POST /emulation``: what clients say whose connection goes one way only."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from uuid import uuid4

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from broker import (
    BackplaneError,
    Broker,
    BrokerClosed,
    LimitExceeded,
    Limits,
    NotAllowed,
    TransportClosed,
)
from broker.client import EmulationAddress
from broker.message import Payload, size_of

from .body import Unreadable, read_body
from .connecting import connect_request, denial
from .pages import check_mode, page_headers, preflight

__all__ = ("Emulation", "Handover")

SECRET_BYTES = 16  # 128 bits: OWASP asks session ids for 64 of entropy
MAX_WAITING = 256  # guess: as many commands as one frame may have
ENVELOPE_BYTES = 1_024  # guess: of names, braces, the session and the node
# Before the node, where nodes ask each other: a client names the node, and must not be
# able to ask what else they answer to.
QUESTION = "emulation "
STATUSES = frozenset({204, 404, 413, 429, 503})  # that another node may answer


class Handover:
    """Passes a client's frames from its requests to its transport, and keeps none.

    So many requests may wait as a client may well send at once: a loop that publishes
    makes a request each time. They may have no more bytes than the session's inbox.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._giving, self._taking = anyio.create_memory_object_stream[Payload](0)
        self._waiting = 0
        self._waiting_bytes = 0

    async def give(self, frame: Payload) -> None:
        """Return when the transport has taken the frame.

        Raises:
            anyio.WouldBlock: enough are waiting.
            TimeoutError: it has not been taken for ``Limits.stall_s``.
            TransportClosed: nobody will take it.

        Cancellation: the frame may have been taken.
        """
        limits, size = self._limits, size_of(frame)
        is_full = self._waiting_bytes + size > limits.max_inbox_bytes
        if is_full or self._waiting >= MAX_WAITING:
            await anyio.lowlevel.checkpoint()
            raise anyio.WouldBlock
        self._waiting += 1
        self._waiting_bytes += size
        try:
            with anyio.fail_after(limits.stall_s):
                await self._giving.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise TransportClosed("the session has ended") from None
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    async def take(self) -> Payload:
        """Return the next frame; from one task.

        Raises:
            TransportClosed: there will be none.
        """
        try:
            return await self._taking.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise TransportClosed("the client has left") from None

    def end(self) -> None:
        """Have all who wait give up, on both sides. Idempotent."""
        self._giving.close()
        self._taking.close()


class Emulation:
    """The sessions of this node whose clients post what they say.

    A post that reaches another node is handed on over the backplane.

    Attributes:
        node: names this process to its clients, and to the other nodes.
    """

    def __init__(self, broker: Broker) -> None:
        self.node = uuid4().hex
        self._broker = broker
        self._sessions: dict[str, Handover] = {}
        broker.nodes.answer(QUESTION + self.node, self._hear)

    def __len__(self) -> int:
        """Return how many sessions can be posted to."""
        return len(self._sessions)

    @contextmanager
    def hosting(self, handover: Handover) -> Generator[EmulationAddress, None, None]:
        """Have posts reach a session for as long as the block runs.

        Whoever knows the address speaks for the client: it is for the client alone, and
        for no log.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        self._sessions[secret] = handover
        try:
            yield EmulationAddress(session=secret, node=self.node)
        finally:
            del self._sessions[secret]

    async def endpoint(self, request: Request) -> Response:
        """Take a post: 204 when the session has taken what it says, on any node.

        Otherwise: 400 it is malformed, 403 from a page that may not, 404 there is no
        such session or node, 408 it comes too slowly, 413 it is too large, 429 too many
        wait already, 503 the session has taken nothing for ``Limits.stall_s``, or its
        node cannot be reached: then it may have been taken.
        """
        if request.method == "OPTIONS":
            return preflight(self._broker, request)
        asked = connect_request(request)
        try:
            check_mode(request)
            self._broker.check_origin(asked)
        except (NotAllowed, BrokerClosed) as error:
            return denial(error)
        status = await self._pass_on(request)
        return Response(status_code=status, headers=page_headers(self._broker, asked))

    async def _pass_on(self, request: Request) -> int:
        limits = self._broker.limits
        # As a JSON string a message is twice as large at most: JSON has no raw control
        # characters, so only quotes and backslashes need another backslash.
        most = 2 * limits.max_message_bytes + ENVELOPE_BYTES
        try:
            body = await read_body(request, max_bytes=most, within_s=limits.stall_s)
            post = _decode(body)
        except Unreadable as error:
            return error.status
        except (ValueError, RecursionError):  # msgspec's, and of text that is no UTF-8
            return 400
        if size_of(post.data) > limits.max_message_bytes:
            return 413
        if post.node == self.node:
            return await self._give(post)
        return await self._hand_on(post)

    async def _hand_on(self, post: _Post) -> int:
        """Have the node that has the session take a post, and return what it says."""
        text = _encode(post).decode()
        try:
            answers = await self._broker.nodes.ask(QUESTION + post.node, text)
        except (BackplaneError, BrokerClosed, LimitExceeded):
            return 503
        if answers.missing:
            return 503
        if not answers.found:
            return 404
        said = set(answers.found.values())
        return next((each for each in STATUSES if {str(each)} == said), 503)

    async def _hear(self, text: str) -> str:
        post = _decode(text)
        # The other node's limits may be others.
        is_large = size_of(post.data) > self._broker.limits.max_message_bytes
        return "413" if is_large else str(await self._give(post))

    async def _give(self, post: _Post) -> int:
        # Secrets are random: how long a look-up takes says nothing about how near a
        # guess was, for what it compares are hashes with a seed of this process.
        handover = self._sessions.get(post.session)
        if handover is None:
            return 404
        try:
            await handover.give(post.data)
        except anyio.WouldBlock:
            return 429
        except TimeoutError:
            return 503
        except TransportClosed:
            return 404
        return 204


class _Post(msgspec.Struct):
    session: str
    node: str
    data: str


_decode = msgspec.json.Decoder(_Post).decode
_encode = msgspec.json.Encoder().encode

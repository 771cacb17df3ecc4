"""A client of the Centrifuge protocol over a transport in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from broker import Broker, Session
from broker.client import serve_client
from broker.client_format import JSON, ClientFormat
from broker.client_protocol import ClientProtocol
from broker.protocol.tokens import TokenExpired, TokenInvalid
from broker.testing import MemoryClient, memory_transport

__all__ = ("Client", "FakeTokens", "protocol", "serving", "token", "unix_now")

UNIX = 1_700_000_000.0  # when virtual time began (s, Unix)


def unix_now() -> float:
    return UNIX + anyio.current_time()


def protocol(**options: Any) -> ClientProtocol:
    return ClientProtocol(clock=unix_now, **options)


def token(**claims: Any) -> str:
    return "genuine " + json.dumps(claims)


class FakeTokens:
    """Takes for genuine what says so."""

    def verify(self, token: str, *, now: float) -> bytes:
        if token == "bug":
            raise ZeroDivisionError
        word, _, claims = token.partition(" ")
        if word != "genuine":
            raise TokenInvalid("not genuine")
        if json.loads(claims).get("exp", now + 1) <= now:
            raise TokenExpired("expired")
        return claims.encode()


class Client:
    """The remote end: sends commands and takes what comes line by line."""

    def __init__(self, pipe: MemoryClient) -> None:
        self.pipe = pipe
        self.session: Session[str]
        self.sizes: list[int] = []  # lines of each frame so far
        self._lines: list[Any] = []
        self._number = 0

    async def send(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        await self.pipe.send("\n".join(json.dumps(each) for each in commands))

    async def next(self) -> Any:
        """Return the next line, decoded."""
        with anyio.fail_after(100):
            while not self._lines:
                frame = await self.pipe.receive()
                assert isinstance(frame, str)
                self._lines = [json.loads(line) for line in frame.split("\n")]
                self.sizes.append(len(self._lines))
        return self._lines.pop(0)

    def next_nowait(self) -> Any:
        """Return the next line, or None if nothing is there."""
        if not self._lines:
            try:
                frame = self.pipe.receive_nowait()
            except anyio.WouldBlock:
                return None
            assert isinstance(frame, str)
            self._lines = [json.loads(line) for line in frame.split("\n")]
        return self._lines.pop(0)

    async def rest(self) -> list[Any]:
        """Return all that comes until nothing happens any more."""
        await anyio.wait_all_tasks_blocked()
        return list(iter(self.next_nowait, None))

    async def push(self) -> Any:
        """Return the next line, which must be a push."""
        line = await self.next()
        assert set(line) == {"push"}, line
        return line["push"]

    async def ask(self, method: str, /, **fields: Any) -> tuple[Any, list[Any]]:
        """Send a command; return its reply, and the pushes that came before it."""
        self._number += 1
        number = self._number
        await self.send({"id": number, method: fields})
        pushes = []
        while (line := await self.next()).get("id") != number:
            assert "push" in line, line
            pushes.append(line["push"])
        return line, pushes

    async def call(self, method: str, /, **fields: Any) -> Any:
        """Send a command; return its result. No push may come before it."""
        reply, pushes = await self.ask(method, **fields)
        assert not pushes
        assert set(reply) == {"id", method}, reply
        return reply[method]

    async def error(self, method: str, /, **fields: Any) -> int:
        """Send a command that fails; return the error's code."""
        reply, _ = await self.ask(method, **fields)
        assert set(reply) == {"id", "error"}, reply
        assert reply["error"]["message"]
        code: int = reply["error"]["code"]
        return code

    async def rest_of_all(self) -> list[Any]:
        """Return all that comes until the connection is closed."""
        with anyio.fail_after(300):
            while True:
                try:
                    frame = await self.pipe.receive()
                except anyio.EndOfStream:
                    lines, self._lines = self._lines, []
                    return lines
                assert isinstance(frame, str)
                self._lines += [json.loads(line) for line in frame.split("\n")]

    async def closed(self) -> tuple[int | None, str | None]:
        """Take all that comes; return what the connection was closed with."""
        with anyio.fail_after(300):
            while True:
                try:
                    await self.pipe.receive()
                except anyio.EndOfStream:
                    return self.pipe.close_code, self.pipe.close_reason


@asynccontextmanager
async def serving(
    broker: Broker,
    spoken: ClientProtocol | None = None,
    *,
    connect: dict[str, Any] | None = None,
    is_connected: bool = True,
    capacity: float = float("inf"),
    speaks: ClientFormat[str] = JSON,
    **options: Any,
) -> AsyncGenerator[Client, None]:
    """Serve one client for as long as the block runs.

    Args:
        connect: fields of its connect command.
        is_connected: it has been sent and answered.
    """
    pipe, transport = memory_transport(capacity)
    client = Client(pipe)

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with broker.open_session(
            transport, speaks.takes, wire=speaks.wire, **options
        ) as session:
            client.session = session
            task_status.started()
            await serve_client(broker, session, spoken or protocol(), speaks=speaks)

    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve)
            if is_connected:
                await client.call("connect", **(connect or {}))
            yield client
            pipe.leave()
    finally:
        pipe.close_all()

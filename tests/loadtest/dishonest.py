"""A server that hands messages to all others, and does wrong where it is told to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from anyio.from_thread import start_blocking_portal
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from adapters.loadtest.plan import Wire

__all__ = ("Faults", "dishonest")

CODE_SLOW = 3008  # the Centrifuge protocol's; others get it as well
Numbers: TypeAlias = frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong, by the number of the message, as the server counts them.

    Attributes:
        drop: these go to nobody.
        repeat: these go twice to everybody.
        reorder: these go after the next one.
        pause_s: {message: how long nothing goes on before it}.
        split: these go as two frames each.
        close: with this message the listener that came first is ended, {message: how}:
            by a close frame, or without one.
        forget: of what a client that returns has missed, so many are left out, and it
            is told that this is all.
        admit: a client that returns is told that something is missing.
        replay: it gets so many again that it had.
        refuse: these are answered with an error, and go to nobody.
        doors: how many connections there may ever be; None for any number.
    """

    drop: Numbers = frozenset()
    repeat: Numbers = frozenset()
    reorder: Numbers = frozenset()
    split: Numbers = frozenset()
    pause_s: Mapping[int, float] = field(default_factory=dict)
    close: Mapping[int, bool] = field(default_factory=dict)
    forget: int = 0
    admit: bool = False
    replay: int = 0
    refuse: Numbers = frozenset()
    doors: int | None = None


class Relay:
    """The server's state."""

    def __init__(self, wire: Wire, faults: Faults) -> None:
        self.wire = wire
        self.faults = faults
        self.hearing: dict[ServerConnection, None] = {}
        self.stream: list[str] = []  # of Centrifuge, what went to all
        self.count = 0
        self.held = ""
        self.connections = 0

    def let_in(self, connection: ServerConnection, request: Request) -> Response | None:
        """Say no to a path that there is not, and when all doors are shut."""
        if request.path == "/404":
            return connection.respond(404, "no\n")
        self.connections += 1
        doors = self.faults.doors
        is_shut = doors is not None and self.connections > doors
        return connection.respond(503, "no\n") if is_shut else None

    async def talk(self, connection: ServerConnection) -> None:
        """Serve one client."""
        try:
            if self.wire is Wire.TEXT:
                self.hearing[connection] = None
            elif self.wire is Wire.SOCKETIO:
                await connection.send('0{"sid":"x","pingInterval":100,"upgrades":[]}')
            async for frame in connection:
                for line in str(frame).splitlines():
                    await self.take(connection, line)
        except ConnectionClosed:
            pass
        finally:
            self.hearing.pop(connection, None)

    async def take(self, connection: ServerConnection, line: str) -> None:
        """Handle what a client says."""
        match self.wire:
            case Wire.TEXT:
                await self.relay(connection, line)
            case Wire.SOCKETIO if line == "40":
                self.hearing[connection] = None
                await connection.send('40{"sid":"y"}')
                await connection.send("2")
            case Wire.SOCKETIO if line.startswith("42"):
                await self.relay(connection, line)
            case Wire.CENTRIFUGE:
                await self.command(connection, json.loads(line))

    async def command(
        self, connection: ServerConnection, command: dict[str, Any]
    ) -> None:
        """Handle a command of the Centrifuge protocol."""
        if not command:
            return
        number = command["id"]
        reply: dict[str, Any] = {"id": number}
        if "connect" in command:
            reply["connect"] = {"client": "x", "ping": 25, "pong": True}
        elif "subscribe" in command:
            reply["subscribe"] = self.subscribed(command["subscribe"])
            self.hearing[connection] = None
        elif self.count in self.faults.refuse:
            self.count += 1
            reply["error"] = {"code": 111, "message": "too many requests"}
        else:
            reply["publish"] = {}
            await self.relay(connection, command["publish"]["data"])
        await connection.send(json.dumps(reply) + "\n{}")

    def subscribed(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return what a subscription begins with."""
        top = len(self.stream)
        result: dict[str, Any] = {"epoch": "e", "offset": top, "recoverable": True}
        if wanted.get("recover"):
            since = wanted["offset"]
            result["was_recovering"] = True
            if self.faults.admit:
                return result
            first = max(since - self.faults.replay + self.faults.forget, 0)
            result |= {"recovered": True, "offset": since}
            result["publications"] = [
                {"data": text, "offset": first + at + 1}
                for at, text in enumerate(self.stream[first:])
            ]
        return result

    async def relay(self, publisher: ServerConnection, text: str) -> None:
        """Hand a message on, or do what is to go wrong with it."""
        number, self.count = self.count, self.count + 1
        faults = self.faults
        if number in faults.pause_s:
            await asyncio.sleep(faults.pause_s[number])
        if number in faults.close:
            victim = next(each for each in self.hearing if each is not publisher)
            del self.hearing[victim]
            await self.end(victim, text, is_polite=faults.close[number])
        if number in faults.drop:
            return
        if number in faults.reorder:
            self.held = text
            return
        texts = [text] * (2 if number in faults.repeat else 1)
        if self.held:
            texts.append(self.held)
            self.held = ""
        for each in texts:
            await self.send(publisher, each, is_split=number in faults.split)

    async def end(
        self, victim: ServerConnection, text: str, *, is_polite: bool
    ) -> None:
        """End a connection; a polite server of Centrifuge has a message in it."""
        if not is_polite:
            victim.transport.abort()
            return
        if self.wire is Wire.CENTRIFUGE:
            told = {"push": {"disconnect": {"code": CODE_SLOW, "reason": "slow"}}}
            await victim.send(f"{push(text, len(self.stream) + 1)}\n{json.dumps(told)}")
        await victim.close(CODE_SLOW, "slow")

    async def send(
        self, publisher: ServerConnection, text: str, *, is_split: bool
    ) -> None:
        """Send a message to all others."""
        frame = text
        if self.wire is Wire.CENTRIFUGE:
            self.stream.append(text)
            frame = push(text, len(self.stream))
        parts = [frame[:30], frame[30:]] if is_split else frame
        # Some servers send it back to who sent it: here, those of Socket.IO.
        is_echoed = self.wire is Wire.SOCKETIO
        for connection in list(self.hearing):
            if is_echoed or connection is not publisher:
                try:
                    await connection.send(parts)
                except ConnectionClosed:
                    self.hearing.pop(connection, None)


def push(text: str, offset: int) -> str:
    """Return a publication as the Centrifuge protocol writes it."""
    pub = {"data": text, "offset": offset}
    return json.dumps({"push": {"channel": "c", "pub": pub}}, separators=(",", ":"))


@contextmanager
def dishonest(
    wire: Wire, faults: Faults | None = None, context: ssl.SSLContext | None = None
) -> Generator[str, None, None]:
    """Run such a server in a thread, and yield the URL of it; with TLS if asked to."""

    @asynccontextmanager
    async def running() -> AsyncGenerator[int, None]:
        relay = Relay(wire, faults or Faults())
        async with serve(
            relay.talk,
            *("127.0.0.1", 0),
            process_request=relay.let_in,
            ssl=context,
            compression=None,
            ping_interval=None,
        ) as server:
            yield next(iter(server.sockets)).getsockname()[1]

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running()) as port,
    ):
        yield f"{'ws' if context is None else 'wss'}://127.0.0.1:{port}/x"

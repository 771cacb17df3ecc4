"""The connections of a node to all primaries of a cluster."""

from __future__ import annotations

import random
from binascii import crc_hqx
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
from coredis.exceptions import AskError, MovedError, TryAgainError

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

from .scripts import PUBLISH, SHOUT, SPUBLISH, Script
from .urls import Target
from .wire import LINK_ERRORS, Address, ServerWire, connected, open_wire
from .wires import Answer, Push

__all__ = ("Cluster", "ClusterWire", "open_cluster", "slot_of")

SLOTS = 16_384  # Redis' cluster specification
# How long commands wait for a slot that moves: 1 s (guesses).
MOST_TRIES = 50
PAUSE_S = 0.02


def slot_of(key: bytes) -> int:
    """Return a key's slot (Redis' cluster specification, "Hash tags")."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    tag = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    return crc_hqx(tag, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Layout:
    """Which primary serves what.

    Attributes:
        ids: {host:port of a primary: what it is called in the cluster}.
        owners: {slot: host:port}.
    """

    ids: dict[str, bytes]
    owners: dict[int, str]


def layout_of(answer: Any, host: str) -> Layout:
    """Return the layout that a member tells by CLUSTER SLOTS.

    Args:
        host: of that member. It may not know its own name.

    Raises:
        BackplaneError: it is none, such as of a server that is no member.
    """
    layout = Layout({}, {})
    try:
        for first, last, (name, port, node_id, *_), *_ in answer:
            owner = join(name.decode() if name else host.rpartition(":")[0], port)
            layout.ids[owner] = node_id
            layout.owners.update(dict.fromkeys(range(first, last + 1), owner))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BackplaneError("what a cluster's member says cannot be read") from error
    return layout


def join(host: str, port: int) -> str:
    """Return both as they are in a URL."""
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Routed:
    """A script that follows its keys to where they are."""

    def __init__(
        self, wire: ClusterWire, script: Script, keys: Sequence[str], arguments: Any
    ) -> None:
        self._wire = wire
        self._everything = script, keys, tuple(arguments)
        self._slot = slot_of(keys[0].encode())
        self._answer = wire.server(self._slot).start(*self._everything)

    async def result(self) -> Any:
        """See ``Answer.result``. Who is sent elsewhere knows that nothing was done.

        While a slot is on its way, some of its keys are here and some there, so scripts
        have to wait.
        """
        for _ in range(MOST_TRIES):
            try:
                return await self._answer.result()
            except BackplaneError as error:
                problem = error.__cause__
                if isinstance(problem, MovedError):
                    self._wire.move(problem.slot_id, join(problem.host, problem.port))
                elif not isinstance(problem, AskError | TryAgainError):
                    raise
            await anyio.sleep(PAUSE_S)
            self._answer = self._wire.server(self._slot).start(*self._everything)
        return await self._answer.result()


class ClusterWire:
    """A ``ServerWire`` to each primary; ``Wire`` says what the methods do.

    A slot that moves between them takes its topics' subscriptions along. When a primary
    fails, comes or goes, all connections are made anew.

    Args:
        servers: {host:port: its wire}, one for each primary.
        layout: when they were opened.
    """

    def __init__(self, servers: dict[str, ServerWire], layout: Layout) -> None:
        self._servers = servers
        self._layout = layout
        self._wanted: dict[int, dict[str, None]] = {}  # {slot: channels}
        self._missed: Callable[[str], None] = lambda _: None
        self._left: dict[str, set[int]] = {}  # {host:port: slots it may have lost}
        self._has_left = anyio.Event()

    def place(self, key: str) -> int:
        return slot_of(key.encode())

    def server(self, slot: int) -> ServerWire:
        """Return the wire to the primary of a slot.

        Raises:
            BackplaneError: there is none.
        """
        if slot not in self._layout.owners:
            raise BackplaneError(f"no primary serves slot {slot}")
        return self.server_at(self._layout.owners[slot])

    def server_at(self, host: str) -> ServerWire:
        """Return the wire to a primary.

        Raises:
            BackplaneError: it is new, so all connections will be made anew.
        """
        server = self._servers.get(host)
        if server is None:
            for each in self._servers.values():
                each.fail()
            raise BackplaneError(f"{host} is new in the cluster")
        return server

    def start(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Answer:
        return Routed(self, SPUBLISH if script is PUBLISH else script, keys, arguments)

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Any:
        return await self.start(script, keys, arguments).result()

    def tell(self, command: bytes, names: Sequence[str]) -> None:
        if command.startswith(b"P"):
            for host, server in self._servers.items():
                mark = " " + self._layout.ids[host].decode()
                server.tell(command, [name + mark for name in names])
            return
        for name in names:
            slot = slot_of(name.encode())
            if command == b"SUBSCRIBE":
                self._wanted.setdefault(slot, {})[name] = None
            elif name in self._wanted.get(slot, {}):
                del self._wanted[slot][name]
                if not self._wanted[slot]:
                    del self._wanted[slot]
            self.server(slot).tell(b"S" + command, [name])

    def heed(self, callback: Callable[[str], None]) -> None:
        self._missed = callback

    async def pass_fence(self) -> None:
        fences = [(each, each.send_fence()) for each in self._servers.values()]
        for server, fence in fences:
            await server.wait_fence(fence)

    async def ping(self) -> None:
        for server in self._servers.values():
            await server.ping()

    async def publish(self, channel: str, data: bytes) -> None:
        await self.call(SHOUT, [channel], [data])

    def sources(self) -> list[AsyncGenerator[list[Push], None]]:
        return [
            server.messages(partial(self._leave, host))
            for host, server in self._servers.items()
        ]

    def _leave(self, host: str, channel: bytes) -> None:
        # This node's own leaving is confirmed in the same words.
        slot = slot_of(channel)
        if channel.decode("ascii", "replace") in self._wanted.get(slot, {}):
            self._left.setdefault(host, set()).add(slot)
            self._has_left.set()

    def move(self, slot: int, host: str) -> None:
        """Take note that a slot is served by another primary, and subscribe there.

        Raises:
            BackplaneError: it is new, so all connections will be made anew.
        """
        server = self.server_at(host)
        self._layout.owners[slot] = host
        for name in list(self._wanted.get(slot, {})):
            server.tell(b"SSUBSCRIBE", [name])
            self._missed(name)

    async def watch(self, every_s: float) -> None:
        """Ask primaries what they serve, and one that has left a channel at once.

        Never returns. It is how a node that only listens notices what has changed.

        Raises:
            BackplaneError: there are other primaries than before.
        """
        while True:
            with anyio.move_on_after(every_s):
                await self._has_left.wait()
            self._has_left = anyio.Event()
            left, self._left = self._left, {}
            for host in left or [random.choice(list(self._servers))]:
                slots = left.get(host, set())
                answer = await self._servers[host].ask(b"CLUSTER", b"SLOTS")
                found = layout_of(answer, host)
                if found.ids != self._layout.ids:
                    raise BackplaneError("the cluster has other primaries now")
                for slot, owner in found.owners.items():
                    if slot in slots or self._layout.owners.get(slot) != owner:
                        self.move(slot, owner)

    async def follow_refusals(self, host: str) -> None:
        """Subscribe elsewhere what a primary has refused. Never returns.

        Raises:
            BackplaneError: it was refused for another reason.
        """
        async with aclosing(self._servers[host].refusals()) as refusals:
            async for refusal in refusals:
                if not isinstance(refusal, MovedError):
                    raise BackplaneError(f"{host} refuses: {refusal}")
                await anyio.sleep(PAUSE_S)
                self.move(refusal.slot_id, join(refusal.host, refusal.port))


class Cluster:
    """How to get to a cluster of which some members are known.

    Args:
        target: those members.
        address: how to connect; its URL does not count.
    """

    def __init__(self, target: Target, address: Address) -> None:
        self._target = target
        self._address = address
        self._known: dict[str, None] = dict.fromkeys(target.hosts)

    def address_of(self, host: str) -> Address:
        """Return how to connect to one member."""
        return replace(self._address, url=self._target.url_of(host))

    async def layout(self) -> Layout:
        """Return the layout, from the first member that tells.

        Raises:
            BackplaneError: none of them does.
        """
        problem = "no member is known"
        for host in list(self._known):
            layout = Layout({}, {})
            try:
                async with connected(self.address_of(host), 1) as (connection,):
                    answer = await connection.create_request(b"CLUSTER", b"SLOTS")
                layout = layout_of(answer, host)
            except* LINK_ERRORS as group:
                problem = f"{host}: {reason_of(group)}"
            else:
                problem = f"{host} knows no primary"
            if layout.ids:
                # Those of the URL come last: the others have been there more recently.
                self._known = dict.fromkeys([*layout.ids, *self._target.hosts])
                return layout
        raise BackplaneError(f"no member of the cluster answers: {problem}")


@asynccontextmanager
async def open_cluster(
    cluster: Cluster, *, fence: str, news: str, watch_s: float
) -> AsyncGenerator[ClusterWire, None]:
    """Connect to all primaries, and be connected while the block runs.

    Args:
        fence: a channel on which nothing is published.
        news: a channel to be subscribed.
        watch_s: time between two looks at the layout (s, > 0).

    Raises:
        BackplaneError, RedisError, OSError: it could not be done, or the cluster has
            changed; alone or in a group.
    """
    layout = await cluster.layout()
    async with AsyncExitStack() as stack:
        servers = {
            host: await stack.enter_async_context(
                open_wire(cluster.address_of(host), fence)
            )
            for host in layout.ids
        }
        wire = ClusterWire(servers, layout)
        wire.tell(b"SUBSCRIBE", [news])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.watch, watch_s, name="broker: redis layout")
            for host in servers:
                name = f"broker: redis refusals {host}"
                tasks.start_soon(wire.follow_refusals, host, name=name)
            yield wire
            tasks.cancel_scope.cancel()

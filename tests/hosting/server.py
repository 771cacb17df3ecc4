"""A hypercorn with a misbehaving application, hardened or as it comes.

python -m tests.hosting.server LOOP PORT [--bare] [--compression] [--tls CERT KEY]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
from collections import Counter
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import anyio
import sniffio
import trio
import uvloop
from hypercorn.asyncio import serve as serve_asyncio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_trio
from hypercorn.utils import UnexpectedMessageError

from adapters.hosting.hardening import Connections, harden

LIMIT_BYTES = 1_048_576
STALL_BYTES = 1_000_000
NUMBERS, PADDING = 100, 200_000
MANY = 200_000  # sends, of which none waits

seen: Counter[str] = Counter()  # what applications were told and did


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve what a test asks for by its path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await http(scope, receive, send)
    else:
        seen["started"] += 1
        await receive()  # websocket.connect
        try:
            await ENDPOINTS[scope["path"]](receive, send)
        finally:
            seen["finished"] += 1


async def lifespan(receive: Any, send: Any) -> None:
    """Answer, and do nothing."""
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})


async def http(scope: Any, receive: Any, send: Any) -> None:
    """Report vitals; at another path, answer without reading the body."""
    connections: Connections | None = scope["app"]
    if scope["path"] == "/abort":
        seen["aborted"] = connections.abort_all() if connections else 0
    headers = [(b"connection", b"close")]  # its task is not in the next count
    head = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(head)
    await send(
        {"type": "http.response.body", "body": json.dumps(vitals(connections)).encode()}
    )


def vitals(connections: Connections | None) -> dict[str, Any]:
    """Return what could leak."""
    if sniffio.current_async_library() == "trio":
        tasks = trio.lowlevel.current_statistics().tasks_living
    else:
        tasks = len(asyncio.all_tasks())
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "tasks": tasks,
        "files": len(os.listdir("/proc/self/fd")),
        "rss_kib": pages * resource.getpagesize() // 1024,
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "connections": len(connections) if connections is not None else 0,
        "faults": connections.faults if connections is not None else 0,
        "probe_times": probe_times(),
        "seen": seen,
    }


def probe_times() -> list[int]:
    """Return after what idle time each connection is probed (s)."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family == socket.AF_INET and sock.getpeername():
                    found.append(
                        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                    )
    return found


async def until_disconnected(receive: Any, send: Any | None = None) -> None:
    """Take messages until the client is gone, and echo them."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if send is not None:
            await send(message | {"type": "websocket.send"})
    seen["disconnected"] += 1
    seen[f"code {message['code']}"] += 1


async def echo(receive: Any, send: Any) -> None:
    """Behave."""
    await send({"type": "websocket.accept"})
    await until_disconnected(receive, send)


async def late(receive: Any, send: Any) -> None:
    """Accept only when told that there is nobody to accept."""
    await until_disconnected(receive)
    await send({"type": "websocket.accept"})


async def deaf(receive: Any, send: Any) -> None:
    """Accept, and return with messages unread."""
    await send({"type": "websocket.accept"})
    await anyio.sleep(0.5)  # while they pile up
    await send({"type": "websocket.close", "code": 1008})


async def fill(send: Any) -> None:
    """Send more than a client that does not read can be sent."""
    while True:
        await send({"type": "websocket.send", "bytes": bytes(STALL_BYTES)})


async def cancelled(receive: Any, send: Any) -> None:
    """Cancel a send that waits, by a scope."""
    await send({"type": "websocket.accept"})
    with anyio.move_on_after(0.5):
        await fill(send)
    seen["send cancelled"] += 1
    await until_disconnected(receive)


async def cancelled_natively(receive: Any, send: Any) -> None:
    """Cancel a send that waits, by its task on asyncio."""
    if sniffio.current_async_library() == "trio":
        await cancelled(receive, send)
        return
    await send({"type": "websocket.accept"})
    task = asyncio.create_task(fill(send))
    await asyncio.wait([task], timeout=0.5)
    task.cancel()
    await asyncio.wait([task])
    seen["send cancelled"] += 1
    await until_disconnected(receive)


async def stalled_return(receive: Any, send: Any) -> None:
    """Return while the client does not read."""
    await send({"type": "websocket.accept"})
    async with anyio.create_task_group() as group:
        group.start_soon(fill_quietly, send)
        await anyio.sleep(0.5)
        group.cancel_scope.cancel()


async def fill_quietly(send: Any) -> None:
    """Fill up to what needs no waiting, then wait."""
    for _ in range(2):
        await send({"type": "websocket.send", "bytes": bytes(STALL_BYTES)})
    await anyio.sleep_forever()


async def filling(receive: Any, send: Any) -> None:
    """Send on and on, and listen."""
    await send({"type": "websocket.accept"})
    async with anyio.create_task_group() as group:
        group.start_soon(fill, send)
        await until_disconnected(receive)
        group.cancel_scope.cancel()


async def two_senders(receive: Any, send: Any) -> None:
    """Send from two tasks at once, more than sockets and servers keep."""
    await send({"type": "websocket.accept"})

    async def send_numbers(sender: int) -> None:
        for number in range(NUMBERS):
            text = f"{sender} {number} "
            message: dict[str, Any] = {"text": text}
            if number % 2:
                message = {"bytes": text.encode() + bytes(PADDING)}
            await send(message | {"type": "websocket.send"})

    async with anyio.create_task_group() as group:
        for sender in range(2):
            group.start_soon(send_numbers, sender)
    await until_disconnected(receive)


async def many_senders(receive: Any, send: Any) -> None:
    """Send one message from many tasks at once."""
    await send({"type": "websocket.accept"})
    message = {"type": "websocket.send", "bytes": bytes(STALL_BYTES)}
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(send, message)
        await anyio.wait_all_tasks_blocked()
        seen["many wait"] += 1
        await until_disconnected(receive)
        group.cancel_scope.cancel()


async def mistaken(receive: Any, send: Any) -> None:
    """Send what is neither text nor bytes, and what has no form in UTF-8."""
    await send({"type": "websocket.accept"})
    for payload in (1, None, "\ud800"):
        try:
            await send({"type": "websocket.send", "text": payload})
        except (TypeError, UnicodeEncodeError) as error:
            seen[type(error).__name__] += 1
    array = bytearray(b"mutable")
    await send({"type": "websocket.send", "bytes": array})
    array[:] = b"changed"
    await send({"type": "websocket.send", "bytes": array})
    await until_disconnected(receive)


async def after_close(receive: Any, send: Any) -> None:
    """Send after closing."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1000})
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except UnexpectedMessageError:
        seen["too late"] += 1
    await until_disconnected(receive)


async def only_sends(receive: Any, send: Any) -> None:
    """Send until another task has had a turn."""
    await send({"type": "websocket.accept"})
    has_run = anyio.Event()

    async def run() -> None:
        has_run.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(MANY):
            await send({"type": "websocket.send", "bytes": b""})
            if has_run.is_set():
                seen["others ran"] += 1
                break
    await until_disconnected(receive)


async def subprotocol(receive: Any, send: Any) -> None:
    """Accept what was not offered."""
    await send({"type": "websocket.accept", "subprotocol": "not offered"})


ENDPOINTS = {
    "/echo": echo,
    "/filling": filling,
    "/late": late,
    "/deaf": deaf,
    "/cancelled": cancelled,
    "/cancelled-natively": cancelled_natively,
    "/stalled-return": stalled_return,
    "/subprotocol": subprotocol,
    "/two-senders": two_senders,
    "/many-senders": many_senders,
    "/mistaken": mistaken,
    "/after-close": after_close,
    "/only-sends": only_sends,
}


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("loop", choices=["asyncio", "uvloop", "trio"])
    parser.add_argument("port")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--compression", action="store_true")
    parser.add_argument("--tls", nargs=2)
    options = parser.parse_args()
    hardening: AbstractContextManager[Connections | None] = nullcontext()
    if not options.bare:
        hardening = harden(
            max_message_bytes=LIMIT_BYTES, compression=options.compression
        )
    with hardening as connections:
        config = Config()
        config.bind = [f"127.0.0.1:{options.port}"]
        config.websocket_max_message_size = LIMIT_BYTES
        config.server_names = ["x", "127.0.0.1", config.bind[0]]
        if options.tls:
            config.certfile, config.keyfile = options.tls

        async def with_connections(scope: Any, receive: Any, send: Any) -> None:
            await app(scope | {"app": connections}, receive, send)

        if options.loop == "trio":
            trio.run(serve_trio, with_connections, config)
            return
        factory = uvloop.new_event_loop if options.loop == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve_asyncio(with_connections, config))


if __name__ == "__main__":
    main()

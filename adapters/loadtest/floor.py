"""How fast one core of this machine can send at all: what no server can pass."""

from __future__ import annotations

import os
import resource
import select
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle, islice

__all__ = ("send_floor",)

SPARE_DESCRIPTORS = 64
READ_BYTES = 256 * 1024
PATIENCE_S = 10.0  # with the reader: to start, to take what is sent, to end (guess)
BETWEEN_LOOKS = 256  # messages that are sent between two looks at the clock
NO_LINGER = struct.pack("ii", 1, 0)  # close at once: no port stays taken for a minute


def send_floor(size: int, sockets: int, seconds: float) -> float:
    """Return how many messages one core can ``send`` to other sockets of it (1/s).

    Over TCP on loopback, each message with a call of its own, to one socket after the
    other, as a server would have to; another process reads them, on another core if
    there is one. By this thread's processor time, so that a busy machine lies less. In
    it is what the kernel does on loopback to deliver, and what Python takes to call.

    Args:
        size: of a message (bytes, > 0).
        sockets: how many (> 0); fewer if the limit of descriptors has no room.
        seconds: how long to send (s, > 0).

    Raises:
        OSError: there are no ports or no memory for so many, or the reader has died.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        sockets = max(min(sockets, soft - SPARE_DESCRIPTORS), 1)
    with ExitStack() as stack:
        core = stack.enter_context(alone_on_a_core())
        address = stack.enter_context(reader(core))
        targets = []
        for _ in range(sockets):
            one = stack.enter_context(socket.create_connection(address, PATIENCE_S))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            one.setblocking(False)
            targets.append(one)
        return sent_bytes_per_s(targets, bytes(size), seconds) / size


def sent_bytes_per_s(
    targets: list[socket.socket], message: bytes, seconds: float
) -> float:
    """Send a message to one after the other; by the processor time it took."""
    sent_bytes = 0
    turns = cycle(targets)
    until = time.perf_counter() + seconds
    began_s = time.thread_time()
    while time.perf_counter() < until:
        for target in islice(turns, BETWEEN_LOOKS):
            try:
                sent_bytes += target.send(message)
            except BlockingIOError:
                wait_writable(target)
    return sent_bytes / max(time.thread_time() - began_s, 1e-6)


def wait_writable(target: socket.socket) -> None:
    """Wait, without taking processor time, until the reader has read something."""
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    if not poll.poll(PATIENCE_S * 1000):
        raise TimeoutError("nobody reads what is sent to measure the floor")


@contextmanager
def alone_on_a_core() -> Iterator[int | None]:
    """Keep this thread to one core, and yield another; None if there is none."""
    try:
        cores = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        cores = set()
    if len(cores) < 2:
        yield None
        return
    own, other, *_ = sorted(cores)
    os.sched_setaffinity(0, {own})
    try:
        yield other
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def reader(core: int | None) -> Iterator[tuple[str, int]]:
    """Yield the address of a process that reads all that comes, on that core."""
    command = [sys.executable, "-m", __name__, *([] if core is None else [str(core)])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            select.select([process.stdout], [], [], PATIENCE_S)
            os.set_blocking(process.stdout.fileno(), False)
            line = process.stdout.readline()
            if not line:
                raise OSError("the process that reads did not start")
            yield "127.0.0.1", int(line)
        finally:
            process.stdin.close()  # at its end the reader ends
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            process.kill()


def read_all(core: int | None) -> None:
    """Tell a port on stdout and read what comes there, until stdin ends."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    buffer = bytearray(READ_BYTES)
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server(("127.0.0.1", 0), backlog=4096) as server,
    ):
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print(server.getsockname()[1], flush=True)  # noqa: T201 # to who started it
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is server:
                    selector.register(server.accept()[0], selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and not has_read(
                    key.fileobj, buffer
                ):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def has_read(source: socket.socket, buffer: bytearray) -> bool:
    """Read once; False if that was the end."""
    try:
        return source.recv_into(buffer) > 0
    except ConnectionResetError:  # closed without lingering
        return False


if __name__ == "__main__":
    read_all(int(sys.argv[1]) if sys.argv[1:] else None)

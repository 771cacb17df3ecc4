"""Listening sockets on which a client that has stopped reading does not stay."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .settings import ServerSettings

__all__ = ("BACKLOG", "ListenError", "SocketOptions", "listen", "worker_binds")

logger = logging.getLogger("broker.hosting")

MAX_PORT = 65_535
BACKLOG = 1_024  # connections that wait to be accepted (guess; the kernel caps it)
PROBES = 3  # that go unanswered before a client is taken for gone (Linux has 9; guess)


class ListenError(Exception):
    """An address cannot be listened on; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """What every accepted connection inherits.

    Attributes:
        user_timeout_s: a client that takes nothing of what is sent for so long is cut
            by the kernel (s). So is one that answers no probe, because the kernel asks
            for this time only, and not how many probes were lost.
        notsent_lowat_bytes: most bytes that the kernel takes for one client beyond
            what is under way to it.
        keepalive_s: idle time before the kernel asks whether a client is there (s); at
            most half of ``user_timeout_s``, so that one probe that is lost ends nobody.
    """

    user_timeout_s: float
    notsent_lowat_bytes: int
    keepalive_s: float


def listen(binds: Iterable[str], options: SocketOptions) -> list[socket.socket]:
    """Return a listening socket for each address.

    Args:
        binds: ``host:port``, ``[v6 address]:port``, ``unix:path`` or ``fd://number``.

    Raises:
        ListenError: an address is taken, not ours or not allowed; nothing stays open.
    """
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            try:
                sock = _open(bind)
                sockets.append(sock)
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    _set_options(sock, options)
                sock.listen(BACKLOG)
                sock.setblocking(False)
            except (OSError, ValueError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ListenError(f"cannot listen on {bind}: {reason}") from error
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def worker_binds(server: ServerSettings) -> list[str]:
    """Return where each worker listens for itself: one port above the one before.

    Raises:
        ListenError: there are not so many ports.
    """
    if server.worker_bind is None:
        return []
    host, _, port = server.worker_bind.rpartition(":")
    first, last = int(port), int(port) + server.workers - 1
    if last > MAX_PORT:
        raise ListenError(f"no port {last} for worker {server.workers}")
    return [f"{host}:{each}" for each in range(first, last + 1)]


def _open(bind: str) -> socket.socket:
    if bind.startswith("fd://"):
        return socket.socket(fileno=int(bind.removeprefix("fd://")))
    if bind.startswith("unix:"):
        path = bind.removeprefix("unix:")
        _remove_stale(path)
        return _bound(socket.AF_UNIX, path)
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _bound(family, (host, int(port)))


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that was killed; one that answers stays."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        os.unlink(path)


def _bound(family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _set_options(sock: socket.socket, options: SocketOptions) -> None:
    """Set what accepted connections inherit, and say what is missing here."""
    tcp = socket.IPPROTO_TCP
    idle_s = min(options.keepalive_s, options.user_timeout_s / 2)
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {
        "TCP_USER_TIMEOUT": (
            round(options.user_timeout_s * 1_000),
            "a client that stops reading is cut by the broker after stall_s only",
        ),
        "TCP_NOTSENT_LOWAT": (
            options.notsent_lowat_bytes,
            "a client that stops reading may hold megabytes in the kernel",
        ),
        "TCP_KEEPIDLE": (
            int(idle_s),
            "a client that vanished is noticed after hours",
        ),
        "TCP_KEEPINTVL": (
            int((options.user_timeout_s - idle_s) / PROBES),
            "a client that vanished is noticed late",
        ),
        "TCP_KEEPCNT": (PROBES, "a client that vanished is noticed late"),
    }
    for name, (value, without) in wanted.items():
        number = _option(name)
        try:
            if number is None:
                raise OSError("not available on this platform")  # noqa: TRY301 # told below
            sock.setsockopt(tcp, number, max(1, value))
        except OSError as error:
            logger.warning("%s: %s: %s", name, error, without)


def _option(name: str) -> int | None:
    # Python has this constant from 3.12 on; the number is Linux's.
    if name == "TCP_NOTSENT_LOWAT" and os.uname().sysname == "Linux":
        return 25
    number: int | None = getattr(socket, name, None)
    return number

"""How clients reach the server: addresses, sockets, certificates, handshakes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from picows import WSError, WSListener, ws_connect
from picows.common import WSInvalidStatusError

from .plan import Plan

__all__ = ("HANDSHAKE_S", "ConnectError", "Dialer")

HANDSHAKE_S = 30.0  # guess: a server that all clients come back to at once takes long
MAX_FRAME_BYTES = 16 * 1024 * 1024  # joined frames are as long as the server likes
SMALL_BUFFER_BYTES = 4096  # a slow client's; the kernel doubles it
SMALL_READ_BYTES = 512
READ_BYTES = 4096  # grows by itself; of 10,000 clients, 40 MB
# Linux: choose the port when connecting, and not before, so that several connections
# to different servers may share one (ip(7)).
IP_BIND_ADDRESS_NO_PORT = 24
DEFAULT_PORTS = {"ws": 80, "wss": 443}

# The library's own words go nowhere: what matters of them is said here.
logger = logging.getLogger("adapters.loadtest.picows")
logger.setLevel(logging.CRITICAL + 1)


class ConnectError(Exception):
    """A client could not connect; one line says why."""


class Dialer:
    """Opens connections to the server of a plan.

    Args:
        plan: what counts are its URL, ``sources`` and ``insecure``.
    """

    def __init__(self, plan: Plan) -> None:
        self._sources = plan.sources
        parts = urlsplit(plan.url)
        self._host = parts.hostname or ""
        self._port = parts.port or DEFAULT_PORTS.get(parts.scheme, 80)
        self._addresses: list[tuple[int, Any]] = []  # (family, address), best first
        self._context: ssl.SSLContext | None = None
        # An adapter, because the library makes a child of a logger for each connection.
        self._logger = logging.LoggerAdapter(logger)
        if parts.scheme == "wss":
            self._context = ssl.create_default_context()
            if plan.insecure:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE

    async def resolve(self) -> None:
        """Find the server's addresses, once for all clients.

        Raises:
            ConnectError: it has none.
        """
        loop = asyncio.get_running_loop()
        # What clients connect from is of this family.
        family = socket.AF_UNSPEC if self._sources == 1 else socket.AF_INET
        try:
            found = await loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, family=family
            )
        except OSError as error:
            raise ConnectError(f"unknown host {self._host!a}: {_said(error)}") from None
        self._addresses = [(each[0], each[4]) for each in found]

    async def dial(
        self, listener: WSListener, url: str, *, client: int, is_slow: bool = False
    ) -> None:
        """Connect, and hand the connection to its listener.

        Args:
            client: its number, by which local addresses are taken in turn.
            is_slow: with as little room as possible for what is not read.

        Raises:
            ConnectError: there is no WebSocket connection.

        Cancellation: what was opened is closed.
        """

        async def connected(_: object) -> socket.socket:
            return await self._connected(client, is_slow=is_slow)

        try:
            async with asyncio.timeout(HANDSHAKE_S):
                transport, _ = await ws_connect(
                    lambda: listener,
                    url,
                    ssl_context=self._context,
                    websocket_handshake_timeout=HANDSHAKE_S,
                    logger_name=self._logger,
                    max_frame_size=MAX_FRAME_BYTES,
                    max_redirects=0,
                    read_buffer_init_size=SMALL_READ_BYTES if is_slow else READ_BYTES,
                    socket_factory=connected,
                )
        except (WSError, OSError, TimeoutError) as error:
            raise ConnectError(_said(error)) from None
        if transport.is_disconnected:
            raise ConnectError("the server closed the connection during the handshake")

    async def _connected(self, client: int, *, is_slow: bool) -> socket.socket:
        """Return a socket that is connected to the first address that answers."""
        problem: OSError | None = None
        for family, address in list(self._addresses):
            try:
                sock = await self._socket(family, address, client, is_slow=is_slow)
            except OSError as error:
                problem = problem or error
            else:
                if problem is not None:  # for localhost, often: the others go there
                    self._addresses.remove((family, address))
                    self._addresses.insert(0, (family, address))
                return sock
        assert problem is not None
        raise problem

    async def _socket(
        self, family: int, address: Any, client: int, *, is_slow: bool
    ) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if is_slow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            if self._sources > 1:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((f"127.0.0.{1 + client % self._sources}", 0))
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock


def _said(error: Exception) -> str:
    """Return why there is no connection, in one line for whoever started the test."""
    if isinstance(error, TimeoutError):
        return f"no answer to the handshake within {HANDSHAKE_S:g} s"
    if isinstance(error, WSInvalidStatusError) and error.response is not None:
        status = error.response.status
        return f"the server answered with HTTP {int(status)}, and not with a WebSocket"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}; --insecure does not look"
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__

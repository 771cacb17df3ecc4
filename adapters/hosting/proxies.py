"""The client's own address, where a proxy that is trusted says it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ("ForwardedFor", "parse_host")


class ForwardedFor:
    """Puts the client's address from ``X-Forwarded-For`` into the ASGI scope.

    Each proxy appends the address that it was called from, so the list is read from
    its end: the first address that is not a trusted proxy's is the client's, and what
    stands before it could have been written by anybody.

    Args:
        trusted: addresses or networks of proxies. A peer without an address (a Unix
            socket) is trusted if there are any: only this machine can connect.
    """

    def __init__(self, app: ASGIApp, trusted: Iterable[str]) -> None:
        self._app = app
        self._trusted = [ip_network(each, strict=False) for each in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._trusted and scope["type"] in ("http", "websocket"):
            client = scope.get("client")
            if client is None or self._trusts(client[0]):
                given = b",".join(
                    value
                    for name, value in scope["headers"]
                    if name.lower() == b"x-forwarded-for"
                )
                host = self._client_in(given.decode("latin-1"))
                if host is not None:
                    # Left out, so that what is there still is a proxy's that nobody
                    # trusts: the metrics are not shown to such a one.
                    headers = [
                        (name, value)
                        for name, value in scope["headers"]
                        if name.lower() != b"x-forwarded-for"
                    ]
                    scope = {**scope, "client": (host, 0), "headers": headers}
        await self._app(scope, receive, send)

    def _client_in(self, given: str) -> str | None:
        """Return the last address that is no proxy's; None if there is none."""
        client = None
        for entry in reversed(given.split(",")):
            address = parse_host(entry.strip())
            if address is None:
                break  # written by no proxy: believe nothing before it either
            client = str(address)
            if not self._trusts(client):
                break
        return client

    def _trusts(self, host: str) -> bool:
        address = parse_host(host)
        return address is not None and any(address in each for each in self._trusted)


def parse_host(host: str) -> IPv4Address | IPv6Address | None:
    """Return an address, IPv4 in IPv6 as IPv4; None for what is none.

    A port behind it, which some proxies write, is left out.
    """
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped

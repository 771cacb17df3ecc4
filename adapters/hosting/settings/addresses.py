"""What is wrong with an address, a network, an origin, a path or a namespace."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network

__all__ = (
    "bind_fault",
    "namespace_fault",
    "network_fault",
    "origin_fault",
    "path_fault",
    "worker_bind_fault",
)

_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([^/?#@:\[\]]+|\[[^\]]*\])(?::([^/?#]*))?(?=[/?#]|\Z)"
)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def bind_fault(text: str) -> str | None:
    """Return what is wrong with an address to listen on, None for nothing."""
    if text.startswith("unix:"):
        return None if len(text) > 5 else "needs a path behind unix:"
    if text.startswith("fd://"):
        is_number = re.fullmatch(r"[0-9]{1,9}", text[5:])
        return None if is_number else "needs the number of a descriptor behind fd://"
    host, colon, port = text.rpartition(":")
    if not colon or not _is_host(host) or not _is_port(port):
        return "must be host:port, [v6]:port, unix:path or fd://N"
    return None


def worker_bind_fault(text: str) -> str | None:
    """Return what is wrong with the address of the first worker, None for nothing."""
    if text.startswith(("unix:", "fd://")) or bind_fault(text):
        return "must be host:port or [v6]:port"
    return None


def network_fault(text: str) -> str | None:
    """Return what is wrong with an address or network, None for nothing."""
    try:
        ip_network(text)
    except ValueError:
        pass
    else:
        return None
    try:
        return f"has bits set behind its prefix; write {ip_network(text, strict=False)}"
    except ValueError:
        return "must be an address or a network such as 10.0.0.0/8"


def origin_fault(text: str) -> str | None:
    """Return what is wrong with an origin (RFC 6454 §6.2), None for nothing.

    What a browser would never send is wrong: it would not match anything.
    """
    if text in ("*", "null"):
        return None
    found = _ORIGIN.match(text.lower())
    if (
        found is None
        or not _is_host(found[2])
        or not (found[3] is None or _is_port(found[3]))
    ):
        return 'must be scheme://host[:port], "*" or "null"'
    right = found[0]
    if found[3] is not None and found[3] == _DEFAULT_PORTS.get(found[1]):
        right = right.removesuffix(f":{found[3]}")
    return None if text == right else f"is not what browsers send; write {right}"


def path_fault(text: str) -> str | None:
    """Return what is wrong with the path of a URL, None for nothing."""
    is_path = _PATH.fullmatch(text)
    return None if is_path else "must be a path such as /api, without a slash behind"


def namespace_fault(text: str) -> str | None:
    """Return what is wrong with a namespace, None for nothing; it may be empty."""
    is_right = re.fullmatch(r"[A-Za-z0-9_-]*", text)
    return None if is_right else "must have letters, digits, _ and - only"


def _is_port(text: str) -> bool:
    return bool(_PORT.fullmatch(text)) and int(text) < 65_536


def _is_host(text: str) -> bool:
    try:
        if text.startswith("["):
            IPv6Address(text[1:].removesuffix("]"))
            return text.endswith("]")
        if re.fullmatch(r"[0-9.]+", text):
            IPv4Address(text)
            return True
    except ValueError:
        return False
    return bool(_NAME.fullmatch(text))

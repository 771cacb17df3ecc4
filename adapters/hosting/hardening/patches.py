"""Where hypercorn is patched, what must be there, and how it is undone."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module, metadata
from typing import Any, NoReturn

import hypercorn

from .asyncio_server import AsyncioServer, AsyncioTaskGroup
from .compression import BoundedDeflate
from .connections import Connections
from .frames import FrameMaker
from .http import HardenedH11, HardenedWrapper
from .trio_server import TrioServer, TrioTaskGroup
from .websocket_stream import HardenedHandshake, HardenedStream

__all__ = ("PATCH_POINTS", "harden")

PACKAGE = "adapters.hosting.hardening"

# {module: {class that it uses: {method of it: its parameters, without `self`}}};
# methods that are overridden, called, or called by what is overridden.
PATCH_POINTS: dict[str, dict[str, dict[str, str]]] = {
    "hypercorn.asyncio.run": {
        "TCPServer": {
            "__init__": "app loop config context state reader writer",
            "run": "",
            "protocol_send": "event",
            "_read_data": "",
            "_close": "",
            "_initiate_server_close": "",
        }
    },
    "hypercorn.asyncio.tcp_server": {
        "TaskGroup": {"spawn_app": "app config scope send"},
        "ProtocolWrapper": {},
    },
    "hypercorn.trio.run": {
        "TCPServer": {
            "__init__": "app config context state stream",
            "run": "",
            "protocol_send": "event",
            "_read_data": "",
            "_close": "",
            "_initiate_server_close": "",
        }
    },
    "hypercorn.trio.tcp_server": {
        "TaskGroup": {"spawn_app": "app config scope send"},
        "ProtocolWrapper": {},
    },
    "hypercorn.protocol": {
        "ProtocolWrapper": {
            "__init__": "app config context task_group state ssl client server send "
            "alpn_protocol",
            "handle": "event",
        },
        "H11Protocol": {
            "stream_send": "event",
            "_check_protocol": "event",
            "_create_stream": "request",
            "_send_error_response": "status_code",
        },
    },
    "hypercorn.protocol.h11": {
        "WSStream": {
            "__init__": "app config context task_group ssl client server send "
            "stream_id",
            "handle": "event",
            "app_send": "message",
            "_accept": "message",
            "_handle_events": "",
            "_send_error_response": "status_code",
            "_send_wsproto_event": "event",
        }
    },
    "hypercorn.protocol.ws_stream": {
        "Handshake": {
            "__init__": "headers http_version",
            "accept": "subprotocol additional_headers",
        },
        "PerMessageDeflate": {
            "accept": "offer",
            "frame_inbound_header": "proto opcode rsv payload_length",
            "frame_inbound_payload_data": "proto data",
            "frame_inbound_complete": "proto fin",
        },
        "WebsocketBuffer": {"__init__": "max_length", "extend": "event", "clear": ""},
    },
    "hypercorn.config": {"Config": {"create_ssl_context": ""}},
}


@contextmanager
def harden(
    *, max_message_bytes: int, compression: bool = False
) -> Iterator[Connections]:
    """Patch hypercorn for as long as the block runs, and undo it at its end.

    For one worker process, on any of its loops; connections that are served after the
    block are not hardened. Not to be nested.

    Args:
        max_message_bytes: of a client's message, text in UTF-8; above it the client
            is closed with 1009 (bytes, > 0).
        compression: accept permessage-deflate; it costs a connection up to 96 KiB.

    Raises:
        RuntimeError: this is not the hypercorn that the patches are made for, or it
            is patched already; nothing has changed.
    """
    _check()
    connections = Connections()
    new: dict[tuple[str, str], Any] = {
        ("asyncio.run", "TCPServer"): partial(AsyncioServer, connections),
        ("asyncio.tcp_server", "TaskGroup"): AsyncioTaskGroup,
        ("asyncio.tcp_server", "ProtocolWrapper"): HardenedWrapper,
        ("trio.run", "TCPServer"): partial(TrioServer, connections),
        ("trio.tcp_server", "TaskGroup"): TrioTaskGroup,
        ("trio.tcp_server", "ProtocolWrapper"): HardenedWrapper,
        ("protocol", "H11Protocol"): HardenedH11,
        ("protocol.h11", "WSStream"): partial(
            HardenedStream, max_message_bytes, FrameMaker()
        ),
        ("protocol.ws_stream", "Handshake"): partial(HardenedHandshake, compression),
        ("protocol.ws_stream", "PerMessageDeflate"): partial(
            BoundedDeflate, max_message_bytes
        ),
    }
    places = {key: import_module(f"hypercorn.{key[0]}") for key in new}
    old = {key: getattr(place, key[1]) for key, place in places.items()}
    alpn_protocols = hypercorn.Config.alpn_protocols
    try:
        for key, place in places.items():
            setattr(place, key[1], new[key])
        hypercorn.Config.alpn_protocols = ["http/1.1"]
        yield connections
    finally:
        hypercorn.Config.alpn_protocols = alpn_protocols
        for key, place in places.items():
            setattr(place, key[1], old[key])


def _check() -> None:
    version = metadata.version("hypercorn")
    if not version.startswith("0.18."):
        _refuse(version)
    for module, classes in PATCH_POINTS.items():
        for name, methods in classes.items():
            where = f"{module}.{name}"
            found = getattr(import_module(module), name, None)
            if not inspect.isclass(found) or found.__module__.startswith(PACKAGE):
                _refuse(f"{version} whose {where} is {found!r}")
            for method, expected in methods.items():
                function = getattr(found, method, None)
                if not inspect.isfunction(function):
                    _refuse(f"{version} without {where}.{method}")
                _, *parameters = inspect.signature(function).parameters
                if parameters != expected.split():
                    _refuse(f"{version} whose {where}.{method} takes {parameters}")


def _refuse(found: str) -> NoReturn:
    raise RuntimeError(
        f"asgi-broker hardens hypercorn 0.18; found {found}: "
        "install hypercorn>=0.18,<0.19"
    )

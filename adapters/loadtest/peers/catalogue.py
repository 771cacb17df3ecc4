"""The servers that are compared: where each comes from, and how it is started."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec

from adapters.loadtest.plan import Wire

__all__ = ("BASELINE", "OURS", "PEERS", "SERVERS", "Peer")

SERVERS = Path(__file__).parent / "servers"

STARLETTE = "starlette==1.10.0"
UVICORN = "uvicorn[standard]==0.54.0"  # with uvloop, httptools and websockets
UNDER_UVICORN = (
    *("{python}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
    *("--log-level", "warning"),
)
UNDER_HYPERCORN = ("{python}", "-m", "hypercorn", "--bind", "127.0.0.1:{port}")
# Bun ships one package for each platform; the one called bun fetches it while it is
# installed, and scripts do not run here.
BUN = "@oven/bun-{}-{}".format(
    platform.system().lower(),
    {"x86_64": "x64", "AMD64": "x64", "arm64": "aarch64"}.get(
        platform.machine(), platform.machine()
    ),
)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A chat server: what one client sends reaches all.

    Attributes:
        name: for options and files.
        label: for people.
        command: ``{python}`` in it becomes the interpreter that has what ``pip``
            names, ``{node}`` the one of Node.js, ``{modules}`` the folder with what
            ``npm`` names, ``{servers}`` the folder of the servers, ``{port}`` where
            to listen.
        variables: more of the environment; the same placeholders.
        path: of its WebSocket endpoint, with the query.
        wire: what it speaks.
        topic: the channel or event that it knows.
        pip: exact releases; empty if what this program runs on has all of it.
        npm: likewise.
    """

    name: str
    label: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    path: str = "/ws"
    wire: Wire = Wire.TEXT
    topic: str = "chat"
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()


def ours(name: str, label: str, loop: str) -> Peer:
    """Return what comes with the broker, on one of its event loops."""
    return Peer(
        name=name,
        label=label,
        command=(
            *("{python}", "-m", "adapters.cli", "serve", "--bind", "127.0.0.1:{port}"),
            *("--loop", loop),
        ),
        # One client speaks for all here, so it may say more than a person.
        variables=(
            ("BROKER_LIMITS_MESSAGES_PER_S", "none"),
            ("BROKER_LIMITS_BYTES_PER_S", "none"),
            ("BROKER_SERVER_LOG_LEVEL", "warning"),
        ),
        path="/connection/websocket",
        wire=Wire.CENTRIFUGE,
    )


PEERS = (
    ours("serve", "broker serve", "asyncio"),
    ours("serve-uvloop", "broker serve, uvloop", "uvloop"),
    Peer(
        name="serve-own",
        label="broker serve, own messages",
        command=(
            *("{python}", "-m", "adapters.cli", "serve", "own_chat:app"),
            *("--bind", "127.0.0.1:{port}"),
        ),
        variables=(("BROKER_SERVER_LOG_LEVEL", "warning"),),
    ),
    Peer(
        name="own",
        label="asgi-broker, own messages, hypercorn",
        command=(*UNDER_HYPERCORN, "own_chat:app"),
    ),
    Peer(
        name="naive-hypercorn",
        label="naive loop, hypercorn",
        command=(*UNDER_HYPERCORN, "naive_chat:app"),
    ),
    Peer(
        name="naive-uvicorn",
        label="naive loop, uvicorn",
        command=(*UNDER_UVICORN, "naive_chat:app"),
        pip=(STARLETTE, UVICORN),
    ),
    Peer(
        name="broadcaster",
        label="broadcaster, uvicorn",
        command=(*UNDER_UVICORN, "broadcaster_chat:app"),
        pip=("broadcaster==0.3.1", STARLETTE, UVICORN),
    ),
    Peer(
        name="channels",
        label="Django Channels, daphne",
        command=(
            *("{python}", "-m", "daphne", "-b", "127.0.0.1", "-p", "{port}"),
            *("--verbosity", "0", "channels_chat:application"),
        ),
        pip=("django==5.2.19", "channels==4.3.2", "daphne==4.2.3"),
    ),
    Peer(
        name="litestar",
        label="Litestar channels, uvicorn",
        command=(*UNDER_UVICORN, "litestar_chat:app"),
        pip=("litestar==2.25.0", UVICORN),
    ),
    Peer(
        name="python-socketio",
        label="python-socketio, uvicorn",
        command=(*UNDER_UVICORN, "socketio_chat:app"),
        path="/socket.io/?EIO=4&transport=websocket",
        wire=Wire.SOCKETIO,
        pip=("python-socketio==5.18.1", UVICORN),
    ),
    Peer(
        name="ws",
        label="ws, Node.js",
        command=("{node}", "{servers}/ws_chat.cjs", "{port}"),
        npm=("ws@8.23.0",),
    ),
    Peer(
        name="socketio",
        label="Socket.IO, Node.js",
        command=("{node}", "{servers}/socketio_chat.cjs", "{port}"),
        path="/socket.io/?EIO=4&transport=websocket",
        wire=Wire.SOCKETIO,
        npm=("socket.io@4.8.4",),
    ),
    Peer(
        name="bun",
        label="Bun's own publish",
        command=(f"{{modules}}/{BUN}/bin/bun", "{servers}/bun_chat.js", "{port}"),
        npm=(f"{BUN}@1.4.5",),
    ),
)
OURS = frozenset({"serve", "serve-uvloop", "serve-own", "own"})
BASELINE = "naive-hypercorn"  # what every ratio is against

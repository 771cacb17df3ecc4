"""Which speaker a plan asks for, and where it connects to."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from adapters.loadtest.plan import Plan, Scenario, Wire

from .base import Speaker, filled
from .centrifuge import CentrifugeSpeaker
from .socketio import SocketIoSpeaker
from .text import TextSpeaker

__all__ = ("address", "speaker")

# {wire: (path, query)} of URLs that name a server and no more. The first is that of
# Centrifugo and of ``broker serve``, the second of Socket.IO.
USUAL = {
    Wire.CENTRIFUGE: ("/connection/websocket", ""),
    Wire.SOCKETIO: ("/socket.io/", "EIO=4&transport=websocket"),
}
RESUMING = frozenset({Scenario.STORM, Scenario.RESUME})


def address(plan: Plan, *, client: int, room: int) -> str:
    """Return the URL that a client connects to."""
    parts = urlsplit(filled(plan.url, client=client, room=room))
    path, query = USUAL.get(plan.wire, ("/", ""))
    if parts.path not in ("", "/"):
        path = parts.path
    return urlunsplit(parts._replace(path=path, query=parts.query or query))


def speaker(plan: Plan, *, client: int, room: int, listens: bool = True) -> Speaker:
    """Return a client's side of the conversation.

    Args:
        listens: False for a client that only publishes. Where the wire knows no
            difference it hears all the same.
    """
    topic = filled(plan.topic, client=client, room=room)
    greeting = [filled(each, client=client, room=room) for each in plan.greeting]
    match plan.wire:
        case Wire.TEXT:
            template = filled(plan.template, client=client, room=room)
            return TextSpeaker(template, greeting)
        case Wire.SOCKETIO:
            return SocketIoSpeaker(topic, greeting)
        case Wire.CENTRIFUGE:
            return CentrifugeSpeaker(
                topic,
                token=plan.token,
                listens=listens,
                resumes=plan.scenario in RESUMING,
            )

"""The JSON form of the protocol for clients that only listen: bare pushes.

A client's one frame is a connect request; from then on it gets pushes, each a line of
its own without the envelope that the two-way form has. ``{}`` is a ping that nobody
answers.
"""

from __future__ import annotations

import msgspec

from . import codec, frames
from .codes import Disconnects, Errors

__all__ = ("decode_connect", "disconnect_for", "encode_push", "encode_reply")

_decode = msgspec.json.Decoder(frames.Connect).decode


def decode_connect(
    frame: str | bytes, /, *, max_commands: int, max_depth: int
) -> list[frames.Command]:
    """Return the connect command that a client's first frame stands for.

    Raises:
        BadFrame: as ``codec.decode_commands``.
    """
    request = codec.parsed(codec.checked(frame), _decode, max_depth)
    return [frames.Command(1, request)]


def encode_reply(reply: frames.Reply) -> str:
    """Return the connect push: the one reply that there is."""
    assert isinstance(reply.outcome, frames.ConnectResult)
    fields = msgspec.structs.asdict(reply.outcome)
    return encode_push(frames.Push("", frames.ConnectPush(**fields)))


def encode_push(push: frames.Push) -> str:
    """Return a push as one line of JSON: ``{"channel":…,"pub":…}``."""
    return codec.line(codec.push_fields(push))


def disconnect_for(error: frames.Error) -> frames.DisconnectPush:
    """Return what a client is told for an error, which this form has no place for."""
    if error.code in (Errors.EXPIRED.code, Errors.TOKEN_EXPIRED.code):
        return Disconnects.CONNECTION_EXPIRED  # come back, with another token
    if error.code in (Errors.PERMISSION_DENIED.code, Errors.UNAUTHORIZED.code):
        return Disconnects.PERMISSION_DENIED
    if error.temporary:
        return Disconnects.INTERNAL
    return Disconnects.BAD_REQUEST

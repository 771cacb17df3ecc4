"""What a client of the Centrifuge protocol may ask about a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .client_format import JSON, ClientFormat
from .client_protocol import client_error
from .errors import RecoveryImpossible
from .message import Message, Position
from .protocol import codec, frames
from .protocol.codes import Errors

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ("history_of", "members_of", "resume_at")

AROUND_BYTES = 256  # of a reply, around its publications: more than there can be


async def members_of(broker: Broker, channel: str) -> dict[str, frames.ClientInfo]:
    """Return who is in a channel, by client.

    Raises:
        ClientError: its rules do not keep presence.
    """
    if not broker.rules_of(channel).presence:
        raise client_error(Errors.NOT_AVAILABLE)
    return {
        member.client_id: codec.client_info(
            member.user or "", member.client_id, member.info
        )
        for member in await broker.presence(channel)
    }


async def resume_at(
    broker: Broker, channel: str, epoch: str, offset: int
) -> Position | None:
    """Return where to resume; with no epoch that is the stream's own, if any."""
    if not epoch:
        page = await broker.history(channel, limit=1)
        if page.position is None:
            return None
        epoch = page.position.epoch
    return Position(epoch, offset)


async def history_of(
    broker: Broker, request: frames.History, most: int, speaks: ClientFormat[Any] = JSON
) -> frames.HistoryResult:
    """Return a page of a channel's history.

    Args:
        most: most publications. They also fit into half of an outbox, or it is but
            one: the page ends before the one that would not.

    Raises:
        ClientError: its rules do not keep history.
        RecoveryImpossible: ``since`` is of another epoch, or forwards not all after it
            is kept.
    """
    channel, asked = request.channel, request.since
    kept = broker.rules_of(channel).history_size
    if not kept:
        raise client_error(Errors.NOT_AVAILABLE)
    limit = most if request.limit < 0 else min(request.limit, most)
    since = None
    if asked is not None and not request.reverse:
        since = await resume_at(broker, channel, asked.epoch, asked.offset)
    page = await broker.history(
        channel,
        since=since,
        # Backwards from a position all are read: ``since`` is where forwards begins.
        limit=kept if asked is not None and request.reverse else max(limit, 1),
        reverse=request.reverse,
    )
    top = page.position or Position("", 0)
    found = page.messages
    if asked is not None and request.reverse:
        if asked.epoch not in ("", top.epoch):
            raise RecoveryImpossible("another epoch")
        found = [each for each in found if _is_before(each, asked.offset)]
    publications: list[frames.Publication] = []
    room = broker.limits.max_outbox_bytes // 2 - AROUND_BYTES
    for message in found[:limit]:
        publication = speaks.publication(message)
        room -= len(msgspec.json.encode(publication)) + 1  # and a comma
        if room < 0 and publications:
            break
        publications.append(publication)
    return frames.HistoryResult(publications, top.epoch, top.offset)


def _is_before(message: Message, offset: int) -> bool:
    return message.position is not None and message.position.offset < offset

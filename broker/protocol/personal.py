"""Channels of single users: ``#42``, ``news:#42``, or of two: ``chat#42,43``."""

from __future__ import annotations

from broker.errors import InvalidTopic
from broker.topics import check_topic

__all__ = ("is_open_to", "personal_channel")


def personal_channel(namespace: str, user: str) -> str:
    """Return the channel of a user's own.

    Args:
        namespace: "" for none.

    Raises:
        InvalidTopic: the user's id has characters that a channel cannot have, or a
            comma or a hash, which would make it another user's channel as well.
    """
    channel = f"{namespace}:#{user}" if namespace else f"#{user}"
    if "," in user or "#" in user:
        raise InvalidTopic(channel, 0, "a comma or hash in the id of a user")
    check_topic(channel)
    return channel


def is_open_to(channel: str, user: str | None) -> bool:
    """Return whether a channel is for a user: named after its last ``#``, or no ``#``.

    Source: Centrifugo's user-limited channels.
    """
    _, mark, users = channel.rpartition("#")
    return not mark or (bool(user) and user in users.split(","))

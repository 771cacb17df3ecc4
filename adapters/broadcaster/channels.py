"""Names of channels, which may be any text, as topics, which have a grammar."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote, unquote

from broker import UsageError
from broker.topics import MAX_SEGMENTS, MAX_TOPIC_BYTES

__all__ = ("channel_of", "topic_of")

# What a topic's segment may hold besides letters and digits, but for "%", which begins
# what is encoded here.
_SAFE = "!\"#$&'()+,/:;<=?@[\\]^_`{|}~-"
_EMPTY = "%"  # alone it encodes nothing else
_LONG = "%~"  # likewise: two hexadecimal digits follow "%" everywhere else


def topic_of(channel: str) -> str:
    """Return the topic that carries a channel; no two channels share one.

    A channel whose name is a topic already, such as ``chatroom`` or ``chat.lobby``, is
    that topic, unless it holds ``%``. In any other the UTF-8 bytes that a topic may not
    hold are percent-encoded: spaces, control and non-ASCII characters, ``%``, ``*``,
    ``>``, a leading ``$``, and all dots of a name where some would make an empty
    segment, or too many. A name that gets longer than topics may be becomes ``%~`` and
    the hexadecimal SHA-256 of its UTF-8 bytes.

    Raises:
        UsageError: the channel is not a str.
    """
    if not isinstance(channel, str):
        raise UsageError(f"a channel is a str, not {type(channel).__name__}")
    if not channel:
        return _EMPTY
    # Lone surrogates have no UTF-8; Python's own way to write them is reversible.
    topic = quote(channel, safe=_SAFE, errors="surrogatepass")
    if topic.startswith("$"):
        topic = f"%24{topic[1:]}"
    segments = topic.split(".")
    if not all(segments) or len(segments) > MAX_SEGMENTS:
        topic = "%2E".join(segments)
    if len(topic) > MAX_TOPIC_BYTES:
        name = channel.encode("utf-8", "surrogatepass")
        return _LONG + sha256(name).hexdigest()
    return topic


def channel_of(topic: str) -> str:
    """Return the channel that a topic carries: the way back from ``topic_of``.

    Raises:
        UsageError: the name was too long, and only its hash is left.
    """
    if topic == _EMPTY:
        return ""
    if topic.startswith(_LONG):
        raise UsageError(f"{topic} is the hash of a channel's name")
    return unquote(topic, errors="surrogatepass")

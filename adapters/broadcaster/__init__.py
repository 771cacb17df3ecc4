"""A drop-in for encode/broadcaster: its names and its meaning, over the broker.

``docs/migrating-from-broadcaster.md`` says what is the same and what differs.
"""

from .alias import install
from .backends import BroadcastBackend
from .broadcast import Broadcast
from .channels import channel_of, topic_of
from .event import Event
from .subscriber import Subscriber, Unsubscribed
from .urls import UnsupportedBackend, backplane_for

__all__ = (
    "Broadcast",
    "BroadcastBackend",
    "Event",
    "Subscriber",
    "Unsubscribed",
    "UnsupportedBackend",
    "backplane_for",
    "channel_of",
    "install",
    "topic_of",
)

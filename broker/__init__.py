"""An actor-style broker for real-time messages, the same on asyncio and on trio."""

from .backplane import Backplane, Page
from .broker import Broker
from .config import Access, Limits, Overflow, Resume, TopicRules
from .drain import drain
from .ending import Ending, EndKind
from .errors import (
    BackplaneError,
    BackplaneUnsupported,
    BrokerClosed,
    BrokerError,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    NotAllowed,
    OriginNotAllowed,
    RecoveryImpossible,
    SessionEnded,
    SlowConsumer,
    TransportClosed,
    UsageError,
)
from .hooks import Hooks
from .memory import MemoryBackplane
from .message import Gap, Item, Message, Position, Receipt
from .relay import Attached
from .session import Session
from .state.presence import Member
from .stats import Statistics
from .subscription import Subscription
from .transport import ConnectRequest, Frames, Transport
from .wire import plain_frame

__all__ = (
    "Access",
    "Attached",
    "Backplane",
    "BackplaneError",
    "BackplaneUnsupported",
    "Broker",
    "BrokerClosed",
    "BrokerError",
    "ConnectRequest",
    "EndKind",
    "Ending",
    "Frames",
    "Gap",
    "Hooks",
    "InvalidTopic",
    "Item",
    "LimitExceeded",
    "Limits",
    "Member",
    "MemoryBackplane",
    "Message",
    "MessageTooLarge",
    "NotAllowed",
    "OriginNotAllowed",
    "Overflow",
    "Page",
    "Position",
    "Receipt",
    "RecoveryImpossible",
    "Resume",
    "Session",
    "SessionEnded",
    "SlowConsumer",
    "Statistics",
    "Subscription",
    "TopicRules",
    "Transport",
    "TransportClosed",
    "UsageError",
    "drain",
    "plain_frame",
)

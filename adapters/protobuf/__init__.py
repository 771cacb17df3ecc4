"""The Protobuf form of the Centrifuge client protocol, made with Google's library."""

# Google's, and not a reader of our own: that took less for one publish and more for a
# page of history (measured), and hostile bytes were ours to mind. Other libraries,
# betterproto and its like, want generated code, and few of them are looked after.

try:
    import google.protobuf  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.protobuf needs Google's protobuf: pip install 'asgi-broker[protobuf]'"
    ) from error

from msgspec import Raw

from broker.client_format import ClientFormat
from broker.transport import Frames

from . import codec

__all__ = ("PROTOBUF",)

PROTOBUF: ClientFormat[bytes] = ClientFormat(
    takes=Frames.BINARY,
    decode=codec.decode_commands,
    reply=codec.encode_reply,
    push=codec.encode_push,
    ping=codec.PING,
    raw=codec.data_of,
    payload=codec.payload_of,
    text=Raw,
    join=codec.join,
)

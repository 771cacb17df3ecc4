"""permessage-deflate (RFC 7692) that inflates no more than a message may have."""

from __future__ import annotations

import zlib

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import (
    CloseReason,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    RsvBits,
)

__all__ = ("BoundedDeflate",)

TAIL = b"\x00\x00\xff\xff"  # what a sender leaves out: RFC 7692 section 7.2.2


class BoundedDeflate(PerMessageDeflate):
    """wsproto's extension; over the limit it closes with 1009.

    Args:
        max_message_bytes: of an inflated message.
    """

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__()
        self._max_message_bytes = max_message_bytes
        self._inflated_bytes = 0  # of the message that arrives

    def accept(self, offer: str) -> bool | str | None:
        """Return our parameters, or None to decline; then nothing has changed."""
        before = vars(self).copy()
        try:
            answer = super().accept(offer)
        except ValueError:  # a window that is no number
            answer = None
        if answer is None:
            vars(self).update(before)
        return answer

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Look at a frame's first bytes."""
        if opcode.iscontrol() and not rsv.rsv1:
            # wsproto 1.3 would take the message around it for uncompressed.
            self._inbound_is_compressible = False
            return RsvBits(False, False, False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate a part of a message, as far as it may go."""
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        inflater = self._decompressor
        assert inflater is not None
        room = self._max_message_bytes - self._inflated_bytes
        try:
            inflated = inflater.decompress(data, room + 1)  # 0 would be no limit
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._inflated_bytes += len(inflated)
        if len(inflated) > room:
            return CloseReason.MESSAGE_TOO_BIG
        # After a last block one empty byte may come (RFC 7692 section 7.2.3.4). More
        # would be kept by zlib, without a bound.
        if len(inflater.unused_data) > 1:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return inflated

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """Inflate what is left of a message, and be ready for the next."""
        if not fin or not self._inbound_is_compressible:
            return None  # more to come, or a control frame in between
        inflated: bytes | CloseReason = b""
        if self._inbound_compressed:
            inflater = self._decompressor
            assert inflater is not None
            if not inflater.eof:
                inflated = self.frame_inbound_payload_data(proto, TAIL)
            if inflater.eof or self.client_no_context_takeover:
                self._decompressor = None
        self._inbound_compressed = None
        self._inflated_bytes = 0
        return inflated

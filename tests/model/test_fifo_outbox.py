"""The outboxes that keep the order of all messages, against a list."""

from __future__ import annotations

from broker.config import Overflow
from broker.message import Message

from .outboxes import SETTINGS, OutboxModel, Reader, loss_of


class GivesUp(OutboxModel):
    """Nothing is ever dropped: what does not fit is refused."""

    def must_refuse(self, reader: Reader, message: Message) -> bool:
        return not reader.fits([*reader.kept, message])

    def may_refuse(self, reader: Reader, message: Message) -> bool:
        """Losses between messages take up room."""
        return not reader.fits([*reader.kept, message], reader.gaps)

    def accept(self, reader: Reader, message: Message, dropped: int) -> None:
        assert dropped == 0
        keep(reader, message)


class Disconnect(GivesUp):
    overflow = Overflow.DISCONNECT


class Block(GivesUp):
    overflow = Overflow.BLOCK


class DropNewest(OutboxModel):
    overflow = Overflow.DROP_NEWEST

    def must_refuse(self, reader: Reader, message: Message) -> bool:
        return False

    def accept(self, reader: Reader, message: Message, dropped: int) -> None:
        if dropped:
            assert dropped == 1
            assert not reader.fits([*reader.kept, message], reader.gaps)
            drop_newest(reader, message)
        else:
            keep(reader, message)


class DropOldest(OutboxModel):
    overflow = Overflow.DROP_OLDEST

    def must_refuse(self, reader: Reader, message: Message) -> bool:
        return False

    def accept(self, reader: Reader, message: Message, dropped: int) -> None:
        if not reader.fits([message]):
            assert dropped == 1
            drop_newest(reader, message)
            return
        if dropped:
            # With one less dropped it would not have fitted.
            needed = [*reader.kept[dropped - 1 :], message]
            assert not reader.fits(needed, reader.gaps)
        for oldest in reader.kept[:dropped]:
            reader.drop(oldest)
        del reader.kept[:dropped]
        keep(reader, message)


def keep(reader: Reader, message: Message) -> None:
    reader.log(message.topic).entries.append(message)
    reader.kept.append(message)


def drop_newest(reader: Reader, message: Message) -> None:
    gap = loss_of(message)
    if gap is not None:
        reader.log(message.topic).entries.append(gap)
    reader.dropped += 1


TestDisconnect = Disconnect.TestCase
TestBlock = Block.TestCase
TestDropNewest = DropNewest.TestCase
TestDropOldest = DropOldest.TestCase
TestDisconnect.settings = SETTINGS
TestBlock.settings = SETTINGS
TestDropNewest.settings = SETTINGS
TestDropOldest.settings = SETTINGS

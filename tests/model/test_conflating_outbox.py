"""The outbox that keeps the latest message of each topic, against a list of them."""

from __future__ import annotations

from broker.config import Overflow
from broker.message import Message

from .outboxes import SETTINGS, OutboxModel, Reader


class Conflate(OutboxModel):
    overflow = Overflow.CONFLATE

    def must_refuse(self, reader: Reader, message: Message) -> bool:
        return not reader.fits(replaced(reader, message))

    def accept(self, reader: Reader, message: Message, dropped: int) -> None:
        former = [each for each in reader.kept if each.topic == message.topic]
        assert dropped == len(former)
        reader.kept = replaced(reader, message)
        for each in former:
            reader.drop(each)
        reader.log(message.topic).entries.append(message)


def replaced(reader: Reader, message: Message) -> list[Message]:
    """What waits if the message is accepted, in the order it must come out."""
    topics = [each.topic for each in reader.kept]
    if message.topic not in topics:
        return [*reader.kept, message]
    at = topics.index(message.topic)
    return [*reader.kept[:at], message, *reader.kept[at + 1 :]]


TestConflate = Conflate.TestCase
TestConflate.settings = SETTINGS

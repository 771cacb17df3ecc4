"""Known losses that wait to be told, merged per topic."""

from __future__ import annotations

from dataclasses import replace

from broker.message import Gap, Message

__all__ = ("Gaps", "loss_of")


def loss_of(message: Message) -> Gap | None:
    """Return the gap that a message leaves; None without position: nobody's loss."""
    position = message.position
    if position is None:
        return None
    return Gap(message.topic, position.epoch, position.offset, position.offset, 1)


class Gaps:
    """Losses that belong at one place of a stream, at most one per topic and epoch."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Gap] = {}  # {(topic, epoch): gap}

    def __len__(self) -> int:
        return len(self._waiting)

    def can_join(self, gap: Gap) -> bool:
        """Return whether a loss would be joined to one that is noted."""
        return (gap.topic, gap.epoch) in self._waiting

    def add(self, gap: Gap) -> None:
        """Note a loss, joined to what is noted for the same topic."""
        key = gap.topic, gap.epoch
        known = self._waiting.get(key)
        if known is not None:
            gap = replace(
                known,
                first=min(known.first, gap.first),
                last=max(known.last, gap.last),
                missed=known.missed + gap.missed,
            )
        self._waiting[key] = gap

    def pop(self) -> Gap:
        """Remove and return the oldest. Raises StopIteration if there is none."""
        return self._waiting.pop(next(iter(self._waiting)))

    def move(self, topic: str, to: Gaps) -> None:
        """Move what is noted for a topic."""
        for key in [key for key in self._waiting if key[0] == topic]:
            to.add(self._waiting.pop(key))

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

"""Known losses that wait to be told, merged per topic."""

from __future__ import annotations

from dataclasses import replace

from broker.message import Gap, Message

__all__ = ("Gaps",)


class Gaps:
    """Losses that belong at one place of a stream, at most one per topic and epoch."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Gap] = {}  # {(topic, epoch): gap}

    def __len__(self) -> int:
        return len(self._waiting)

    def add_message(self, message: Message) -> None:
        """Note that a message was dropped; one without position is nobody's loss."""
        position = message.position
        if position is not None:
            offset = position.offset
            self.add(Gap(message.topic, position.epoch, offset, offset, 1))

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

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

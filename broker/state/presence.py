"""Who is subscribed to which topic."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Member", "Presence")


@dataclass(frozen=True, slots=True)
class Member:
    """One session in a topic.

    Attributes:
        client_id: of the session; unique.
        user: whose session it is; None for an anonymous one. One user may have many.
        info: JSON text about it, for others; "" for none.
    """

    client_id: str
    user: str | None = None
    info: str = ""


class Presence:
    """The members of all topics, in the order in which they joined."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[str, Member]] = {}  # {topic: {client_id: member}}

    def __len__(self) -> int:
        return len(self._topics)

    def enter(self, topic: str, member: Member) -> bool:
        """Add or update a member. Returns True if it was not there: a join."""
        members = self._topics.setdefault(topic, {})
        joined = member.client_id not in members
        members[member.client_id] = member
        return joined

    def leave(self, topic: str, client_id: str) -> bool:
        """Remove a member. Returns False if it was not there."""
        members = self._topics.get(topic, {})
        if members.pop(client_id, None) is None:
            return False
        if not members:
            del self._topics[topic]
        return True

    def members(self, topic: str) -> list[Member]:
        """Return the members of a topic, the longest there first."""
        return list(self._topics.get(topic, {}).values())

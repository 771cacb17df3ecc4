"""Who is in a topic, over all nodes: leases that the member's node renews."""

from __future__ import annotations

from adapters.backplane.body import encode_member
from adapters.backplane.poison import Poison, Poisoned
from broker.state.presence import Member

from .codec import Names, decode_lease
from .scripts import ENTER, LEAVE, MEMBERS
from .wires import Wire

__all__ = ("Leases",)

RENEW_AT_ONCE = 200  # members in one call: a script holds up the server


class Leases:
    """The members of this node. A node that is killed renews no more, and they go.

    Args:
        names: of keys.
        lease_s: how long a member stays without renewal (s, > 0).
        poisoned: counts what is skipped.
    """

    def __init__(self, names: Names, lease_s: float, poisoned: Poisoned) -> None:
        self._names = names
        self._poisoned = poisoned
        self._lease_ms = max(1, round(lease_s * 1000))
        # {topic: {client id: (member, when it joined)}}
        self._own: dict[str, dict[str, tuple[Member, bytes]]] = {}

    async def enter(self, wire: Wire, topic: str, member: Member) -> bool:
        """Add a member of this node; see ``Link.enter``.

        Cancellation: it may be in; then it goes with its lease, or by ``leave``.
        """
        arguments = [self._lease_ms, member.client_id, encode_member(member), b""]
        answers = await wire.call(ENTER, self._names.presence(topic), arguments)
        is_new, joined = answers[0]
        self._own.setdefault(topic, {})[member.client_id] = member, joined
        return bool(is_new)

    def disown(self, topic: str, client_id: str) -> None:
        """Renew a member's lease no more."""
        members = self._own.get(topic, {})
        members.pop(client_id, None)
        if not members:
            self._own.pop(topic, None)

    async def leave(self, wire: Wire, topic: str, client_id: str) -> bool:
        """Remove a member; see ``Link.leave``."""
        keys = self._names.presence(topic)
        return bool(await wire.call(LEAVE, keys, [client_id]))

    async def members(self, wire: Wire, topic: str) -> list[Member]:
        """Return who is there, the longest there first."""
        keys = self._names.presence(topic)
        leased, values = await wire.call(MEMBERS, keys, [])
        by_id = dict(zip(values[::2], values[1::2], strict=True))
        found = []
        for client_id in leased:
            try:
                found.append(decode_lease(client_id, by_id.get(client_id, b"")))
            except Poison as problem:
                self._poisoned.add(f"the presence of {topic}", problem)
        found.sort(key=lambda each: (each[0], each[1].client_id))
        return [member for _, member in found]

    async def renew(self, wire: Wire) -> None:
        """Renew every lease of this node; what the server has forgotten is back."""
        for topic in list(self._own):
            own = list(self._own.get(topic, {}).values())
            for start in range(0, len(own), RENEW_AT_ONCE):
                arguments: list[object] = [self._lease_ms]
                for member, joined in own[start : start + RENEW_AT_ONCE]:
                    # Who left while this went on must not be brought back.
                    if member.client_id in self._own.get(topic, {}):
                        arguments += [member.client_id, encode_member(member), joined]
                await wire.call(ENTER, self._names.presence(topic), arguments)

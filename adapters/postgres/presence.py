"""Who is in a topic, over all nodes: members are there for as long as their node is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial

from adapters.backplane.body import decode_member, encode_member
from adapters.backplane.poison import Poison, Poisoned
from broker.state.presence import Member

from .session import Connection
from .wire import Wire

__all__ = ("Leases",)

AT_ONCE = 500  # members in one statement


class Leases:
    """The members of this node, and its lease. A node that is killed renews no more.

    Args:
        schema: of the tables.
        node_id: of this node.
        lease_s: how long a node stays without renewal (s, > 0).
        poisoned: counts what is skipped.
    """

    def __init__(
        self, schema: str, node_id: str, lease_s: float, poisoned: Poisoned
    ) -> None:
        self._node_id = node_id
        self._lease_s = lease_s
        self._poisoned = poisoned
        # {(topic, client id): (member, when it joined)}
        self._own: dict[tuple[str, str], tuple[Member, datetime]] = {}
        # Who may be in although nobody wants it: its ``enter`` or ``leave`` was cut
        # off. This node's lease would keep it there. At most as many as have entered.
        self._strays: dict[tuple[str, str], object] = {}  # the value is of each time
        self._enter = (
            f"SELECT * FROM {schema}.enter(%s, %s::text[], %b::bytea[], %b::bytea[],"
            " %s::timestamptz[])"
        ).encode()
        self._expel = (
            f"DELETE FROM {schema}.member WHERE node = %s AND (topic, client_id) IN"
            " (SELECT * FROM unnest(%s::text[], %b::bytea[]))"
        ).encode()
        self._renew = f"SELECT {schema}.renew(%s, %s)".encode()
        self._leave = (
            f"WITH gone AS (DELETE FROM {schema}.member WHERE topic = %s"
            " AND client_id = %b RETURNING node) SELECT count(*) FROM gone"
            f" JOIN {schema}.node ON id = node AND expires > clock_timestamp()"
        ).encode()
        self._members = (
            f"SELECT client_id, body FROM {schema}.member JOIN {schema}.node"
            " ON id = node AND expires > clock_timestamp() WHERE topic = %s"
            " ORDER BY joined, client_id"
        ).encode()

    async def enter(self, wire: Wire, topic: str, member: Member) -> bool:
        """Add a member of this node; see ``Link.enter``.

        Cancellation: it may be in, until ``leave``, or until the lease is renewed.
        """
        key, given = (topic, member.client_id), self._given([(topic, member, None)])
        self._strays.pop(key, None)
        try:
            ((is_new, joined),) = await wire.ask(lambda c: self._put(c, given))
        except BaseException:
            if key not in self._own:
                self._strays[key] = object()
            raise
        self._own[key] = member, joined
        return is_new

    def disown(self, topic: str, client_id: str) -> None:
        """Bring a member back no more, and see that it goes."""
        if self._own.pop((topic, client_id), None):
            self._strays[topic, client_id] = object()

    async def leave(self, wire: Wire, topic: str, client_id: str) -> bool:
        """Remove a member; see ``Link.leave``."""
        given = topic, client_id.encode()

        def leave(connection: Connection) -> bool:
            row = connection.execute(self._leave, given).fetchone()
            return row is not None and bool(row[0])

        was_there = await wire.ask(leave)
        self._strays.pop((topic, client_id), None)
        return was_there

    async def members(self, wire: Wire, topic: str) -> list[Member]:
        """Return who is there, the longest there first."""
        rows = await wire.ask(
            lambda c: c.execute(self._members, (topic,), binary=True).fetchall()
        )
        found = []
        for client_id, body in rows:
            try:
                found.append(_decode(client_id, body))
            except Poison as problem:
                self._poisoned.add(f"the presence of {topic}", problem)
        return found

    async def renew(self, wire: Wire) -> None:
        """Renew this node's lease; members that the server has forgotten are back.

        Those that have left while the server was out of reach are not.
        """
        while self._strays:
            for key, mark in await wire.ask(self._see_off):
                if self._strays.get(key) is mark:  # else it was cut off once more
                    del self._strays[key]
        given = self._node_id, self._lease_s
        row = await wire.ask(lambda c: c.execute(self._renew, given).fetchone())
        if row is not None and row[0] == len(self._own):
            return
        keys = list(self._own)
        for start in range(0, len(keys), AT_ONCE):
            # Who left while this went on must not be brought back.
            entries = [
                (key[0], *self._own[key])
                for key in keys[start : start + AT_ONCE]
                if key in self._own
            ]
            await wire.ask(partial(self._put, given=self._given(entries)))

    def _see_off(self, connection: Connection) -> list[tuple[tuple[str, str], object]]:
        """Run in the thread, and so in turn: who enters anew before is no stray."""
        strays = list(self._strays.items())[:AT_ONCE]
        topics = [topic for (topic, _), _ in strays]
        client_ids = [client_id.encode() for (_, client_id), _ in strays]
        connection.execute(self._expel, (self._node_id, topics, client_ids))
        return strays

    def _given(
        self, entries: Iterable[tuple[str, Member, datetime | None]]
    ) -> tuple[object, ...]:
        entries = sorted(entries, key=lambda each: (each[0], each[1].client_id))
        return (
            self._node_id,
            [topic for topic, _, _ in entries],
            [member.client_id.encode() for _, member, _ in entries],
            [encode_member(member) for _, member, _ in entries],
            [joined for _, _, joined in entries],
        )

    def _put(
        self, connection: Connection, given: tuple[object, ...]
    ) -> list[tuple[bool, datetime]]:
        rows = connection.execute(self._enter, given).fetchall()
        return [(bool(is_new), joined) for is_new, joined in rows]


def _decode(client_id: bytes, body: bytes) -> Member:
    try:
        return decode_member(client_id.decode(), body)
    except UnicodeDecodeError as error:
        raise Poison(f"no member: {error}") from error

"""Who is in a topic, over all nodes: leases that the member's node renews."""

from __future__ import annotations

import asyncio
import math

import anyio

from adapters.backplane.body import decode_member, encode_member
from adapters.backplane.poison import Poison, Poisoned
from broker.errors import BackplaneError
from broker.state.presence import Member

from .codec import Names
from .wire import Stored, Wire, WrongSequence

__all__ = ("Leases",)

# Guesses.
PAGE = 256
RENEW_AT_ONCE = 32


class Leases:
    """The members of this node. A node that is killed renews no more, and they go.

    A lease is a message with a time to live, so only the server's clock counts. Its
    methods run beside nats-py, but for ``disown``.

    Args:
        names: of the stream and its subjects.
        lease_s: how long a member stays without renewal (s, >= 1).
        poisoned: counts what is skipped.
    """

    def __init__(self, names: Names, lease_s: float, poisoned: Poisoned) -> None:
        self._names = names
        self._headers = {"Nats-TTL": f"{math.ceil(lease_s)}s"}
        self._poisoned = poisoned
        # {(topic, client id): (member, sequence of its first lease)}
        self._own: dict[tuple[str, str], tuple[Member, int]] = {}
        # Who is written or removed just now: both at once would leave a ghost.
        self._lock = asyncio.Lock()

    async def enter(self, wire: Wire, topic: str, member: Member) -> bool:
        """Add a member of this node; see ``Link.enter``.

        Cancellation: it may be in; then it goes with its lease, or by ``leave``.
        """
        subject = self._names.member(topic, member.client_id)
        first = {**self._headers, "Nats-Expected-Last-Subject-Sequence": "0"}
        is_new, joined = True, 0
        async with self._lock:
            try:
                ack = await wire.publish(subject, _encode(member, 0), first)
                joined = ack.sequence
            except WrongSequence:
                is_new = False
                joined = await self._write_again(wire, subject, member)
            self._own[topic, member.client_id] = member, joined
        return is_new

    async def _write_again(self, wire: Wire, subject: str, member: Member) -> int:
        found = await wire.find(self._names.leases, last_by_subj=subject)
        parsed = self._parse(found) if found else None
        joined = parsed[0] if parsed else 0
        ack = await wire.publish(subject, _encode(member, joined), self._headers)
        return joined or ack.sequence

    def disown(self, topic: str, client_id: str) -> None:
        """Renew a member's lease no more."""
        self._own.pop((topic, client_id), None)

    async def leave(self, wire: Wire, topic: str, client_id: str) -> bool:
        """Remove a member; see ``Link.leave``."""
        async with self._lock:
            answer = await wire.api(
                f"STREAM.PURGE.{self._names.leases}",
                filter=self._names.member(topic, client_id),
            )
        return bool(answer.get("purged"))

    async def members(self, wire: Wire, topic: str) -> list[Member]:
        """Return who is there, the longest there first."""
        found: dict[str, tuple[int, Member]] = {}
        start, subject = 1, self._names.members_of(topic)
        while True:
            page = await wire.page(self._names.leases, subject, start, PAGE)
            for each in page:
                parsed = self._parse(each)
                if parsed is not None:
                    found[parsed[1].client_id] = parsed
            # Sizes of pages are the server's: only an empty one is the last.
            if not page:
                break
            start = page[-1].sequence + 1
        in_order = sorted(found.values(), key=lambda each: (each[0], each[1].client_id))
        return [member for _, member in in_order]

    async def renew(self, wire: Wire) -> None:
        """Renew every lease of this node; what the server has forgotten is back.

        Raises:
            BackplaneError: it could not be done.
        """
        own = list(self._own)
        for start in range(0, len(own), RENEW_AT_ONCE):
            async with self._lock:
                try:
                    async with anyio.create_task_group() as tasks:
                        for key in own[start : start + RENEW_AT_ONCE]:
                            tasks.start_soon(self._renew, wire, key)
                except* BackplaneError as group:
                    raise BackplaneError("leases were not renewed") from group

    async def _renew(self, wire: Wire, key: tuple[str, str]) -> None:
        known = self._own.get(key)
        if known is not None:  # else it left while this went on
            member, joined = known
            subject = self._names.member(key[0], key[1])
            await wire.publish(subject, _encode(member, joined), self._headers)

    def _parse(self, stored: Stored) -> tuple[int, Member] | None:
        """Return when a member has joined, as a sequence, and the member."""
        try:
            return _decode(stored)
        except Poison as problem:
            self._poisoned.add(stored.subject[:80], problem)
            return None


def _encode(member: Member, joined: int) -> bytes:
    client_id = member.client_id.encode("utf-8", "surrogatepass")
    head = f"{joined} {len(client_id)} ".encode()
    return head + client_id + encode_member(member)


def _decode(stored: Stored) -> tuple[int, Member]:
    try:
        joined, size, rest = stored.data.split(b" ", 2)
        client_id = rest[: int(size)].decode("utf-8", "surrogatepass")
        member = decode_member(client_id, rest[int(size) :])
        return int(joined) or stored.sequence, member
    except ValueError as error:
        raise Poison(f"no member: {error}") from error

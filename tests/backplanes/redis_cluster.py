"""A cluster of Redis: primaries, without replicas."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.redis.cluster import SLOTS, slot_of
from tests.serving import free_port, wait_until

from .servers import RedisServer

__all__ = ("Cluster", "Member")

TIMEOUT_MS = 2_000  # after which members hold one that is silent for dead


class Member(RedisServer):
    """One member. What it knows of the others outlives it; its keys do not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bus_port = free_port()
        self._options += [
            *("--cluster-enabled", "yes"),
            *("--cluster-config-file", f"nodes-{self.port}.conf"),
            *("--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", str(TIMEOUT_MS)),
            *("--cluster-require-full-coverage", "no"),
            # Else one whose last slot is taken becomes a replica of who took it.
            *("--cluster-allow-replica-migration", "no"),
        ]

    @property
    def id(self) -> str:
        """What it is called in the cluster."""
        return self.command("CLUSTER", "MYID")

    def sees(self, *, primaries: int) -> bool:
        """Return whether it knows so many, and all slots are served."""
        info = self.command("CLUSTER", "INFO").splitlines()
        return f"cluster_size:{primaries}" in info and "cluster_state:ok" in info


class Cluster:
    """Three primaries and one member without slots; a context manager.

    Attributes:
        members: those with slots.
        spare: the one without.
        url: of the first member.
    """

    def __init__(self, folder: Path) -> None:
        self.members = [Member(folder) for _ in range(3)]
        self.spare = Member(folder)
        self.url = f"redis-cluster://127.0.0.1:{self.members[0].port}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            every = [*self.members, self.spare]
            for each in every:
                stack.enter_context(each)
            first, *others = every
            for number, member in enumerate(every, 1):
                member.command("CLUSTER", "SET-CONFIG-EPOCH", str(number))
            for number, member in enumerate(self.members):
                start = SLOTS * number // 3
                end = SLOTS * (number + 1) // 3 - 1
                member.command("CLUSTER", "ADDSLOTSRANGE", str(start), str(end))
            for other in others:
                ports = str(other.port), str(other.bus_port)
                first.command("CLUSTER", "MEET", "127.0.0.1", *ports)
            for each in every:
                wait_until(lambda e=each: e.sees(primaries=3))  # type: ignore[misc] # bound
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def member_of(self, key: str) -> Member:
        """Return the member that serves a key at first."""
        return self.members[slot_of(key.encode()) * 3 // SLOTS]

    def move(self, key: str, source: Member, target: Member) -> None:
        """Move the slot of a key, with all that is in it, as redis-cli does."""
        slot = str(slot_of(key.encode()))
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, "1000").splitlines()
        port = str(target.port)
        migrate = ("MIGRATE", "127.0.0.1", port, "", "0", "5000", "KEYS")
        if keys:
            source.command(*migrate, *keys)
        for each in (target, source):
            each.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)

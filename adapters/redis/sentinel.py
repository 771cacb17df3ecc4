"""The primary that sentinels name, for as long as they do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import anyio

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

from .urls import Target
from .wire import LINK_ERRORS, Address, ServerWire, connected, open_wire

__all__ = ("Sentinels", "open_primary", "primary_of")


class Sentinels:
    """What watches a primary and its replicas, and names the primary.

    Args:
        target: where they are.
        address: how to connect; its URL does not count.
    """

    def __init__(self, target: Target, address: Address) -> None:
        self._target = target
        self._address = address

    async def primary(self) -> str:
        """Return ``host:port`` of the primary, as the newest of their answers has it.

        A sentinel that was cut off may name one that is none any more, so a majority
        is heard if there is one; each failover has a number, and the highest counts.

        Raises:
            BackplaneError: none of them names one.
        """
        hosts = self._target.hosts
        answers: list[tuple[int, str]] = []
        problems: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def ask(host: str) -> None:
                try:
                    answers.append(await self._ask(host))
                except* LINK_ERRORS as group:
                    problems.append(f"{host}: {reason_of(group)}")
                if len(answers) > len(hosts) // 2:
                    tasks.cancel_scope.cancel()

            for host in hosts:
                tasks.start_soon(ask, host, name=f"broker: ask sentinel {host}")
        if not answers:
            raise BackplaneError(f"no sentinel names the primary: {problems[0]}")
        return max(answers)[1]

    async def _ask(self, host: str) -> tuple[int, str]:
        url = self._target.url_of_sentinel(host)
        timeout_s = self._address.timeout_s
        with anyio.fail_after(timeout_s):
            async with connected(replace(self._address, url=url), 1) as (connection,):
                found = await connection.create_request(
                    b"SENTINEL", b"MASTER", self._target.name
                )
        return primary_of(found)


def primary_of(answer: Any) -> tuple[int, str]:
    """Return the number of the last failover, and ``host:port`` of the primary.

    Args:
        answer: of a sentinel, to SENTINEL MASTER.

    Raises:
        BackplaneError: it is none, such as of a server that is no sentinel.
    """
    try:
        ip, port, epoch = (
            answer[name].decode() for name in (b"ip", b"port", b"config-epoch")
        )
        return int(epoch), f"[{ip}]:{int(port)}" if ":" in ip else f"{ip}:{int(port)}"
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BackplaneError("what a sentinel says cannot be read") from error


@asynccontextmanager
async def open_primary(
    target: Target, address: Address, fence: str, watch_s: float
) -> AsyncGenerator[ServerWire, None]:
    """Connect to the primary, and be connected while the block runs.

    Args:
        watch_s: time between two looks at whether it still is the primary (s, > 0).

    Raises:
        BackplaneError, RedisError, OSError: it could not be done, or it is the primary
            no longer; alone or in a group.
    """
    sentinels = Sentinels(target, address)
    host = await sentinels.primary()
    url = target.url_of(host)
    async with open_wire(replace(address, url=url), fence) as wire:
        role = await wire.ask(b"ROLE")
        if role[0] != b"master":
            raise BackplaneError(f"{host} is no primary yet")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, sentinels, host, watch_s, name="broker: sentinels")
            yield wire
            tasks.cancel_scope.cancel()


async def _watch(sentinels: Sentinels, host: str, watch_s: float) -> None:
    """Fail when another primary is named: a node may be cut off together with its own.

    Sentinels that do not answer say nothing against it.
    """
    while True:
        await anyio.sleep(watch_s)
        with suppress(BackplaneError):
            named = await sentinels.primary()
            if named != host:
                break
    raise BackplaneError(f"the primary is no longer {host}, but {named}")

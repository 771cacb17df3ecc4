"""The sessions of one node, by client, by user and by host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ("Directory", "Entry")


class Entry(Protocol):
    """What can be listed: it has a client, and perhaps a user and a host."""

    @property
    def client_id(self) -> str: ...
    @property
    def user(self) -> str | None: ...
    @property
    def client_host(self) -> str | None: ...


EntryT = TypeVar("EntryT", bound=Entry)


class Directory(Generic[EntryT]):
    """Entries in the order in which they came."""

    def __init__(self) -> None:
        self._by_client: dict[str, EntryT] = {}
        self._by_user: dict[str, dict[str, EntryT]] = {}  # {user: {client_id: entry}}
        self._of_host: Counter[str] = Counter()  # {host: entries}

    def __len__(self) -> int:
        return len(self._by_client)

    def __iter__(self) -> Iterator[EntryT]:
        return iter(tuple(self._by_client.values()))

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._by_client

    def add(self, entry: EntryT) -> None:
        """Add an entry whose client is not listed."""
        self._by_client[entry.client_id] = entry
        if entry.user is not None:
            self._by_user.setdefault(entry.user, {})[entry.client_id] = entry
        if entry.client_host is not None:
            self._of_host[entry.client_host] += 1

    def remove(self, entry: EntryT) -> None:
        """Remove a listed entry."""
        del self._by_client[entry.client_id]
        if entry.user is not None:
            entries = self._by_user[entry.user]
            del entries[entry.client_id]
            if not entries:
                del self._by_user[entry.user]
        if entry.client_host is not None:
            self._of_host[entry.client_host] -= 1
            if not self._of_host[entry.client_host]:
                del self._of_host[entry.client_host]

    def of_client(self, client_id: str) -> list[EntryT]:
        """Return the entry of a client, if it is listed."""
        entry = self._by_client.get(client_id)
        return [] if entry is None else [entry]

    def of_user(self, user: str) -> list[EntryT]:
        """Return all entries of a user."""
        return list(self._by_user.get(user, {}).values())

    def has_user(self, user: str) -> bool:
        """Return whether a user has an entry."""
        return user in self._by_user

    def count_of_user(self, user: str) -> int:
        """Return how many entries a user has."""
        return len(self._by_user.get(user, ()))

    def count_of_host(self, host: str) -> int:
        """Return how many entries come from a host."""
        return self._of_host[host]

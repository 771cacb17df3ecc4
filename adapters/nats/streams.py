"""The two streams of a prefix: made when they are missing, checked when not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.errors import BackplaneError

from .codec import Names
from .wire import Wire

__all__ = ("Storage", "open_streams")

FEATURES = ("allow_direct", "allow_msg_ttl")
OLDEST = (2, 11)  # of the server: messages with a time to live, reads in batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How streams are made; see ``NatsBackplane``."""

    kind: str
    replicas: int
    max_bytes: int
    idempotency_s: float


async def open_streams(wire: Wire, names: Names, storage: Storage) -> None:
    """Have both streams there. Other nodes may do the same at the same time.

    Raises:
        BackplaneError: it cannot be done, or a stream of that name is not ours.
    """
    version = wire.server_version
    if version < OLDEST:
        raise BackplaneError(
            f"NATS {'.'.join(map(str, version))} is too old: 2.11 or newer is needed"
        )
    log = {
        "name": names.log,
        "subjects": [names.topics, names.ids],
        # The server tells what it has kept, in its order, and nothing else.
        "republish": {"src": names.topics, "dest": names.pushes},
        "max_bytes": storage.max_bytes,
        "duplicate_window": round(storage.idempotency_s * 1e9),
    }
    leases = {
        "name": names.leases,
        "subjects": [names.members],
        "max_msgs_per_subject": 1,
        "max_bytes": storage.max_bytes,
    }
    for wanted in (log, leases):
        wanted |= {
            "storage": storage.kind,
            "num_replicas": storage.replicas,
            "retention": "limits",
            "discard": "old",
            **dict.fromkeys(FEATURES, True),
        }
        await _open(wire, wanted)


async def _open(wire: Wire, wanted: dict[str, Any]) -> None:
    name = wanted["name"]
    found = await wire.info(name)
    if found is None:
        await wire.api(f"STREAM.CREATE.{name}", **wanted)
        return
    # Sizes are the operator's to change; the rest makes a stream ours.
    config = found["config"]
    keys = ("subjects", "republish", "max_msgs_per_subject", "discard", *FEATURES)
    for key in keys:
        given, has = wanted.get(key), config.get(key)
        if key == "republish" and has:
            has = {each: has.get(each) for each in ("src", "dest")}
        if given is not None and given != has:
            raise BackplaneError(
                f"the stream {name} was made by others: its {key} will not do"
            )

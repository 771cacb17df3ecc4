"""The settings that there are, their types, bounds and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from broker import Limits, TopicRules

from .addresses import bind_fault, network_fault, origin_fault

__all__ = (
    "FAULTS",
    "FIELDS",
    "HYPERCORN_KEYS",
    "AccessSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
)


class SettingsError(Exception):
    """A setting cannot be used. Nothing was loaded.

    The message is one line for people: where it was set, what is wrong with it and
    what would be right.
    """

    def __init__(self, problem: str) -> None:
        # What is quoted in it may come from anywhere.
        super().__init__("".join(map(_printable, problem)))


def _printable(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()


class ServerSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How the server listens, and what it does around the application.

    ``load_settings`` checks types and bounds; the constructor does not.

    Attributes:
        bind: where to listen: ``host:port``, ``[v6]:port``, ``unix:path``, ``fd://N``.
        loop: the event loop.
        workers: processes (>= 1; one: clients of another process would be in another
            chat, so more need a backplane).
        drain_s: the whole time from SIGTERM to exit (s, > 0; 10: ``docker stop`` waits
            so long).
        user_timeout_s: how long sent bytes may stay unacknowledged before the
            connection is dropped, TCP_USER_TIMEOUT (s, > 0; 20: measured with
            hypercorn; nginx's send_timeout is 60).
        notsent_lowat_bytes: unsent bytes in the kernel above which a socket takes no
            more, TCP_NOTSENT_LOWAT (> 0; 16 KiB: trio sets the same).
        keepalive_s: idle time before TCP keepalive probes (s, 1 to 32,767, as in
            Linux; 30: guess).
        compression: permessage-deflate (off: OWASP's WebSocket cheat sheet).
        trusted_proxies: addresses or networks whose X-Forwarded-For is believed.
        metrics_from: addresses or networks that may read /metrics; empty for nobody.
        log_format: lines for people or JSON.
        log_level: the least that is logged.
        tracing: OpenTelemetry spans.
    """

    bind: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("127.0.0.1:8000",)
    loop: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    # The kernel takes milliseconds, in 32 bits.
    user_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=2_147_483)] = 20.0
    notsent_lowat_bytes: Annotated[int, msgspec.Meta(gt=0, le=2_147_483_647)] = 16_384
    keepalive_s: Annotated[float, msgspec.Meta(ge=1, le=32_767)] = 30.0
    compression: bool = False
    trusted_proxies: tuple[str, ...] = ()
    metrics_from: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tracing: bool = False


class AccessSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Who may connect.

    Attributes:
        origins: exact origins besides the page's own host; ``*`` for any.
    """

    origins: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one server.

    Attributes:
        server: how it listens.
        access: who may connect.
        limits: the broker's bounds.
        topics: the broker's rules, in order of precedence.
    """

    server: ServerSettings = ServerSettings()
    access: AccessSettings = AccessSettings()
    limits: Limits = Limits()
    topics: tuple[TopicRules, ...] = ()


# {section: {field: its type}}, in the order in which settings are shown
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "server": get_type_hints(ServerSettings, include_extras=True),
    "access": get_type_hints(AccessSettings, include_extras=True),
    "limits": get_type_hints(Limits, include_extras=True),
    "topics": get_type_hints(TopicRules, include_extras=True),
}

# {key: what is wrong with one of its items}, where the type does not say enough
FAULTS: Mapping[str, Callable[[str], str | None]] = {
    "server.bind": bind_fault,
    "server.trusted_proxies": network_fault,
    "server.metrics_from": network_fault,
    "access.origins": origin_fault,
}

# {key of hypercorn's file: ours}
HYPERCORN_KEYS: Mapping[str, str] = {
    "bind": "bind",
    "worker_class": "loop",
    "workers": "workers",
}

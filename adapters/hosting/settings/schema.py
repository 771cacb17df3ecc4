"""The settings that there are, their types, bounds and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from broker import Limits, TopicRules
from broker.protocol.rules import ProtocolTimes

from .addresses import (
    bind_fault,
    namespace_fault,
    network_fault,
    origin_fault,
    path_fault,
    worker_bind_fault,
)
from .secret import Secret

__all__ = (
    "FAULTS",
    "FIELDS",
    "HYPERCORN_KEYS",
    "KEY_FIELDS",
    "SECRET_FIELDS",
    "AccessSettings",
    "ApiSettings",
    "ClientSettings",
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
        worker_bind: where the first worker listens besides, alone; the second one port
            above, and so on. None: nowhere.
        backplane: URL of what joins workers and machines; None for none. A secret,
            because a password may be in it.
        backplane_file: a file with it, in its stead.
        wait_for_backplane_s: how long to try to reach it at the start (s, > 0; 10:
            guess).
        drain_s: the whole time from SIGTERM to exit (s, > 0; 10: ``docker stop`` waits
            so long).
        user_timeout_s: how long sent bytes may stay unacknowledged before the
            connection is dropped, and so may keepalive probes, TCP_USER_TIMEOUT (s,
            > 0; 60: as nginx's send_timeout).
        notsent_lowat_bytes: unsent bytes in the kernel above which a socket takes no
            more, TCP_NOTSENT_LOWAT (> 0; 16 KiB: trio sets the same).
        keepalive_s: idle time before TCP keepalive probes, at most half of
            ``user_timeout_s`` (s, 1 to 32,767, as in Linux; 30: guess).
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
    worker_bind: str | None = None
    backplane: Secret | None = None
    backplane_file: str | None = None
    wait_for_backplane_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    # The kernel takes milliseconds, in 32 bits.
    user_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=2_147_483)] = 60.0
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


class ClientSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How ``/connection/websocket`` speaks the Centrifuge client protocol.

    Defaults without a word are those of ``ClientProtocol`` and ``ProtocolTimes``.

    Attributes:
        hmac_secret: for HS256, HS384 and HS512 (from 32, 48 and 64 bytes); None for
            tokens of other keys only, or none.
        hmac_secret_file: a file with it, in its stead.
        public_key_file: public keys in PEM: RSA, EC, Ed25519.
        jwks_file: a set of public keys (RFC 7517).
        audience: must be among a token's ``aud``; None does not look.
        issuer: must be a token's ``iss``; None does not look.
        leeway_s: how far clocks may be apart (s, >= 0).
        anonymous: clients without a token are welcome. ``load_settings`` makes it
            False where there is a key and nothing was said: Centrifugo, which has
            tokens always, refuses them as well.
        personal: a namespace in which each user is subscribed to a channel of its own,
            "" for no namespace; None for no such channels.
        ping_s: between two pings (s, > 0).
        pong_s: for the client's answer (s, > 0; below ``ping_s``).
        stale_s: to the client's connect command (s, > 0).
        expired_s: how long what has expired may stay, for its new token (s, > 0).
        write_delay_s: how long to wait for more before a frame goes out (s, 0 to 1).
        max_recovered: most publications that a client can recover (>= 1).
        max_history: most publications of one history reply (>= 1).
        max_commands: most commands in one frame (>= 1).
        max_depth: most JSON objects and arrays inside each other (3 to 900: Python's
            parser gives up somewhat below 1,000).
    """

    hmac_secret: Secret | None = None
    hmac_secret_file: str | None = None
    public_key_file: str | None = None
    jwks_file: str | None = None
    audience: str | None = None
    issuer: str | None = None
    leeway_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    anonymous: bool = True
    personal: str | None = None
    ping_s: Annotated[float, msgspec.Meta(gt=0)] = 25.0
    pong_s: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    stale_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    expired_s: Annotated[float, msgspec.Meta(gt=0)] = 25.0
    write_delay_s: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    max_recovered: Annotated[int, msgspec.Meta(ge=1)] = 300
    max_history: Annotated[int, msgspec.Meta(ge=1)] = 300
    max_commands: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_depth: Annotated[int, msgspec.Meta(ge=3, le=900)] = 128

    @property
    def has_keys(self) -> bool:
        """Tokens can be checked."""
        keys = (self.hmac_secret, self.public_key_file, self.jwks_file)
        return any(key is not None for key in keys)

    @property
    def times(self) -> ProtocolTimes:
        """The deadlines among these."""
        names = (each.name for each in fields(ProtocolTimes))
        return ProtocolTimes(**{name: getattr(self, name) for name in names})


class ApiSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The server API over HTTP.

    Attributes:
        key: the secret; whoever has it may do anything. None: there is no API.
        key_file: a file with it, in its stead.
        path: before the method's name.
    """

    key: Secret | None = None
    key_file: str | None = None
    path: str = "/api"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one server.

    Attributes:
        server: how it listens.
        access: who may connect.
        client: how it speaks the Centrifuge client protocol.
        api: the server API.
        limits: the broker's bounds.
        topics: the broker's rules, in order of precedence.
    """

    server: ServerSettings = ServerSettings()
    access: AccessSettings = AccessSettings()
    client: ClientSettings = ClientSettings()
    api: ApiSettings = ApiSettings()
    limits: Limits = Limits()
    topics: tuple[TopicRules, ...] = ()


# {section: {field: its type}}, in the order in which settings are shown
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "server": get_type_hints(ServerSettings, include_extras=True),
    "access": get_type_hints(AccessSettings, include_extras=True),
    "client": get_type_hints(ClientSettings, include_extras=True),
    "api": get_type_hints(ApiSettings, include_extras=True),
    "limits": get_type_hints(Limits, include_extras=True),
    "topics": get_type_hints(TopicRules, include_extras=True),
}

# {key: what is wrong with one of its items}, where the type does not say enough
FAULTS: Mapping[str, Callable[[str], str | None]] = {
    "server.bind": bind_fault,
    "server.worker_bind": worker_bind_fault,
    "server.trusted_proxies": network_fault,
    "server.metrics_from": network_fault,
    "access.origins": origin_fault,
    "api.path": path_fault,
    "client.personal": namespace_fault,
}

# Each may be given by a file as well, named in a setting with _file behind.
SECRET_FIELDS = ("server.backplane", "client.hmac_secret", "api.key")
# What opens the server where it is missing: an empty one is a mistake, not a choice.
KEY_FIELDS = (
    *SECRET_FIELDS,
    *(f"{key}_file" for key in SECRET_FIELDS),
    "client.public_key_file",
    "client.jwks_file",
)

# {key of hypercorn's file: ours}
HYPERCORN_KEYS: Mapping[str, str] = {
    "bind": "bind",
    "worker_class": "loop",
    "workers": "workers",
}

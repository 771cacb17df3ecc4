"""URLs of Redis: one server, a primary that sentinels know, or a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from broker.errors import UsageError

__all__ = ("Target", "parse_url")

Kind = Literal["server", "sentinel", "cluster"]

PORT = 6379
SENTINEL_PORT = 26379
# {scheme: kind, TLS}
_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "valkey": ("server", False),
    "valkeys": ("server", True),
    "redis-sentinel": ("sentinel", False),
    "rediss-sentinel": ("sentinel", True),
    "redis-cluster": ("cluster", False),
    "rediss-cluster": ("cluster", True),
}
_REFUSED = (
    "the URL of Redis must be redis://host:port/number, rediss://… or unix:///path, "
    "redis-sentinel://host:port,host:port/name-of-primary/number, or "
    "redis-cluster://host:port,host:port; percent-encode what is special in a password"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a URL says. Its fields have passwords in them: never shown.

    Attributes:
        kind: what answers at ``hosts``.
        is_tls: on every connection.
        hosts: ``host:port`` of the server, of sentinels, or of members of a cluster;
            empty for a Unix socket.
        url: of one server.
        user: what comes before a host in a URL, as it was given.
        sentinel_user: the same for sentinels.
        name: by which sentinels know the primary.
        database: its number.
    """

    kind: Kind
    is_tls: bool
    hosts: tuple[str, ...] = ()
    url: str = ""
    user: str = ""
    sentinel_user: str = ""
    name: str = ""
    database: int = 0

    def url_of(self, host: str) -> str:
        """Return the URL of one server that has been found."""
        return f"{self._scheme}://{self.user}{host}/{self.database}"

    def url_of_sentinel(self, host: str) -> str:
        """Return the URL of one sentinel."""
        return f"{self._scheme}://{self.sentinel_user}{host}"

    @property
    def _scheme(self) -> str:
        return "rediss" if self.is_tls else "redis"


def parse_url(url: str) -> Target:
    """Return what a URL says.

    Raises:
        UsageError: nothing that is known here. It is not shown, nor what urllib says of
            it: a password may be in either.
    """
    try:
        scheme, _, rest = url.partition("://")
        kind, is_tls = _SCHEMES[scheme]
        if kind == "server":
            return _server(url, is_tls)
        user, mark, hosts = rest.partition("/")[0].rpartition("@")
        default = SENTINEL_PORT if kind == "sentinel" else PORT
        found = tuple(_host(each, default) for each in hosts.split(","))
        parts = urlsplit(f"redis://{user}{mark}{found[0]}/{rest.partition('/')[2]}")
        name, _, number = unquote(parts.path.strip("/")).rpartition("/")
        if kind == "sentinel":
            if not name:
                name, number = number, ""
            query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
            if name and query.keys() <= {"sentinel_user", "sentinel_password"}:
                return Target(
                    kind=kind,
                    is_tls=is_tls,
                    hosts=found,
                    user=user + mark,
                    sentinel_user=_user(query),
                    name=name,
                    database=int(number or 0),
                )
        elif not name and not parts.query and int(number or 0) == 0:
            return Target(kind=kind, is_tls=is_tls, hosts=found, user=user + mark)
    except (KeyError, ValueError):
        pass
    raise UsageError(_REFUSED)


def _server(url: str, is_tls: bool) -> Target:
    scheme, _, rest = url.partition("://")
    url = url if scheme == "unix" else f"redis{'s' * is_tls}://{rest}"
    parts = urlsplit(url)
    asked = parse_qs(parts.query).get("db")
    number = asked[0] if asked else "" if scheme == "unix" else parts.path.strip("/")
    _ = parts.port  # raises if it is none
    if scheme != "unix" and not parts.hostname:
        raise ValueError
    return Target(kind="server", is_tls=is_tls, url=url, database=int(number or 0))


def _host(text: str, default: int) -> str:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or "@" in text or parts.path or parts.query:
        raise ValueError
    return text if parts.port else f"{text.rstrip(':')}:{default}"


def _user(query: dict[str, list[str]]) -> str:
    name = quote(query.get("sentinel_user", [""])[0], safe="")
    password = quote(query.get("sentinel_password", [""])[0], safe="")
    return f"{name}:{password}@" if name or password else ""

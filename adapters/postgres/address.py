"""Where PostgreSQL is, and what may be said of that."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from broker.errors import UsageError

__all__ = ("Address",)

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Of the deadline. The server gives up first, and the connection lives on.
_STATEMENT_SHARE = 0.75

# The path is without "public", where others may have put functions of the same names.
_SETTINGS = """
SELECT set_config('search_path', 'pg_catalog, pg_temp', false),
  set_config('default_transaction_isolation', 'read committed', false),
  set_config('default_transaction_read_only', 'off', false),
  set_config('statement_timeout', %(ms)s, false),
  set_config('idle_in_transaction_session_timeout', %(ms)s, false),
  -- Acknowledged is on disk; what is stricter stays so.
  set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A schema in a database, and how long an answer may take.

    Args:
        url: as libpq reads it. Has the password in it: never shown.
        schema: lower-case letters, digits and ``_``.
        timeout_s: longest wait for an answer (s, > 0).

    Raises:
        UsageError: a URL that libpq does not understand, or a name that would need
            quotes. The URL is not shown, nor what libpq says of it.
    """

    url: str = field(repr=False)
    schema: str
    timeout_s: float

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise UsageError(
                "schema must be of lower-case letters, digits and _, at most 63, not "
                f"{self.schema[:80]!a}"
            )
        self._parts()

    @property
    def shown(self) -> str:
        """The URL without secrets."""
        parts = self._parts()
        user = f"{quote(str(parts['user']))}@" if parts.get("user") else ""
        host = str(parts.get("host") or "")
        if "/" in host:
            host = quote(host, safe="")  # a folder with a socket
        port = f":{parts['port']}" if parts.get("port") else ""
        return f"postgresql://{user}{host}{port}/{quote(str(parts.get('dbname', '')))}"

    @property
    def remedy(self) -> str:
        """The command that makes the schema what it must be."""
        extra = "" if self.schema == "broker" else f" --schema {self.schema}"
        return f"broker migrate {self.shown}{extra}"

    def connect(self, **options: object) -> psycopg.Connection[tuple[object, ...]]:
        """Connect, and wait for it; only in a worker thread.

        Each address of the host's is given ``timeout_s``, but 2 s at least.

        Raises:
            psycopg.Error: it cannot be done.
        """
        defaults: dict[str, object] = {
            "connect_timeout": max(2, math.ceil(self.timeout_s)),
            "fallback_application_name": "asgi-broker",
        }
        if "target_session_attrs" not in self._parts():
            defaults["target_session_attrs"] = "read-write"  # of several hosts
        made = psycopg.connect(
            self.url,
            autocommit=True,
            **{**defaults, **options, "client_encoding": "UTF8"},  # type: ignore[arg-type] # libpq's
        )
        try:
            milliseconds = max(1, round(self.timeout_s * _STATEMENT_SHARE * 1000))
            made.execute(_SETTINGS, {"ms": str(milliseconds)})
        except BaseException:
            made.close()
            raise
        return made

    def _parts(self) -> dict[str, object]:
        if self.url.startswith(("postgresql://", "postgres://")):
            try:
                parts: dict[str, object] = dict(conninfo_to_dict(self.url))
                ports = str(parts.get("port") or 5432).split(",")
                if all(0 < int(port) < 65_536 for port in ports):
                    return parts
            except (psycopg.Error, ValueError):
                pass
        raise UsageError(
            "the URL of PostgreSQL must be one that libpq understands, such as "
            "postgresql://user:password@host:5432/database?sslmode=verify-full; "
            "percent-encode what is special in a password"
        )

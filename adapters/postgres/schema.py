"""The schema in the database: its version, and how it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import psycopg

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

from .address import Address
from .session import Connection

__all__ = (
    "VERSION",
    "check_newer",
    "check_version",
    "found_version",
    "look",
    "migrate",
    "sql_of",
)

# Each step is a file, and is never changed once it was released. The last thing that a
# step does is to say in version() which one it was: a function travels with dumps, and
# survives what empties tables.
VERSION = 1


def sql_of(number: int, schema: str) -> str:
    """Return one step's SQL."""
    text = (
        files("adapters.postgres").joinpath(f"schema_{number}.sql").read_text("utf-8")
    )
    return text.replace("{s}", schema).replace("{channel}", schema)


def found_version(connection: Connection, schema: str) -> int:
    """Return the version of a schema; 0 if it is not there."""
    name = f"{schema}.version()"
    row = connection.execute("SELECT to_regprocedure(%s)", (name,)).fetchone()
    if row is None or row[0] is None:
        return 0
    row = connection.execute(f"SELECT {name}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def check_version(connection: Connection, address: Address) -> None:
    """Accept the version that this code works with.

    Raises:
        BackplaneError: it is another one; says what to do.
    """
    found = found_version(connection, address.schema)
    check_newer(address, found)
    if found < VERSION:
        what = f"of version {found}" if found else "not there"
        raise BackplaneError(
            f'the schema "{address.schema}" is {what}, and {VERSION} is needed; '
            f"run: {address.remedy}"
        )


def look(address: Address) -> int:
    """Return the version of a schema, 0 if it is not there, and block meanwhile.

    Raises:
        BackplaneError: it is newer than this code, or cannot be found out.
    """
    with _translating(), address.connect() as connection:
        found = found_version(connection, address.schema)
    check_newer(address, found)
    return found


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise BackplaneError(reason_of(error)) from error


def check_newer(address: Address, found: int) -> None:
    """Accept a version that is not newer than this code.

    Raises:
        BackplaneError: it is.
    """
    if found > VERSION:
        raise BackplaneError(
            f'the schema "{address.schema}" is of version {found}, newer than '
            f"{VERSION}, the newest that this asgi-broker knows: install a newer one"
        )


def migrate(address: Address) -> int:
    """Bring a schema to the version that this code works with, and block meanwhile.

    All in one transaction; several at once wait for each other.

    Returns:
        The version that was found; ``VERSION`` if nothing was to be done.

    Raises:
        BackplaneError: the schema is newer, or it could not be done; nothing was
            changed.
    """
    with _translating(), address.connect() as connection, connection.transaction():
        # Longer than a call of the broker's may take: another may be at it.
        connection.execute("SET LOCAL statement_timeout = '60s'")
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"asgi-broker {address.schema}",),
        )
        found = found_version(connection, address.schema)
        check_newer(address, found)
        for number in range(found + 1, VERSION + 1):
            connection.execute(sql_of(number, address.schema).encode())
    return found

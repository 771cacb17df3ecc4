"""``broker migrate``: makes the tables of a backplane, or brings them up to date."""

from __future__ import annotations

import sys

import click

from broker.errors import BackplaneError, UsageError

__all__ = ("migrate",)

TIMEOUT_S = 10.0  # for an answer; waiting for another migration takes up to a minute


@click.command()
@click.argument("url")
@click.option(
    "--schema", default="broker", show_default=True, help="What the tables are in."
)
@click.option(
    "--check", is_flag=True, help="Change nothing, and say whether it is needed."
)
@click.option(
    "--print",
    "is_printed",
    is_flag=True,
    help="Print the SQL that is missing, and change nothing.",
)
def migrate(url: str, schema: str, check: bool, is_printed: bool) -> None:
    """Make the tables of the PostgreSQL backplane, or bring them up to date.

    URL is the one that the broker is given; - reads it from standard input, where
    other users do not see its password. PGPASSWORD and ~/.pgpass work as well.

    \b
    Exit codes: 0 done, or nothing to do; 1 failed, or --check found something to do;
    2 wrong options.
    """
    try:
        from adapters.postgres import schema as schemas
        from adapters.postgres.address import Address
    except ModuleNotFoundError as error:
        raise click.UsageError(str(error)) from error
    if check and is_printed:
        raise click.UsageError("--check does not go with --print")
    if url == "-":
        url = sys.stdin.readline().strip()
    try:
        address = Address(url=url, schema=schema, timeout_s=TIMEOUT_S)
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    try:
        if not (check or is_printed):
            found = schemas.migrate(address)
            click.echo(_said(schema, found, schemas.VERSION))
            return
        found = schemas.look(address)
    except BackplaneError as error:
        raise click.ClickException(str(error)) from error
    if is_printed:
        for number in range(found + 1, schemas.VERSION + 1):
            click.echo(schemas.sql_of(number, schema))
    elif found < schemas.VERSION:
        click.echo(f"{schema}: version {found}, and {schemas.VERSION} is needed")
        sys.exit(1)
    else:
        click.echo(_said(schema, found, schemas.VERSION))


def _said(schema: str, found: int, version: int) -> str:
    if found == version:
        return f"{schema}: version {version}, nothing to do"
    return f"{schema}: version {version}, was {found}"

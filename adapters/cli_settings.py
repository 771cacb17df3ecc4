"""The options by which the ``broker`` command finds its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from adapters.hosting.settings import Loaded, SettingsError, load_settings

__all__ = (
    "HYPERCORN_FILE",
    "config_option",
    "existing",
    "hypercorn_option",
    "load",
    "server_flags",
)

HYPERCORN_FILE = Path("hypercorn.toml")
OWN_FILE = Path("broker.toml")

file_type = click.Path(dir_okay=False, path_type=Path)
config_option = click.option(
    "--config",
    type=file_type,
    envvar="BROKER_CONFIG",
    help="Settings of the broker.  [default: broker.toml, if it is there]",
)
hypercorn_option = click.option(
    "--hypercorn",
    type=file_type,
    envvar="BROKER_HYPERCORN",
    help="Settings of hypercorn, such as certificates.  "
    "[default: hypercorn.toml, if it is there]",
)
# {parameter: setting}; what is not given leaves the setting to files and environment.
# No keys: the arguments of a process are for all to see. A URL may have no password.
FLAGS = {
    "bind": "server.bind",
    "loop": "server.loop",
    "workers": "server.workers",
    "worker_bind": "server.worker_bind",
    "backplane": "server.backplane",
    "wait_for_backplane": "server.wait_for_backplane_s",
    "log_format": "server.log_format",
}
NO_FLAGS: Mapping[str, Any] = MappingProxyType({})


def server_flags(command: Any) -> Any:
    """Add the flags that are settings as well."""
    options = [
        click.option(
            "--bind",
            multiple=True,
            help="Where to listen: host:port, [v6]:port, unix:path or fd://number; "
            "may be repeated.",
        ),
        click.option("--loop", help="asyncio, uvloop or trio."),
        click.option("--workers", help="Number of processes."),
        click.option(
            "--worker-bind",
            metavar="HOST:PORT",
            help="Where the first worker listens besides, alone; the next one port "
            "above, and so on.",
        ),
        click.option(
            "--backplane",
            metavar="URL",
            help="What joins workers and machines, such as redis://localhost:6379/0. "
            "Arguments are for all to see: give a URL with a password by "
            "BROKER_SERVER_BACKPLANE or a file.",
        ),
        click.option(
            "--wait-for-backplane",
            metavar="SECONDS",
            help="How long to try to reach it at the start.",
        ),
        click.option("--log-format", help="console or json."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def load(
    config: Path | None,
    hypercorn_file: Path | None = None,
    flags: Mapping[str, Any] = NO_FLAGS,
) -> Loaded:
    """Return the settings of files, environment and flags.

    Args:
        config: None for the usual file, if it is there.
        hypercorn_file: None for none.
        flags: as ``server_flags`` passes them.

    Raises:
        click.UsageError: a setting cannot be used; says which, and where it was set.
    """
    given = {
        FLAGS[name]: None if value == () else value for name, value in flags.items()
    }
    try:
        return load_settings(
            file=existing(config, OWN_FILE),
            hypercorn_file=hypercorn_file,
            environ=os.environ,
            flags=given,
        )
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


def existing(given: Path | None, usual: Path) -> Path | None:
    """Return the file that was asked for, or else the usual one if there is one."""
    if given is not None:
        return given
    return usual if usual.exists() else None

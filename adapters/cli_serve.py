"""``broker serve``, and ``broker check-config``: what it would do."""

from __future__ import annotations

import logging
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import click
import google.protobuf  # noqa: F401 # a missing one is named before anything starts
import trio  # noqa: F401 # likewise

from adapters.cli_settings import (
    HYPERCORN_FILE,
    config_option,
    existing,
    hypercorn_option,
    load,
    server_flags,
)
from adapters.hosting.backplane import joins_processes, make_backplane, reach
from adapters.hosting.listeners import (
    ListenError,
    SocketOptions,
    listen,
    worker_binds,
)
from adapters.hosting.settings import Loaded, ServerSettings
from adapters.hosting.supervisor import supervise
from adapters.hosting.worker import EXIT_FAILURE, Job, run_on, run_worker
from adapters.observability.logs import configure_logging
from broker import BackplaneError

__all__ = ("check_config", "serve")

logger = logging.getLogger("broker.hosting")


@click.command()
@click.argument("application", required=False)
@click.option("--broker", help="The broker in APPLICATION, as module:name.")
@click.option(
    "--allow-split",
    is_flag=True,
    help="Serve with several workers although they do not reach each other.",
)
@config_option
@hypercorn_option
@server_flags
def serve(
    application: str | None,
    broker: str | None,
    allow_split: bool,
    config: Path | None,
    hypercorn: Path | None,
    **flags: Any,
) -> None:
    """Serve APPLICATION (module:name), or the chat that comes with the broker."""
    hypercorn_file = existing(hypercorn, HYPERCORN_FILE)
    loaded = load(config, hypercorn_file, flags)
    server = loaded.settings.server
    configure_logging(format=server.log_format, level=server.log_level)
    if application is None:
        _see_to_the_backplane(server, allow_split=allow_split)
    else:
        _warn_of_settings_for_the_own_application(loaded)
    options = SocketOptions(
        user_timeout_s=server.user_timeout_s,
        notsent_lowat_bytes=server.notsent_lowat_bytes,
        keepalive_s=server.keepalive_s,
    )
    job = Job(
        settings=loaded.settings,
        hypercorn_file=hypercorn_file,
        app=application,
        broker=broker,
        allow_split=allow_split,
    )
    try:
        sockets = listen(server.bind, options)
        own = [listen([bind], options) for bind in worker_binds(server)]
    except ListenError as error:
        logger.error("%s", error)  # noqa: TRY400 # no bug of ours
        sys.exit(EXIT_FAILURE)
    if server.workers > 1:
        sys.exit(supervise(job, sockets, own))
    sys.exit(run_worker(job, [*sockets, *chain.from_iterable(own)]))


@click.command()
@config_option
@hypercorn_option
@server_flags
def check_config(config: Path | None, hypercorn: Path | None, **flags: Any) -> None:
    """Print the effective settings, and where each comes from."""
    rows = load(config, existing(hypercorn, HYPERCORN_FILE), flags).rows()
    width = max(len(f"{key} = {value}") for key, value, _ in rows)
    for key, value, source in rows:
        click.echo(f"{f'{key} = {value}':<{min(width, 60)}}  # {source}")


def _see_to_the_backplane(server: ServerSettings, *, allow_split: bool) -> None:
    """Refuse workers that do not reach each other, and wait for what joins them."""
    backplane = make_backplane(server)
    if not joins_processes(backplane):
        if server.workers > 1 and not allow_split:
            raise click.UsageError(
                f"{server.workers} workers without a backplane would be "
                f"{server.workers} separate chats. Join them with --backplane URL, "
                "such as redis://localhost:6379/0, use --workers 1, or --allow-split "
                "if that is what you want."
            )
        return
    try:
        # Before the workers start: one line says it, and nobody is let in meanwhile.
        run_on("trio" if server.loop == "trio" else "asyncio", reach, backplane)
    except BackplaneError as error:
        logger.error("the backplane: %s", error)  # noqa: TRY400 # no bug of ours
        sys.exit(EXIT_FAILURE)


def _warn_of_settings_for_the_own_application(loaded: Loaded) -> None:
    sections = {
        key.split(".")[0].split("[")[0]
        for key, source in loaded.sources.items()
        if source != "default"
    }
    for section in sorted(sections & {"access", "api", "client", "limits", "topics"}):
        logger.warning(
            "[%s] is for the chat that comes with the broker: your application makes "
            "its own Broker, and may use adapters.hosting.settings.load_settings",
            section,
        )

"""The ``broker`` command: finds its subcommands, and says which extra one needs."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit(
        "the broker command needs click: pip install 'asgi-broker[server]' "
        "(or [jwt], [loadtest], [postgres] for their subcommands alone)"
    ) from error

__all__ = ("main",)


class Subcommand(NamedTuple):
    """Where a subcommand is, and what it needs.

    Attributes:
        extra: of this distribution, that brings the packages it imports.
    """

    module: str
    name: str
    extra: str


SUBCOMMANDS = {
    "bench": Subcommand("adapters.cli_bench", "bench", "loadtest"),
    "check-config": Subcommand("adapters.cli_serve", "check_config", "server"),
    "migrate": Subcommand("adapters.cli_migrate", "migrate", "postgres"),
    "serve": Subcommand("adapters.cli_serve", "serve", "server"),
    "token": Subcommand("adapters.cli_tokens", "token", "jwt"),
}


class Commands(click.Group):
    """Imports a subcommand when it is asked for: each extra brings its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        module, name, extra = SUBCOMMANDS[cmd_name]
        try:
            found: click.Command = getattr(import_module(module), name)
        except (ModuleNotFoundError, SystemExit) as error:
            return missing(cmd_name, extra, error)
        return found


def missing(name: str, extra: str, error: BaseException) -> click.Command:
    """Return a command that says what to install, whatever it is given."""
    needs = f"needs pip install 'asgi-broker[{extra}]'"

    def say(arguments: tuple[str, ...]) -> None:
        raise SystemExit(f"broker {name} {needs} ({error})")

    return click.Command(
        name,
        callback=say,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        help=f"Not installed: it {needs}.",
        add_help_option=False,
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("asgi-broker"), package_name="asgi-broker")
def main() -> None:
    """Real-time messages over WebSockets.

    \b
    Exit codes: 0 stopped as asked; 1 failed, or did not stop in time;
    2 wrong options or settings. A second signal ends it at once.
    """


if __name__ == "__main__":
    main()

"""The options of ``broker bench`` that say what a load test is to do."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from adapters.loadtest.plan import Plan, Scenario, Slowness, Wire

__all__ = (
    "Output",
    "in_bytes",
    "in_options",
    "in_seconds",
    "plan_of",
    "plan_options",
    "share",
)

USUAL = Plan(url="")
# Options that are called like what they are in a plan.
AS_THEY_ARE = (
    *("url", "clients", "rooms", "processes", "sources", "topic", "template"),
    *("greeting", "token", "pid", "label", "insecure"),
)
UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
UNITS_BYTES = {"": 1.0, "B": 1.0, "KiB": 1024.0, "MiB": 1024.0 * 1024.0}
SHARES = {"": 1.0, "%": 0.01}
NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z%]*)")


# {field of a plan: its option}, where they are not called alike.
NAMES = {
    "churn_per_s": "--churn",
    "drop_s": "--drop",
    "duration_s": "--duration",
    "ramp_per_s": "--ramp",
    "rate_per_s": "--rate",
    "settle_s": "--settle",
    "size_bytes": "--size",
    "slow_share": "--slow",
    "warmup_s": "--warmup",
}
NAMED = re.compile(rf"(?<!\S)(?:{'|'.join(NAMES)})(?![^\s:])")
# Words that are as well, where a sentence is about the option and not about clients.
ALIKE = re.compile(
    r"^(?=(?:clients|rooms|processes|sources) must |insecure is |pid: )"
    r"|(?<=leave )(?=sources away)"
)


class Output(click.Path):
    """A file to write at the end; that it can be is seen at the start."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return it as a path, in a folder that is there."""
        file = Path(str(super().convert(value, param, ctx)))
        is_piped = self.allow_dash and str(file) == "-"
        if not (is_piped or file.exists() or os.access(file.parent, os.W_OK)):
            self.fail(f"cannot write into {str(file.parent)!a}", param, ctx)
        return file


def in_options(said: str) -> str:
    """Return what is wrong with a plan, in the words of whoever typed the options."""
    return NAMED.sub(lambda found: NAMES[found[0]], ALIKE.sub("--", said))


def in_seconds(text: str) -> float:
    """Return a time such as 500ms, 10s, 2min or 1.5 (s)."""
    return _with_unit(text, UNITS_S, "10s, 500ms, 2min or a number of seconds")


def in_bytes(text: str) -> int:
    """Return a size such as 128, 4KiB or 1MiB (bytes)."""
    return int(_with_unit(text, UNITS_BYTES, "128, 4KiB or 1MiB"))


def share(text: str) -> float:
    """Return a share such as 1% or 0.01."""
    return _with_unit(text, SHARES, "1% or 0.01")


def _with_unit(text: str, units: Mapping[str, float], form: str) -> float:
    found = NUMBER.fullmatch(text.strip())
    if found is None or found[2] not in units:
        raise click.BadParameter(f"{text!a} is not {form}")
    return float(found[1]) * units[found[2]]


OPTIONS = (
    click.option(
        "--scenario",
        type=click.Choice([each.value for each in Scenario]),
        default=USUAL.scenario.value,
        show_default=True,
        help="What the clients do.",
    ),
    click.option(
        "--wire",
        type=click.Choice([each.value for each in Wire]),
        default=USUAL.wire.value,
        show_default=True,
        help="How client and server speak; text is your own frames, see --template.",
    ),
    click.option(
        "--clients",
        type=int,
        default=USUAL.clients,
        show_default=True,
        help="Listeners and publishers together.",
    ),
    click.option(
        "--rooms",
        type=int,
        default=USUAL.rooms,
        show_default=True,
        help="Over how many rooms they are spread.",
    ),
    click.option(
        "--rate",
        type=float,
        default=USUAL.rate_per_s,
        show_default=True,
        metavar="PER_S",
        help="Messages published each second, by all together.",
    ),
    click.option(
        "--size",
        type=in_bytes,
        default=str(USUAL.size_bytes),
        show_default=True,
        metavar="BYTES",
        help="Of a message: 128, 4KiB.",
    ),
    click.option(
        "--duration",
        type=in_seconds,
        default=f"{USUAL.duration_s:g}s",
        show_default=True,
        metavar="TIME",
        help="How long messages are counted: 10s, 2min.",
    ),
    click.option(
        "--warmup",
        type=in_seconds,
        default=f"{USUAL.warmup_s:g}s",
        show_default=True,
        metavar="TIME",
        help="How long they are published before that.",
    ),
    click.option(
        "--settle",
        type=in_seconds,
        default=f"{USUAL.settle_s:g}s",
        show_default=True,
        metavar="TIME",
        help="How long to wait, at most, for what is still to come after that.",
    ),
    click.option(
        "--ramp",
        type=float,
        default=USUAL.ramp_per_s,
        show_default=True,
        metavar="PER_S",
        help="Connections opened each second.",
    ),
    click.option(
        "--processes",
        type=int,
        default=USUAL.processes,
        show_default=True,
        help="Processes that make the load.",
    ),
    click.option(
        "--sources",
        type=int,
        default=USUAL.sources,
        show_default=True,
        help="Local addresses to connect from, 127.0.0.1 and up: each has about 28,000 "
        "ports.",
    ),
    click.option(
        "--slow",
        type=share,
        metavar="SHARE",
        help="How many of the listeners are slow: 1%.  [default: 1% with slow]",
    ),
    click.option(
        "--slowness",
        type=click.Choice([each.value for each in Slowness]),
        default=USUAL.slowness.value,
        show_default=True,
        help="Whether they read nothing, or a few hundred bytes a second.",
    ),
    click.option(
        "--churn",
        type=float,
        metavar="PER_S",
        help="Clients that leave each second, and that come.  [default: 10 with churn]",
    ),
    click.option(
        "--drop",
        type=in_seconds,
        default=f"{USUAL.drop_s:g}s",
        show_default=True,
        metavar="TIME",
        help="How long a client stays away; with storm and resume.",
    ),
    click.option(
        "--topic",
        default=USUAL.topic,
        show_default=True,
        help="The channel, or with socketio the event.",
    ),
    click.option(
        "--template",
        default=USUAL.template,
        show_default=True,
        help="The frame that publishes, with --wire text. {room} and {client} are "
        "numbers, here and in the URL, --topic and --greeting.",
    ),
    click.option(
        "--greeting",
        multiple=True,
        metavar="FRAME",
        help="What a client sends first, with --wire text; may be repeated.",
    ),
    click.option(
        "--token",
        help="For the connect command. Arguments are for all to see: "
        "BROKER_BENCH_TOKEN is not.",
        envvar="BROKER_BENCH_TOKEN",
    ),
    click.option(
        "--pid", type=int, help="The server's process, to read what it takes with it."
    ),
    click.option("--label", default="", help="What the report is called."),
    click.option("--insecure", is_flag=True, help="Do not check certificates."),
)


def plan_options(command: Any) -> Any:
    """Add the options that a plan is made of."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def plan_of(options: Mapping[str, Any]) -> Plan:
    """Return the plan that options, and the argument ``url``, ask for."""
    scenario = Scenario(options["scenario"])
    slow, churn = options["slow"], options["churn"]
    if slow is None:
        slow = 0.01 if scenario is Scenario.SLOW else 0.0
    if churn is None:
        churn = 10.0 if scenario is Scenario.CHURN else 0.0
    return Plan(
        scenario=scenario,
        wire=Wire(options["wire"]),
        rate_per_s=options["rate"],
        size_bytes=options["size"],
        warmup_s=options["warmup"],
        duration_s=options["duration"],
        settle_s=options["settle"],
        ramp_per_s=options["ramp"],
        slow_share=slow,
        slowness=Slowness(options["slowness"]),
        churn_per_s=churn,
        drop_s=options["drop"],
        **{name: options[name] for name in AS_THEY_ARE},
    )

"""Backplanes: each engine against the memory backplane and encode/broadcaster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from .backplane_engines import ENGINES, engine
from .backplane_node import KEPT, PAYLOAD_BYTES
from .backplane_rig import Pair, open_pair
from .results import Outcome, Section, Spread, Verdict

__all__ = ("Size", "run")

NAMES = {
    "memory": "memory",
    "redis": "Redis",
    "postgresql": "PostgreSQL",
    "nats": "NATS",
}

NOTE = f"""\
Engines, each private to this run: {{engines}}. All messages have {PAYLOAD_BYTES} bytes.
Two nodes, each a process, one of which publishes and the other subscribes; with the
memory backplane they are one. broadcaster gives a message no position, keeps no
history and does not survive a restart of its engine, so an `asgi-broker` without
history is compared with its publish-subscribe, and one with history with its
`redis-stream` or, for PostgreSQL, with the same as before."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        subscribers: of the topic that is fanned out.
        publishers: at once, where they are concurrent, and messages of a burst.
        turn_s: length of a turn, of which each run is one (s).
        warm_up: turns before that count for nothing.
        nodes: processes of a contender; with one, it also hears what it says.
    """

    loops: Sequence[str] = ("asyncio", "trio")
    engines: Sequence[str] = tuple(ENGINES)
    subscribers: int = 500
    publishers: int = 50
    runs: int = 5
    turn_s: float = 0.3
    warm_up: int = 1
    nodes: int = 2


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the tables.

    Attributes:
        prefix: of its topics; ``kept`` has history.
        rival: name of the one of broadcaster's that promises most like it.
    """

    name: str
    who: str
    scheme: str
    loop: str = "asyncio"
    prefix: str = "live"
    rival: str = ""

    @property
    def key(self) -> str:
        return f"{self.loop}/{self.scheme}/{self.name}"

    def topic(self, name: str) -> str:
        """Return a topic of its own: all are connected to one engine at once."""
        return f"{self.prefix}.{self.loop}.{name}"

    @property
    def rival_key(self) -> str:
        return f"asyncio/{self.scheme}/{self.rival}"

    @property
    def is_judged(self) -> bool:
        """It is on broadcaster's only loop, and its rival promises no less."""
        return (
            self.who == "ours"
            and bool(self.rival)
            and self.loop == "asyncio"
            and ((self.prefix == "kept") == (self.rival == STREAM))
        )

    @property
    def url_scheme(self) -> str:
        return "redis-stream" if self.name == STREAM else self.scheme


OURS, OURS_KEPT = "asgi-broker", f"asgi-broker, history of {KEPT}"
THEIRS, STREAM = "encode/broadcaster", "encode/broadcaster, redis-stream"


def field_of(scheme: str, loops: Iterable[str]) -> list[Contender]:
    """Return who competes on an engine."""
    found = []
    for loop in loops:
        rival = "" if scheme == "nats" else THEIRS
        found.append(Contender(OURS, "ours", scheme, loop, rival=rival))
        if scheme != "memory":
            rival = {"redis": STREAM, "postgresql": THEIRS}.get(scheme, "")
            found.append(Contender(OURS_KEPT, "ours", scheme, loop, "kept", rival))
    if scheme != "nats":
        found.append(Contender(THEIRS, "broadcaster", scheme, rival=THEIRS))
    if scheme == "redis":
        found.append(Contender(STREAM, "broadcaster", scheme, prefix="kept"))
    return found


@dataclass(slots=True)
class Turn:
    """What one turn has found.

    Attributes:
        per_s: messages per second of the time that has passed.
        p50_ms, p99_ms: of each publish, or until the subscriber has it (ms).
        node_us: processor time per message, of the node that the mode is about (µs).
        engine_us: the same of the engine (µs).
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    node_us: float
    engine_us: float


@dataclass(frozen=True, slots=True)
class Mode:
    """One thing to measure: its words, and how a turn of it goes."""

    name: str
    title: str
    prose: str
    publishers: bool = False  # many at once
    paced: bool = False  # the next when all have the last
    fan_out: bool = False

    @property
    def header(self) -> tuple[str, ...]:
        rate = "publishes/s" if self.publishers else "1 / p50, per s"
        if self.fan_out:
            rate = "deliveries/s of one core"
        node = "subscribing" if self.fan_out else "publishing"
        return (
            "loop",
            "engine",
            "who",
            rate,
            "against broadcaster",
            "against memory",
            "p50, ms",
            "p99, ms",
            f"CPU of the {node} node per message, µs",
            "… of the engine, µs",
        )

    def score(self, turn: Turn, size: Size) -> float:
        """Return what is compared: more is better."""
        if self.fan_out:
            return size.subscribers / turn.node_us * 1e6
        # One after another, the median: it shrugs off what disturbs the machine.
        return turn.per_s if self.publishers else 1e3 / turn.p50_ms

    def take_turn(self, pair: Pair, contender: Contender, size: Size) -> Turn:
        """Measure one contender once.

        Raises:
            RuntimeError: not all has come, or something twice; or a node has died.
        """
        topic = contender.topic("many" if self.fan_out else "one")
        each = size.subscribers if self.fan_out else 1
        width = size.publishers if self.publishers else 1
        pair.subscriber.ask(
            "begin", topic=topic, every=each * width if self.paced else 0
        )
        before = pair.taken()
        if self.paced:
            done = pair.publisher.ask(
                "rounds", topic=topic, seconds=size.turn_s, burst=width
            )
        else:
            done = pair.publisher.ask(
                "straight", topic=topic, seconds=size.turn_s, publishers=width
            )
        count: int = done["count"]
        arrived = pair.subscriber.ask("wait", topic=topic, deliveries=count * each)
        after = pair.taken()
        taken = (
            after.subscriber - before.subscriber
            if self.fan_out
            else after.publisher - before.publisher
        )
        times = arrived if self.paced else done
        return Turn(
            per_s=count / done["seconds"],
            p50_ms=times["p50_ms"],
            p99_ms=times["p99_ms"],
            node_us=taken / count * 1e6,
            engine_us=(after.engine - before.engine) / count * 1e6,
        )


MODES = (
    Mode(
        "sequential",
        "Publishing, one after another",
        "One publisher, who publishes again when `publish` has returned; a subscriber "
        "on another node gets it all. p50 and p99 are of `publish`.",
    ),
    Mode(
        "concurrent",
        "Publishing, many at once",
        "{publishers} tasks of one node, each as above. broadcaster's PostgreSQL "
        "backend fails if two publish at once, so there they take turns at a lock of "
        "the benchmark's.",
        publishers=True,
    ),
    Mode(
        "delivery",
        "Until a subscriber on another node has it",
        "From before `publish` until the subscriber's task has the message, in another "
        "process; the next one is published then.",
        paced=True,
    ),
    Mode(
        "paced",
        "Fan-out, paced",
        "One topic, {subscribers} subscribers on one node, each a task; another node "
        "publishes the next message when all have the last one. The rate counts "
        "all processor time of the subscribing node: what one core of it can do.",
        paced=True,
        fan_out=True,
    ),
    Mode(
        "bursts",
        "Fan-out, bursts",
        "The same, but {publishers} messages are published at once, and the next burst "
        "when all have got all of them. Ours reads with `receive_all`.",
        publishers=True,
        paced=True,
        fan_out=True,
    ),
)


@dataclass(slots=True)
class Field:
    """All contenders with their nodes, and what each has done in each mode."""

    contenders: list[Contender] = field(default_factory=list)
    pairs: dict[str, Pair] = field(default_factory=dict)
    turns: dict[tuple[str, str], list[Turn]] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)

    def start(self, stack: ExitStack, scheme: str, size: Size) -> None:
        """Start an engine and its contenders' nodes, which are not ready yet."""
        running = stack.enter_context(engine(scheme))
        if running is None:
            self.versions.append(f"no {NAMES[scheme]}: it is not installed")
            return
        self.versions += [running.version] if running.version else []
        shared: dict[tuple[str, ...], Pair] = {}
        for each in field_of(scheme, size.loops):
            nodes = (each.who, each.loop, each.url_scheme)
            if nodes not in shared:
                url = running.url.replace(scheme, each.url_scheme, 1)
                shared[nodes] = open_pair(
                    stack,
                    each.who,
                    each.loop,
                    url,
                    running,
                    nodes=size.nodes if running.pid else 1,
                )
            self.pairs[each.key] = shared[nodes]
            self.contenders.append(each)

    def prepare(self, size: Size) -> None:
        """Wait for all nodes, and subscribe."""
        nodes = list(dict.fromkeys(self.pairs.values()))
        for pair in nodes:
            pair.wait_ready()
        for each in self.contenders:
            subscriber = self.pairs[each.key].subscriber
            subscriber.ask("subscribe", topic=each.topic("one"), count=1)
            if each.prefix == "live":
                many = size.subscribers
                subscriber.ask("subscribe", topic=each.topic("many"), count=many)
        for pair in nodes:
            pair.publisher.ask("freeze")
            pair.subscriber.ask("freeze")

    def compete(self, size: Size) -> None:
        """Let all take turns in every mode."""
        for mode in MODES:
            able = self.able(mode)
            for number in range(-size.warm_up, size.runs):
                for each in able if number % 2 else reversed(able):
                    turn = mode.take_turn(self.pairs[each.key], each, size)
                    if number >= 0:
                        self.turns.setdefault((mode.name, each.key), []).append(turn)

    def able(self, mode: Mode) -> list[Contender]:
        """Return who takes part. History changes nothing in what a node hands out."""
        return [
            each
            for each in self.contenders
            if each.prefix == "live" or not mode.fan_out
        ]

    def values(self, mode: Mode, key: str, what: str) -> Spread:
        """Return one value of all runs."""
        turns = self.turns[mode.name, key]
        return Spread.of([getattr(turn, what) for turn in turns])

    def scores(self, mode: Mode, key: str, size: Size) -> list[float]:
        """Return the score of each run."""
        return [mode.score(turn, size) for turn in self.turns[mode.name, key]]

    def ratio(self, mode: Mode, one: str, other: str, size: Size) -> Spread | None:
        """Compare two scores, run by run; None if one of them was not measured."""
        if not {(mode.name, one), (mode.name, other)} <= self.turns.keys():
            return None
        ours, base = (self.scores(mode, key, size) for key in (one, other))
        return Spread.ratios(ours, base)


def run(size: Size | None = None) -> Outcome:
    """Measure every contender on every engine that is installed."""
    size = size or Size()
    found = Field()
    with ExitStack() as stack:
        for scheme in size.engines:
            found.start(stack, scheme, size)
        found.prepare(size)
        found.compete(size)
    outcome = Outcome()
    outcome.notes.append(NOTE.format(engines=", ".join(found.versions)))
    for mode in MODES:
        outcome.sections.append(tabulate(found, mode, size))
        for each in found.able(mode):
            key = f"backplanes/{mode.name}/{each.key}"
            outcome.figures[key] = found.scores(mode, each.key, size)
            ratio = found.ratio(mode, each.key, each.rival_key, size)
            if each.is_judged and ratio is not None:
                outcome.verdicts.append(verdict(mode, each, ratio))
    return outcome


def verdict(mode: Mode, contender: Contender, ratio: Spread) -> Verdict:
    """Say whether it is no slower than its rival."""
    target = f"{mode.title}, {NAMES[contender.scheme]}: {contender.name} no slower than"
    return Verdict(
        f"{target} {contender.rival}", ratio.show(suffix="×"), ratio.median >= 1
    )


def tabulate(found: Field, mode: Mode, size: Size) -> Section:
    """Return one mode's table."""
    rows = []
    for each in found.able(mode):
        key = each.key
        memory = f"{each.loop}/memory/{OURS}"
        rivals = found.ratio(mode, key, each.rival_key, size)
        memories = found.ratio(mode, key, memory, size)
        rows.append(
            (
                each.loop,
                NAMES[each.scheme],
                each.name,
                Spread.of(found.scores(mode, key, size)).show(",.0f"),
                rivals.show(suffix="×") if rivals else "–",
                memories.show(suffix="×") if memories else "–",
                found.values(mode, key, "p50_ms").show(".3f"),
                found.values(mode, key, "p99_ms").show(".3f"),
                f"{found.values(mode, key, 'node_us').median:,.0f}",
                f"{found.values(mode, key, 'engine_us').median:,.0f}",
            )
        )
    words = {"publishers": size.publishers, "subscribers": size.subscribers}
    return Section(mode.title, mode.prose.format(**words), mode.header, rows)

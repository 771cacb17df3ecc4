"""Whether a plan makes sense: what no machine could do is said before it starts."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from .plan import Plan, Scenario, Wire
from .stamp import LEAST_BYTES

__all__ = ("PlanError", "PreflightError", "check_sense", "is_loopback")

MAX_NUMBER = 2**32  # what a stamp has room for
MAX_SOURCES = 254  # 127.0.0.1 to 127.0.0.254
UNTOUCHED = Plan(url="")  # what nobody has asked for


class PreflightError(Exception):
    """A test that cannot be run here: one line that says what to do."""


class PlanError(PreflightError):
    """A test that cannot be run anywhere: one line that says what to do."""


def check_sense(plan: Plan) -> None:
    """See that a plan contradicts neither itself nor what clients can do.

    Raises:
        PlanError: it does; the first contradiction that was found.
    """
    for objections in (numbers, crowd, address, scenario, wire):
        for objection in objections(plan):
            raise PlanError(objection)


def numbers(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with single numbers."""
    for name in ("rate_per_s", "duration_s", "ramp_per_s"):
        if not 0 < getattr(plan, name) < math.inf:
            yield f"{name} must be more than 0"
    for name in ("warmup_s", "settle_s", "churn_per_s", "drop_s"):
        if not 0 <= getattr(plan, name) < math.inf:
            yield f"{name} must be 0 or more"
    for name in ("rooms", "processes", "sources"):
        if getattr(plan, name) < 1:
            yield f"{name} must be 1 or more"
    if not 0 <= plan.slow_share <= 1:
        yield "slow_share must be from 0 to 1"
    if plan.size_bytes < LEAST_BYTES:
        yield (
            f"size_bytes must be {LEAST_BYTES} or more: so long is the stamp that each "
            f"message carries"
        )
    if plan.sources > MAX_SOURCES:
        yield f"sources must be at most {MAX_SOURCES}"
    if plan.rate_per_s * plan.duration_s < 1:
        yield (
            f"nothing would be published: one message takes {1 / plan.rate_per_s:g} s, "
            f"the test {plan.duration_s:g} s"
        )
    if plan.rate_per_s * (plan.warmup_s + plan.duration_s) > MAX_NUMBER:
        yield f"a test has at most {MAX_NUMBER:,} messages: shorten it"


def crowd(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with how the clients are spread."""
    if plan.clients < 2:
        yield "clients must be 2 or more: somebody has to listen"
    if plan.scenario is Scenario.ROOMS and plan.rooms < 2:
        yield "rooms needs 2 rooms or more: one is a fan-out"
    if plan.rooms * 2 > plan.clients:
        yield (f"{plan.clients} clients fill at most {plan.clients // 2} rooms, of two")
    if plan.processes > plan.clients:
        yield f"{plan.clients} clients need no {plan.processes} processes"


def address(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with where the clients connect to, and from."""
    url = plan.url.replace("{room}", "0").replace("{client}", "0")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        yield f"{plan.url} is no URL: {error}"
        return
    if parts.scheme not in ("ws", "wss"):
        yield f"{plan.url} is no WebSocket's URL: it must begin with ws:// or wss://"
    if plan.insecure and parts.scheme != "wss":
        yield "insecure is about certificates, and only wss:// has any: leave it away"
    if not parts.hostname or port == 0:
        yield f"{plan.url} names no server: ws://host:port/path"
    if not url.isascii() or any(not "!" <= character <= "~" for character in url):
        yield f"{plan.url!r} holds characters that a URL has to encode"
    if parts.fragment:
        yield f"{plan.url} has a fragment, which no server sees: leave #… away"
    if plan.sources > 1 and not is_loopback(parts.hostname or ""):
        yield (
            f"several sources are addresses of this machine only, and "
            f"{parts.hostname} is not on it: leave sources away"
        )


def scenario(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with what the clients are to do."""
    kind = plan.scenario
    if kind is not Scenario.SLOW and plan.slow_share:
        yield f"nobody is slow in {kind}: leave slow_share away, or take slow"
    if kind is Scenario.SLOW and not plan.slow_share:
        yield "slow needs slow_share: how many of the listeners are slow"
    if kind is not Scenario.CHURN and plan.churn_per_s:
        yield f"nobody comes and goes in {kind}: leave churn_per_s away, or take churn"
    if kind is Scenario.CHURN and not plan.churn_per_s:
        yield "churn needs churn_per_s: how many clients leave each second, and come"
    if kind is Scenario.STORM and plan.drop_s * 2 >= plan.duration_s:
        yield (
            f"a storm begins half way, and nobody would be back before the end: "
            f"duration_s over {plan.drop_s * 2:g}"
        )
    if kind is Scenario.RESUME and plan.drop_s >= plan.duration_s:
        yield f"nobody would come back before the end: duration_s over {plan.drop_s:g}"


def wire(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with how client and server are to speak."""
    speaks = plan.wire
    if plan.scenario is Scenario.RESUME and speaks is not Wire.CENTRIFUGE:
        yield f"clients cannot resume with the wire {speaks}: take centrifuge"
    if speaks is not Wire.CENTRIFUGE and plan.token is not None:
        yield f"the wire {speaks} has no token: put it into the URL or the greeting"
    if speaks is Wire.TEXT:
        if plan.template.count("{message}") != 1:
            yield "the template must have {message} once, where the message goes"
        places = (plan.url, plan.template, *plan.greeting)
    else:
        if plan.template != UNTOUCHED.template:
            yield f"the wire {speaks} has no template: take the wire text"
        if plan.greeting and speaks is Wire.CENTRIFUGE:
            yield f"the wire {speaks} greets by itself: leave the greeting away"
        if not plan.topic:
            yield f"the wire {speaks} needs a topic"
        places = (plan.url, plan.topic)
    if plan.rooms > 1 and not any("{room}" in place for place in places):
        yield "all rooms would be one: put {room} where the server tells them apart"


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine, as far as its name says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""X-Forwarded-For: believed as far as trusted proxies wrote it, and no further."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.hosting.proxies import ForwardedFor, parse_host

NAME = b"x-forwarded-for"
OTHERS = [(b"host", b"a.example"), (b"x-forwarded-proto", b"https")]
PROXY = "10.0.0.1"
TRUSTED = ("10.0.0.0/8", "fd00::/8")


class Seen:
    """An application that keeps the scope that it was given."""

    def __init__(self) -> None:
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await anyio.lowlevel.checkpoint()
        assert await receive() == "received"
        await send("sent")
        self.scope = scope


async def through(
    scope: dict[str, Any], trusted: tuple[str, ...] = TRUSTED
) -> dict[str, Any]:
    """Return the scope as an application behind the middleware gets it."""
    sent = []

    async def receive() -> Any:
        return "received"

    async def send(message: Any) -> None:
        sent.append(message)

    seen, before = Seen(), dict(scope)
    await ForwardedFor(seen, trusted)(scope, receive, send)
    assert sent == ["sent"]
    assert scope == before  # the server's own is not touched
    result: dict[str, Any] = seen.scope
    return result


def request(
    *lines: bytes, peer: str | None = PROXY, kind: str = "http", name: bytes = NAME
) -> dict[str, Any]:
    return {
        "type": kind,
        "client": None if peer is None else (peer, 5_000),
        "headers": [*OTHERS, *((name, line) for line in lines)],
    }


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_trusted_proxy_says_who_the_client_is(kind: str) -> None:
    scope = await through(request(b"192.0.2.1", kind=kind))
    assert scope["client"] == ("192.0.2.1", 0)
    assert scope["headers"] == OTHERS  # used, and so taken out
    assert scope["type"] == kind


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (PROXY, ()),
        (None, ()),
        ("192.0.2.9", TRUSTED),
        ("11.0.0.1", TRUSTED),
        ("not an address", TRUSTED),
        ("", TRUSTED),
    ],
)
async def test_nobody_else_is_believed(
    peer: str | None, trusted: tuple[str, ...]
) -> None:
    """The header stays: who reads it can see that it came from outside."""
    scope = request(b"192.0.2.1", peer=peer)
    assert await through(scope, trusted) == scope


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        # What a client wrote itself stands before what proxies add.
        ([b"1.1.1.1, 192.0.2.1"], "192.0.2.1"),
        ([b"10.0.0.7, 192.0.2.1"], "192.0.2.1"),
        ([b"1.1.1.1, 192.0.2.1, 10.0.0.2, 10.0.0.3"], "192.0.2.1"),
        # Several lines are one list, in their order (RFC 9110 §5.3).
        ([b"1.1.1.1", b"192.0.2.1", b"10.0.0.2"], "192.0.2.1"),
        ([b"192.0.2.1", b"1.1.1.1, 2.2.2.2"], "2.2.2.2"),
        # All of them are proxies: the farthest is as near as one gets.
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Behind an entry that no proxy writes nothing is believed.
        ([b"1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ([b"1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
        ([b"1.1.1.1,\xff\xfe,10.0.0.2"], "10.0.0.2"),
        # Spaces, ports, brackets, IPv4 in IPv6.
        ([b" \t192.0.2.1 \t"], "192.0.2.1"),
        ([b"192.0.2.1:8080"], "192.0.2.1"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"[2001:db8::1]"], "2001:db8::1"),
        ([b"[2001:DB8:0::1]:8080"], "2001:db8::1"),
        ([b"::ffff:192.0.2.1"], "192.0.2.1"),
        ([b"192.0.2.1, ::ffff:10.0.0.9"], "192.0.2.1"),
        ([b"192.0.2.1, fd00::2"], "192.0.2.1"),
        ([b"192.0.2.1, [::ffff:10.0.0.9]:1"], "192.0.2.1"),
    ],
)
async def test_the_last_address_that_is_no_proxys(
    lines: list[bytes], client: str
) -> None:
    scope = await through(request(*lines))
    assert scope["client"] == (client, 0)
    assert scope["headers"] == OTHERS


@pytest.mark.parametrize(
    "lines",
    [
        *([], [b""], [b"unknown"], [b"192.0.2.1, "], [b",,,"], [b"192.0.2.1, _x"]),
        *([b"192.0.2.1.5"], [b"192.0.2"], [b"1.2.3.4/8"], [b"a:1"], [b"192.0.2.01"]),
    ],
)
async def test_a_header_that_says_nothing_is_left_alone(lines: list[bytes]) -> None:
    scope = request(*lines)
    assert await through(scope) == scope


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", None])
async def test_peers_that_are_trusted(peer: str | None) -> None:
    """A Unix socket has no address, and only this machine can connect to it."""
    scope = await through(request(b"192.0.2.1", peer=peer))
    assert scope["client"] == ("192.0.2.1", 0)


async def test_a_scope_without_client() -> None:
    scope = request(b"192.0.2.1")
    del scope["client"]
    assert (await through(scope))["client"] == ("192.0.2.1", 0)


async def test_a_single_address_and_host_bits() -> None:
    scope = request(b"192.0.2.1", peer="10.0.0.5")
    assert (await through(scope, ("10.0.0.5",)))["client"] == ("192.0.2.1", 0)
    assert (await through(scope, ("10.0.0.6",)))["client"] == ("10.0.0.5", 5_000)
    assert (await through(scope, ("10.9.9.9/8",)))["client"] == ("192.0.2.1", 0)


async def test_names_of_headers_in_any_case() -> None:
    scope = await through(request(b"192.0.2.1", name=b"X-Forwarded-For"))
    assert scope["client"] == ("192.0.2.1", 0)
    assert scope["headers"] == OTHERS


async def test_the_lifespan_is_no_request() -> None:
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    assert await through(scope) == scope


ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["10.0.0.2", "fd00::3", "::ffff:10.0.0.4", "::ffff:192.0.2.1"]),
)
ENTRIES = st.one_of(
    ADDRESSES,
    st.builds("{}:{}".format, ADDRESSES, st.integers(0, 99_999)),
    st.builds("[{}]".format, ADDRESSES),
    st.builds("[{}]:{}".format, ADDRESSES, st.integers(0, 99_999)),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
LINES = st.one_of(
    st.binary(max_size=60),
    st.lists(ENTRIES, max_size=5).map(lambda e: ", ".join(e).encode("latin-1")),
)


def believed(peer: str, entries: list[str]) -> str:
    """The rule, in short: walk back along the chain for as long as it is trusted."""

    def is_proxy(host: str) -> bool:
        return host.startswith(("10.", "fd"))

    while is_proxy(peer) and entries:
        before = parse_host(entries.pop().strip())
        if before is None:
            break
        peer = str(before)
    return peer


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(lines=st.lists(LINES, max_size=3), peer=st.sampled_from([PROXY, "192.0.2.9"]))
@example(lines=[b"[fe80::1%eth0]"], peer=PROXY)
@example(lines=[b"fe80::1%\xff"], peer=PROXY)
def test_whatever_a_header_holds(backend: str, lines: list[bytes], peer: str) -> None:
    """The client is the peer or an address in the header, and the right one."""
    scope = anyio.run(through, request(*lines, peer=peer), backend=backend)
    host, port = scope["client"]
    ip_address(host)
    entries = b",".join(lines).decode("latin-1").split(",") if lines else []
    if (host, port) == (peer, 5_000):
        assert scope["headers"] == request(*lines)["headers"]
    else:
        assert peer == PROXY
        assert port == 0
        assert host in {str(parse_host(entry.strip())) for entry in entries}
    assert host == believed(peer, entries)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("::1", "::1"),
        ("[::1]:80", "::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ("", None),
        ("[", None),
        ("[]", None),
        (":", None),
        ("localhost", None),
        ("1", None),
        ("١.٢.٣.٤", None),
        (" 1.2.3.4", None),
    ],
)
def test_parse_host(text: str, address: str | None) -> None:
    expected = None if address is None else ip_address(address)
    assert parse_host(text) == expected

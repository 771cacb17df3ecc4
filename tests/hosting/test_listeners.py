"""Listening sockets: each connection inherits options, an error names the address."""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from adapters.hosting import listeners
from adapters.hosting.listeners import ListenError, SocketOptions, listen

OPTIONS = SocketOptions(user_timeout_s=98.5, notsent_lowat_bytes=12_345, keepalive_s=42)
TCP_NOTSENT_LOWAT = 25  # Linux's; Python has the name from 3.12 on
TCP_OPTIONS = {
    "TCP_USER_TIMEOUT": 98_500,
    "TCP_KEEPIDLE": 42,
    "TCP_KEEPINTVL": 18,
    "TCP_KEEPCNT": 3,
    "TCP_NODELAY": 1,
}

linux = pytest.mark.skipif(sys.platform != "linux", reason="options of Linux's TCP")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def opened() -> Iterator[Callable[..., list[socket.socket]]]:
    """Listen, and close when the test is over."""
    with ExitStack() as stack:

        def call(*binds: str) -> list[socket.socket]:
            return [stack.enter_context(sock) for sock in listen(binds, OPTIONS)]

        yield call


Opened = Callable[..., list[socket.socket]]


def open_files() -> set[str]:
    """Return this process's sockets; the listing itself opens one file more."""
    names = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in names if name.startswith("socket:")}


def options_of(sock: socket.socket) -> dict[str, int]:
    tcp = socket.IPPROTO_TCP
    return {name: sock.getsockopt(tcp, getattr(socket, name)) for name in TCP_OPTIONS}


@linux
@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("[::1]", marks=ipv6), "localhost"]
)
def test_connections_inherit_the_options(opened: Opened, host: str) -> None:
    [listener] = opened(f"{host}:0")
    assert not listener.getblocking()
    with ExitStack() as stack:
        client = socket.create_connection(listener.getsockname()[:2])
        stack.enter_context(closing(client))
        listener.settimeout(10)
        accepted = stack.enter_context(closing(listener.accept()[0]))
        assert options_of(accepted) == TCP_OPTIONS
        lowat = accepted.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT)
        assert lowat == 12_345
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        # They are ours: a fresh socket has others.
        fresh = stack.enter_context(socket.socket())
        assert options_of(fresh) != TCP_OPTIONS


@linux
@pytest.mark.parametrize(
    ("user_timeout_s", "keepalive_s", "idle_s", "interval_s"),
    [(60, 30, 30, 10), (20, 30, 10, 3), (60, 3, 3, 19), (2, 30, 1, 1)],
)
def test_one_probe_that_is_lost_ends_nobody(
    user_timeout_s: float, keepalive_s: float, idle_s: int, interval_s: int
) -> None:
    """With TCP_USER_TIMEOUT set, the kernel does not count how many were lost."""
    options = SocketOptions(
        user_timeout_s=user_timeout_s, notsent_lowat_bytes=1, keepalive_s=keepalive_s
    )
    [listener] = listen(["127.0.0.1:0"], options)
    with listener:
        found = options_of(listener)
    assert found["TCP_KEEPIDLE"] == idle_s
    assert found["TCP_KEEPINTVL"] == interval_s
    assert idle_s + interval_s <= user_timeout_s


def test_several_addresses_in_their_order(opened: Opened, tmp_path: Path) -> None:
    sockets = opened("127.0.0.1:0", f"unix:{tmp_path}/s", "127.0.0.1:0")
    families = [sock.family for sock in sockets]
    assert families == [socket.AF_INET, socket.AF_UNIX, socket.AF_INET]
    for sock in sockets:
        with socket.socket(sock.family) as client:
            client.connect(sock.getsockname())


def test_an_address_can_be_taken_again_at_once(opened: Opened) -> None:
    """Also while the kernel still waits for the last packets of a connection."""
    [listener] = listen(["127.0.0.1:0"], OPTIONS)
    with closing(listener):
        host, port = listener.getsockname()
        with socket.create_connection((host, port)):
            listener.settimeout(10)
            listener.accept()[0].close()  # first, so that this side is in TIME_WAIT
    assert opened(f"{host}:{port}")


def test_a_stale_socket_file_is_replaced(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    before = path.stat().st_ino, path.stat().st_ctime_ns
    opened(f"unix:{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert (path.stat().st_ino, path.stat().st_ctime_ns) != before
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file"])
def test_what_is_no_socket_is_not_deleted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "precious"
    if kind == "directory":
        path.mkdir()
    else:
        target = tmp_path / "target" if kind == "link to a file" else path
        target.write_text("keep me")
        if target != path:
            path.symlink_to(target)
    before = open_files()
    with pytest.raises(ListenError, match="Address already in use") as failed:
        listen([f"unix:{path}"], OPTIONS)
    assert f"unix:{path}" in str(failed.value)
    assert open_files() == before
    assert path.is_dir() if kind == "directory" else path.read_text() == "keep me"


def test_a_descriptor(opened: Opened) -> None:
    with socket.socket() as passed:
        passed.bind(("127.0.0.1", 0))
        address = passed.getsockname()
        number = passed.detach()
    [listener] = opened(f"fd://{number}")
    assert listener.fileno() == number
    with socket.create_connection(address):
        listener.settimeout(10)
        with closing(listener.accept()[0]) as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("203.0.113.7:0", "Cannot assign requested address"),  # RFC 5737: nobody's
        ("no-such-host.invalid:80", ""),  # RFC 6761; the resolver's words
        ("127.0.0.1:port", "invalid literal"),
        ("127.0.0.1:70000", "port must be 0-65535"),
        ("fd://999", "Bad file descriptor"),
        ("fd://99999999999999999999", ""),
        ("fd://x", "invalid literal"),
        ("unix:/" + "x" * 200, "path too long"),
        ("unix:/no/such/directory/s", "No such file or directory"),
        ("unix:/\0", "null"),
    ],
)
def test_an_error_names_the_address_and_nothing_stays_open(
    bind: str, reason: str
) -> None:
    before = open_files()
    with pytest.raises(ListenError) as failed:
        listen(["127.0.0.1:0", bind, "127.0.0.1:0"], OPTIONS)
    assert str(failed.value).startswith(f"cannot listen on {bind}: ")
    assert reason in str(failed.value)
    assert open_files() == before


def test_a_port_that_is_taken(opened: Opened) -> None:
    [listener] = opened("127.0.0.1:0")
    bind = f"127.0.0.1:{listener.getsockname()[1]}"
    before = open_files()
    with pytest.raises(ListenError) as failed:
        listen(["127.0.0.1:0", bind], OPTIONS)
    assert str(failed.value) == f"cannot listen on {bind}: Address already in use"
    assert open_files() == before


def test_descriptors_of_the_wrong_kind(tmp_path: Path) -> None:
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    file = os.open(tmp_path / "file", os.O_CREAT)
    try:
        with pytest.raises(ListenError, match=r"cannot listen on fd://"):
            listen([f"fd://{datagrams.detach()}"], OPTIONS)
        with pytest.raises(ListenError, match=r"fd://.*Socket operation on non-socket"):
            listen([f"fd://{file}"], OPTIONS)
    finally:
        os.close(file)


def test_what_the_platform_has_not_is_said(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The patch stands for another platform, which this machine cannot be."""
    usual = listeners._option

    def elsewhere(name: str) -> int | None:
        return None if name == "TCP_USER_TIMEOUT" else usual(name)

    monkeypatch.setattr(listeners, "_option", elsewhere)
    opened("127.0.0.1:0")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("broker.hosting", logging.WARNING)
    assert record.getMessage() == (
        "TCP_USER_TIMEOUT: not available on this platform: "
        "a client that stops reading is cut by the broker after stall_s only"
    )


def test_what_the_kernel_refuses_is_said(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The patch stands for another platform, as above."""
    monkeypatch.setattr(listeners, "_option", lambda _: 9_999)
    opened("127.0.0.1:0")
    names = [record.getMessage().split(":")[0] for record in caplog.records]
    assert set(names) == {*TCP_OPTIONS, "TCP_NOTSENT_LOWAT"} - {"TCP_NODELAY"}
    assert "Protocol not available" in caplog.text


def test_nothing_is_said_where_all_is_well(
    opened: Opened, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    opened("127.0.0.1:0", f"unix:{tmp_path}/s")
    assert caplog.records == []


def test_the_socket_of_a_server_that_answers_is_not_taken(
    tmp_path: Path, opened: Callable[..., list[socket.socket]]
) -> None:
    opened(f"unix:{tmp_path}/s")
    with pytest.raises(ListenError, match="Address already in use"):
        listen([f"unix:{tmp_path}/s"], OPTIONS)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")

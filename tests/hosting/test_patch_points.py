"""Each place where hypercorn is patched is still the one that was read."""

from __future__ import annotations

import hashlib
import inspect
from importlib import import_module, metadata
from typing import Any

import pytest
from hypercorn.config import Config

from adapters.hosting.hardening import Connections, harden
from adapters.hosting.hardening.patches import PATCH_POINTS

# {what we override, call or rely on: fingerprint of its source}. If one is red, read
# what has changed, decide whether the patch still holds, and only then renew it.
FINGERPRINTS = {
    "hypercorn.asyncio.run:worker_serve": "ae30269c42b95442",
    "hypercorn.asyncio.tcp_server:TCPServer": "3bfa72b319509f2b",
    "hypercorn.asyncio.task_group:_handle": "e37cfe3db06eb470",
    "hypercorn.asyncio.task_group:TaskGroup": "1260b105c058872d",
    "hypercorn.asyncio.worker_context:AsyncioSingleTask": "305fdb8a3c30b8a5",
    "hypercorn.trio.run:worker_serve": "8dc8347a9fc357ca",
    "hypercorn.trio.tcp_server:TCPServer": "5593e38b83d3e22e",
    "hypercorn.trio.task_group:_handle": "06081a56a9930825",
    "hypercorn.trio.task_group:TaskGroup": "8467a3a16a7e8763",
    "hypercorn.trio.worker_context:TrioSingleTask": "aa59316c028b876a",
    "hypercorn.protocol:ProtocolWrapper": "caf949187e9b4a81",
    "hypercorn.protocol.h11:H11Protocol": "b32a61e0a8ca2127",
    "hypercorn.protocol.h11:H11WSConnection": "33372cf689429978",
    "hypercorn.protocol.http_stream:HTTPStream.app_send": "c806044b99736985",
    "hypercorn.protocol.http_stream:HTTPStream.handle": "6ed2e34c5e708c6a",
    "hypercorn.protocol.ws_stream:Handshake": "701a154c29b5ab4c",
    "hypercorn.protocol.ws_stream:WebsocketBuffer": "31c9b1345f308f4c",
    "hypercorn.protocol.ws_stream:WSStream": "67434c428a1a3c04",
    "hypercorn.config:Config.create_ssl_context": "66241a00f5167198",
    "wsproto.connection:Connection.events": "e4d77be0bfef1af2",
    "wsproto.connection:Connection.send": "f24770b66cf8fcb5",
    "wsproto.extensions:PerMessageDeflate": "809ab54469c440bb",
    "wsproto.frame_protocol:FrameDecoder": "a06eb6159106220a",
    "wsproto.frame_protocol:MessageDecoder": "038365303d22c0a0",
}


def resolve(path: str) -> Any:
    module, _, names = path.partition(":")
    found = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def fingerprint(path: str) -> str:
    source = inspect.getsource(resolve(path))
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def patched() -> dict[str, Any]:
    places = {
        f"{module}:{name}": getattr(import_module(module), name)
        for module, classes in PATCH_POINTS.items()
        for name in classes
    }
    return places | {"alpn_protocols": Config.alpn_protocols}


@pytest.mark.parametrize("path", FINGERPRINTS)
def test_the_source_is_what_was_read(path: str) -> None:
    assert fingerprint(path) == FINGERPRINTS[path]


def test_hardening_is_undone() -> None:
    before = patched()
    with pytest.raises(ZeroDivisionError):
        with harden(max_message_bytes=1) as connections:
            assert isinstance(connections, Connections)
            during = patched()
            raise ZeroDivisionError
    assert patched() == before
    changed = {name for name, value in during.items() if value is not before[name]}
    assert changed == {
        "alpn_protocols",
        "hypercorn.asyncio.run:TCPServer",
        "hypercorn.asyncio.tcp_server:ProtocolWrapper",
        "hypercorn.asyncio.tcp_server:TaskGroup",
        "hypercorn.protocol:H11Protocol",
        "hypercorn.protocol.h11:WSStream",
        "hypercorn.protocol.ws_stream:Handshake",
        "hypercorn.protocol.ws_stream:PerMessageDeflate",
        "hypercorn.trio.run:TCPServer",
        "hypercorn.trio.tcp_server:ProtocolWrapper",
        "hypercorn.trio.tcp_server:TaskGroup",
    }


@pytest.mark.parametrize("version", ["0.17.3", "0.19.0", "1.18.0"])
def test_another_version_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = patched()
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with pytest.raises(RuntimeError, match=rf"found {version}: install hypercorn>="):
        with harden(max_message_bytes=1):
            raise AssertionError("it was hardened")
    assert patched() == before


@pytest.mark.parametrize(
    ("module", "name", "method"),
    [
        (module, name, method)
        for module, classes in PATCH_POINTS.items()
        for name, methods in classes.items()
        for method in methods
    ],
)
def test_a_missing_or_changed_method_is_refused(
    module: str, name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = patched()

    def changed(self: object, unexpected: object) -> None: ...

    monkeypatch.setattr(getattr(import_module(module), name), method, changed)
    with pytest.raises(RuntimeError, match=rf"{name}\.{method} takes"):
        with harden(max_message_bytes=1):
            raise AssertionError("it was hardened")
    monkeypatch.setattr(getattr(import_module(module), name), method, None)
    with pytest.raises(RuntimeError, match=rf"without .*{name}\.{method}"):
        with harden(max_message_bytes=1):
            raise AssertionError("it was hardened")
    assert patched() == before


def test_a_missing_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(import_module("hypercorn.protocol.h11"), "WSStream")
    with pytest.raises(RuntimeError, match=r"hypercorn\.protocol\.h11\.WSStream"):
        with harden(max_message_bytes=1):
            raise AssertionError("it was hardened")


def test_hardening_twice_is_refused() -> None:
    with harden(max_message_bytes=1):
        before = patched()
        with pytest.raises(RuntimeError, match="TCPServer"):
            with harden(max_message_bytes=1):
                raise AssertionError("it was hardened twice")
        assert patched() == before


def test_a_fault_is_one_escaped_line(caplog: pytest.LogCaptureFixture) -> None:
    connections = Connections()
    cuts = []
    with connections.holding(lambda: cuts.append("cut")):
        assert len(connections) == 1
        raise ExceptionGroup("", [ValueError("line\n\x1b[31m\xff" + 500 * "x")])
    assert cuts == ["cut"]
    assert (len(connections), connections.faults) == (0, 1)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("broker.hosting", "WARNING")
    assert record.exc_info is None
    message = record.getMessage()
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300


def test_cancellation_beside_a_fault_goes_on() -> None:
    connections = Connections()
    with pytest.raises(BaseExceptionGroup) as caught:
        with connections.holding(lambda: None):
            raise BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])
    assert caught.group_contains(KeyboardInterrupt)
    assert not caught.group_contains(ValueError)
    with pytest.raises(KeyboardInterrupt):
        with connections.holding(lambda: None):
            raise KeyboardInterrupt
    assert (len(connections), connections.faults) == (0, 1)


def test_what_arrives_after_the_end_is_cut_at_once() -> None:
    connections = Connections()
    cuts = []
    with connections.holding(lambda: cuts.append("old")):
        assert connections.abort_all() == 1
        assert cuts == ["old"]
    assert connections.abort_all() == 0
    with connections.holding(lambda: cuts.append("new")):
        assert cuts[-1] == "new"

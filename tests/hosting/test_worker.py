"""What a worker finds out before it serves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from adapters.hosting.listeners import BACKLOG
from adapters.hosting.settings import ServerSettings, Settings
from adapters.hosting.worker import Job, hypercorn_config, look_at
from broker import Limits


@pytest.mark.parametrize(
    ("user_timeout_s", "is_told"), [(14.9, True), (15.0, False), (20.0, False)]
)
def test_a_kernel_that_would_be_quicker_than_the_broker(
    user_timeout_s: float, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = ServerSettings(user_timeout_s=user_timeout_s)
    look_at(Limits(stall_s=10, grace_s=5, max_sessions=1), server)
    assert ("server.user_timeout_s is 14.9, below" in caplog.text) is is_told


def test_the_defaults_go_together(caplog: pytest.LogCaptureFixture) -> None:
    look_at(Limits(max_sessions=1), ServerSettings())
    assert caplog.text == ""


def test_how_many_files_there_are(caplog: pytest.LogCaptureFixture) -> None:
    resource = pytest.importorskip("resource")
    caplog.set_level("INFO", "broker.hosting")
    look_at(Limits(max_sessions=10**12), ServerSettings())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
    if hard == resource.RLIM_INFINITY:
        assert caplog.text == ""
    else:
        assert f"the system allows {hard} open files" in caplog.text


@pytest.mark.parametrize(("text", "backlog"), [("", BACKLOG), ("backlog = 50\n", 50)])
def test_how_many_may_wait_to_be_accepted(
    text: str, backlog: int, tmp_path: Path
) -> None:
    """A storm of reconnects is not what hypercorn's default of 100 is for."""
    file = tmp_path / "hypercorn.toml"
    file.write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as held, held.dup() as given:
        config = hypercorn_config(
            Job(settings=Settings(), hypercorn_file=file), [given]
        )
        bound = config.create_sockets().insecure_sockets
        with bound[0]:
            assert bound[0].getsockname() == held.getsockname()
    assert config.backlog == backlog

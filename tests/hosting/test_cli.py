"""The ``broker`` command: what it prints, refuses and serves."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import Result
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from adapters.cli import SUBCOMMANDS
from adapters.hosting.settings import load_settings
from tests.backplanes.servers import HAS_REDIS, RedisServer
from tests.serving import PATIENCE_S, free_port

from .commands import ROOT, environment, invoke, last_line, run, serving

pytestmark = pytest.mark.usefixtures("empty_folder")

PASSWORD = "geheim"  # of backplanes; nobody is to read it


def test_help_and_version() -> None:
    for flag in ("--help", "-h"):
        shown = invoke(flag)
        assert shown.exit_code == 0
        assert "serve" in shown.output
        assert "check-config" in shown.output
        assert "token" in shown.output
        assert "Exit codes: 0 stopped as asked" in shown.output
    for flag in (
        "--bind",
        "--loop",
        "--workers",
        "--worker-bind",
        "--backplane",
        "--wait-for-backplane",
        "--allow-split",
        "--config",
    ):
        assert flag in invoke("serve", "-h").output
    shown = invoke("--version")
    assert shown.exit_code == 0
    assert version("asgi-broker") in shown.output


def rows(result: Result) -> dict[str, tuple[str, str]]:
    """Return {setting: (value, source)} as it was printed."""
    assert result.exit_code == 0, result.stderr
    found = {}
    for line in result.stdout.splitlines():
        setting, _, source = line.rpartition("  # ")
        key, _, value = setting.strip().partition(" = ")
        found[key] = value, source
    return found


def test_check_config_names_a_source_for_every_setting() -> None:
    shown = rows(invoke("check-config"))
    assert shown["server.loop"] == ('"asyncio"', "default")
    assert shown["limits.bytes_per_s"] == ("1048576.0", "default")
    assert {source for _, source in shown.values()} == {"default"}
    expected = [key for key, _, _ in load_settings().rows()]
    assert list(shown) == expected


def test_check_config_hides_secrets() -> None:
    variables = {
        "BROKER_CLIENT_HMAC_SECRET": "s" * 32,
        "BROKER_API_KEY": "k-k-k",
        "BROKER_SERVER_BACKPLANE": f"redis://u:{PASSWORD}@h",
    }
    shown = invoke("check-config", **variables)
    assert rows(shown)["server.backplane"] == ('"***"', "BROKER_SERVER_BACKPLANE")
    assert PASSWORD not in shown.output
    assert rows(shown)["client.hmac_secret"] == ('"***"', "BROKER_CLIENT_HMAC_SECRET")
    assert rows(shown)["api.key"] == ('"***"', "BROKER_API_KEY")
    assert not {"s" * 32, "k-k-k"} & set(shown.output.replace('"', " ").split())


def test_flags_before_variables_before_our_file_before_hypercorns(
    empty_folder: Path,
) -> None:
    """Both files are found in the working directory by themselves."""
    (empty_folder / "hypercorn.toml").write_text(
        'bind = "127.0.0.1:1"\nworkers = 1\nworker_class = "trio"\n'
    )
    assert rows(invoke("check-config"))["server.workers"] == (
        "1",
        "hypercorn.toml line 2",
    )
    (empty_folder / "broker.toml").write_text(
        '[server]\nbind = ["127.0.0.1:2"]\nworkers = 2\nlog_format = "json"\n'
    )
    variables = {"BROKER_SERVER_WORKERS": "3", "BROKER_SERVER_BIND": "127.0.0.1:3"}
    binds = ("--bind", "127.0.0.1:4", "--bind", "unix:/s")
    shown = rows(invoke("check-config", *binds, **variables))
    assert shown["server.loop"] == ('"trio"', "hypercorn.toml line 3")
    assert shown["server.log_format"] == ('"json"', "broker.toml line 4")
    assert shown["server.workers"] == ("3", "BROKER_SERVER_WORKERS")
    assert shown["server.bind"] == ('["127.0.0.1:4", "unix:/s"]', "--bind")
    assert shown["limits.stall_s"] == ("10.0", "default")
    flags = ("--loop", "uvloop", "--workers", "4", "--log-format", "console")
    shown = rows(invoke("check-config", *flags, **variables))
    assert shown["server.loop"] == ('"uvloop"', "--loop")
    assert shown["server.workers"] == ("4", "--workers")
    assert shown["server.log_format"] == ('"console"', "--log-format")
    assert shown["server.bind"] == ('["127.0.0.1:3"]', "BROKER_SERVER_BIND")


def test_files_elsewhere(empty_folder: Path) -> None:
    """By flag or by variable; the usual ones are not read then."""
    for name in ("broker.toml", "hypercorn.toml"):
        (empty_folder / name).write_text("this is not TOML")
    (empty_folder / "mine.toml").write_text("[server]\ndrain_s = 7\n")
    (empty_folder / "theirs.toml").write_text("workers = 5\n")
    flags = ("--config", "mine.toml", "--hypercorn", "theirs.toml")
    variables = {"BROKER_CONFIG": "mine.toml", "BROKER_HYPERCORN": "theirs.toml"}
    for shown in (
        rows(invoke("check-config", *flags)),
        rows(invoke("check-config", **variables)),
    ):
        assert shown["server.drain_s"] == ("7.0", "mine.toml line 2")
        assert shown["server.workers"] == ("5", "theirs.toml line 1")


@pytest.mark.parametrize("subcommand", ["serve", "check-config"])
@pytest.mark.parametrize(
    ("arguments", "variables", "problem"),
    [
        (("--loop", "curio"), {}, "Error: --loop: server.loop must be one of"),
        (("--workers", "0"), {}, "Error: --workers: server.workers must be an integer"),
        (
            ("--bind", "8000"),
            {},
            'Error: --bind: server.bind: "8000" must be host:port',
        ),
        (("--config", "none.toml"), {}, "Error: none.toml: cannot be read: No such"),
        (
            ("--worker-bind", "unix:/s"),
            {},
            "Error: --worker-bind: server.worker_bind: ",
        ),
        (
            ("--wait-for-backplane", "0"),
            {},
            "Error: --wait-for-backplane: server.wait_for_backplane_s must be a number",
        ),
        (("--backplane", "x"), {}, "Error: --backplane: server.backplane: no URL of"),
        (("--backplane", ""), {}, "Error: --backplane: server.backplane is empty; wri"),
        (
            ("--backplane", f"kafka://u:{PASSWORD}@h"),
            {},
            "Error: --backplane: server.backplane: no backplane for 'kafka': known are",
        ),
        (
            (),
            {"BROKER_SERVER_BACKPLANE": f"redis://u:{PASSWORD}@h:port"},
            "Error: BROKER_SERVER_BACKPLANE: server.backplane: the URL of Redis must",
        ),
        (
            (),
            {"BROKER_SERVER_BACKPLANE_FILE": "none.txt"},
            "Error: BROKER_SERVER_BACKPLANE_FILE: server.backplane_file: the file cann",
        ),
        ((), {"BROKER_SERVER_LOOPS": "x"}, "Error: BROKER_SERVER_LOOPS: unknown vari"),
        ((), {"BROKER_LIMITS_STALL_S": "-1"}, "Error: BROKER_LIMITS_STALL_S: limits."),
        (("--no-such-flag",), {}, "Error: No such option"),
        (("--workers",), {}, "Error: Option '--workers' requires an argument."),
    ],
)
def test_wrong_options_and_settings_are_told_in_a_line(
    subcommand: str,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    problem: str,
) -> None:
    refused = invoke(subcommand, *arguments, **variables)
    assert refused.exit_code == 2
    assert last_line(refused).startswith(problem)
    assert refused.stdout == ""
    assert PASSWORD not in refused.output


def test_a_mistake_in_a_file_is_told_with_its_line(empty_folder: Path) -> None:
    (empty_folder / "broker.toml").write_text("[server]\n\ndrain = 3\n")
    refused = run("serve")
    assert refused.returncode == 2
    assert last_line(refused) == (
        'Error: broker.toml line 3: unknown key "drain" in server; '
        "did you mean drain_s?"
    )


@pytest.mark.parametrize("more", [(), ("--backplane", "memory://")])
def test_workers_that_do_not_reach_each_other_are_refused(
    more: tuple[str, ...],
) -> None:
    refused = invoke("serve", "--workers", "2", *more)
    assert refused.exit_code == 2
    problem = last_line(refused)
    assert "2 workers without a backplane would be 2 separate chats" in problem
    assert "--backplane URL, such as redis://localhost:6379/0" in problem
    assert "--workers 1" in problem
    assert "--allow-split" in problem


def test_a_backplane_that_is_not_there() -> None:
    """It is told in a line, before there is a worker or a socket; without password."""
    url = f"redis://u:{PASSWORD}@127.0.0.1:{free_port()}"
    flags = ("--workers", "2", "--wait-for-backplane", "0.2", "--loop", "trio")
    failed = run("serve", *flags, BROKER_SERVER_BACKPLANE=url)
    assert failed.returncode == 1
    *_, line = failed.stderr.splitlines()
    assert " ERROR broker.hosting the backplane: Redis was not reached within 0" in line
    assert PASSWORD not in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Running on" not in failed.stderr


@pytest.mark.skipif(not HAS_REDIS, reason="needs redis-server; scripts/install-engines")
def test_a_wrong_password_of_the_backplane(empty_folder: Path) -> None:
    """From a file, which may end in a line end."""
    file = empty_folder / "url"
    with RedisServer(empty_folder, password="right") as redis:
        file.write_text(redis.url.replace("//", f"//:{PASSWORD}@") + "\n")
        failed = run(
            *("serve", "--wait-for-backplane", "0.2"),
            BROKER_SERVER_BACKPLANE_FILE=str(file),
        )
    assert failed.returncode == 1
    *_, line = failed.stderr.splitlines()
    assert "the backplane: Redis was not reached within 0.2 s: " in line
    assert "password" in line
    assert PASSWORD not in failed.stderr


def test_more_workers_than_ports() -> None:
    flags = ("--workers", "2", "--worker-bind", "127.0.0.1:65535")
    failed = run("serve", *flags, "--allow-split", "--bind", "127.0.0.1:0")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].endswith("no port 65536 for worker 2")


def test_an_address_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = run("serve", "--bind", bind)
    assert failed.returncode == 1
    [line] = failed.stderr.splitlines()
    assert line.endswith(f"cannot listen on {bind}: Address already in use")


MAIN = """
import os
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker

broker = Broker()
number = 1

async def ws(websocket):
    async with open_session(websocket, broker) as session:
        await session.send(str(os.getpid()))
        await session.wait_ended()

async def hello(request):
    return PlainTextResponse("hello")

routes = [Route("/", hello), WebSocketRoute("/ws", ws)]
app = Starlette(routes=routes, lifespan=broker_lifespan(broker))
"""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nosuch:app",), "application 'nosuch:app': there is no module 'nosuch' here"),
        (("main:nosuch",), "application 'main:nosuch': module 'main' has no 'nosuch'"),
        (("main:number",), "main:number is no ASGI application: it cannot be called"),
        (("main",), "application 'main': write module:name, such as main:app"),
        (("main:app", "--broker", "main:app"), "main:app is no Broker but Starlette"),
        (
            ("main:app", "--workers", "2", "--backplane", "memory://"),
            "2 workers, and the broker of main:app has no backplane",
        ),
        (
            ("main:app", "--backplane", "redis://h"),
            "the backplane is set, and the broker of main:app does not use it: make it",
        ),
    ],
)
def test_applications_that_cannot_be_served(
    empty_folder: Path, arguments: tuple[str, ...], problem: str
) -> None:
    (empty_folder / "main.py").write_text(MAIN)
    failed = run("serve", *arguments, "--bind", "127.0.0.1:0")
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr
    errors = [line for line in failed.stderr.splitlines() if " ERROR " in line]
    assert f"ERROR broker.hosting {problem}" in errors[0]
    if "--workers" not in arguments:
        assert len(errors) == 1


ABSENT = """
from starlette.applications import Starlette
from adapters.asgi.lifespan import broker_lifespan
from adapters.redis import RedisBackplane
from broker import Broker

url = "redis://u:geheim@127.0.0.1:1/0"
broker = Broker(RedisBackplane(url, connect_s=0.2))
app = Starlette(lifespan=broker_lifespan(broker))
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_application_whose_backplane_is_not_there(
    empty_folder: Path, loop: str
) -> None:
    """One line says so, not a hundred of tracebacks, of which none is a bug's."""
    (empty_folder / "main.py").write_text(ABSENT)
    failed = run("serve", "main:app", "--bind", "127.0.0.1:0", "--loop", loop)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert PASSWORD not in failed.stderr
    line = failed.stderr.splitlines()[-1]
    assert "the application did not start: Redis was not reached within 0.2 s" in line


def test_a_module_that_raises(empty_folder: Path) -> None:
    """The traceback is the user's own, and so it is shown."""
    (empty_folder / "main.py").write_text("def f():\n    1 / 0  # here\n\nf()\n")
    failed = run("serve", "main:app", "--bind", "127.0.0.1:0")
    assert failed.returncode == 1
    assert "1 / 0  # here" in failed.stderr
    assert failed.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_an_application_of_ones_own(empty_folder: Path) -> None:
    """Its broker is found, and so its clients are told at shutdown."""
    (empty_folder / "main.py").write_text(MAIN)
    (empty_folder / "broker.toml").write_text(
        "[limits]\nstall_s = 9\n[client]\nping_s = 20\n[api]\nkey = 'k'\n"
    )
    with serving("main:app") as server:
        assert server.get("/") == "hello"
        with connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as client:
            assert client.recv(PATIENCE_S) == str(server.process.pid)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert server.process.wait(PATIENCE_S) == 0
        log = server.log()
    for section in ("limits", "client", "api"):
        assert f"[{section}] is for the chat that comes with the broker" in log
    assert "[server]" not in log
    assert "no broker found" not in log
    assert "Traceback" not in log


def test_an_application_without_a_broker(empty_folder: Path) -> None:
    """Our settings have nothing to say about it; it is served, and it stops."""
    (empty_folder / "main.py").write_text(
        """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hello(request):
    return PlainTextResponse("hello")

app = Starlette(routes=[Route("/", hello)])
"""
    )
    with serving("main:app", "--loop", "trio") as server:
        assert server.get("/") == "hello"
        assert (
            "no broker found in main:app: at shutdown its clients are" in server.log()
        )
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_workers_that_may_be_separate(empty_folder: Path) -> None:
    """Two processes answer, neither of them the one that was started."""
    (empty_folder / "main.py").write_text(MAIN)
    flags = ("--workers", "2", "--allow-split")
    with ExitStack() as stack:
        server = stack.enter_context(serving("main:app", *flags, workers=2))
        pids = set()
        for _ in range(500):
            url = f"ws://127.0.0.1:{server.port}/ws"
            pids.add(stack.enter_context(connect(url, proxy=None)).recv(PATIENCE_S))
            if len(pids) == 2:
                break
        assert len(pids) == 2
        assert str(server.process.pid) not in pids
        assert server.stop() == 0


def test_our_own_application_with_separate_workers() -> None:
    flags = ("--workers", "2", "--allow-split")
    with serving(*flags, workers=2) as server:
        assert json.loads(server.get("/readyz")) == {"status": "ready", "sessions": 0}
        assert server.stop() == 0


def test_logs_as_json(empty_folder: Path) -> None:
    """Every line is an object, also those of hypercorn, errors and tracebacks."""
    (empty_folder / "main.py").write_text(
        MAIN
        + """
def fail(request):
    raise RuntimeError("no page today")
app.router.routes.append(Route("/fail", fail))
"""
    )
    with serving("main:app", "--log-format", "json") as server:
        with closing(socket.create_connection(("127.0.0.1", server.port))) as sock:
            sock.sendall(b"GET /fail HTTP/1.0\r\n\r\n")
            assert b" 500 " in sock.recv(1_000)
        assert server.stop() == 0
        records = [json.loads(line) for line in server.log().splitlines()]
    assert {record["pid"] for record in records} == {server.process.pid}
    messages = {record["message"] for record in records}
    assert {"SIGTERM: stopping", "stopped"} <= messages
    assert any("no page today" in record.get("exception", "") for record in records)


@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bogus = 1", '1: unknown key "bogus"; hypercorn has no such setting'),
        (
            'keep_alive_timeout = "y"',
            '1: keep_alive_timeout must be a number >= 0, not "y"',
        ),
        (
            'certfile = "no.pem"\nkeyfile = "no.pem"',
            '1: certfile "no.pem": No such file or directory',
        ),
    ],
)
def test_hypercorns_own_settings_are_looked_at(
    empty_folder: Path, command: str, text: str, message: str
) -> None:
    """They gave a page of traceback, nothing at all, or cut every connection."""
    (empty_folder / "hypercorn.toml").write_text(text)
    refused = run(command)
    assert refused.returncode == 2
    assert last_line(refused) == f"Error: hypercorn.toml line {message}"
    assert refused.stdout == ""


def without(modules: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where packages (with spaces between) are not installed."""
    code = f"""if True:
        import runpy, sys
        sys.modules.update(dict.fromkeys({modules.split()!r}))
        sys.argv = ["broker", *{arguments!r}]
        runpy.run_module("adapters.cli", run_name="__main__")
    """
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )


def test_without_click() -> None:
    failed = without("click", "--help")
    assert failed.returncode == 1
    assert failed.stderr == (
        "the broker command needs click: pip install 'asgi-broker[server]' "
        "(or [jwt], [loadtest], [postgres] for their subcommands alone)\n"
    )
    assert failed.stdout == ""


def test_every_extra_with_a_subcommand_brings_click() -> None:
    """Found by a newcomer: `broker migrate` with the extra that its page names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in {each.extra for each in SUBCOMMANDS.values()}:
        names = {
            re.match(r"[\w-]+", need)[0]  # type: ignore[index]
            for need in project["optional-dependencies"][extra]
        }
        assert "click" in names, extra


OF_THE_SERVER = "hypercorn starlette google.protobuf prometheus_client trio"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("migrate", "redis://h"), "the URL of PostgreSQL must be"),
        (("token", "inspect", "a.b.c"), "not checked: the settings have no key"),
    ],
)
def test_what_needs_no_server(arguments: tuple[str, ...], said: str) -> None:
    ran = without(f"{OF_THE_SERVER} pythonjsonlogger uvloop", *arguments)
    assert said in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("adapters.cli_migrate", ("migrate", "x"), "postgres"),
        ("adapters.cli_tokens", ("token", "inspect", "x"), "jwt"),
    ],
)
def test_the_smallest_extra_is_named(
    module: str, arguments: tuple[str, ...], extra: str
) -> None:
    failed = without(module, *arguments)
    needs = f"broker {arguments[0]} needs pip install 'asgi-broker[{extra}]' ("
    assert failed.stderr.startswith(needs)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("google.protobuf", ["serve", "--loop", "trio"]),
        ("hypercorn", ["serve", "--workers", "2"]),
        ("prometheus_client", ["serve"]),
        ("pythonjsonlogger", ["check-config"]),
        ("starlette", ["serve", "app:app"]),
        ("trio", ["serve"]),
    ],
)
def test_packages_that_are_missing(module: str, arguments: list[str]) -> None:
    """The extra is named, whatever was asked."""
    failed = without(module, *arguments)
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    needs = f"broker {arguments[0]} needs pip install 'asgi-broker[server]' ("
    assert line.startswith(needs)
    assert failed.stdout == ""


def test_help_without_an_extra() -> None:
    """Commands that are not installed say so, and the others are not in the way."""
    helped = without("hypercorn", "--help")
    assert helped.returncode == 0
    assert helped.stderr == ""
    assert "  bench         Put load on " in helped.stdout
    assert "  serve         Not installed: it needs pip install" in helped.stdout


def test_without_uvloop() -> None:
    failed = without("uvloop", "serve", "--loop", "uvloop", "--bind", "127.0.0.1:0")
    assert failed.returncode == 2
    *_, line = failed.stderr.splitlines()
    assert line.endswith("uvloop is not installed: pip install 'asgi-broker[server]'")

"""``broker migrate``, with a real PostgreSQL."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from adapters.postgres.schema import VERSION
from tests.backplanes.postgres_server import POSTGRES, PostgresServer
from tests.serving import free_port, wait_until

from .commands import invoke, last_line, run


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL; scripts/install-engines")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def name() -> str:
    """A schema that is not there."""
    return f"s{uuid4().hex}"


def test_migrate_makes_the_schema_once(server: PostgresServer, name: str) -> None:
    given = ("migrate", server.url, "--schema", name)
    check = invoke(*given, "--check")
    assert check.exit_code == 1
    assert check.stdout == f"{name}: version 0, and {VERSION} is needed\n"
    assert not server.sql(f"SELECT 1 FROM pg_namespace WHERE nspname = '{name}'")
    made = invoke(*given)
    assert made.exit_code == 0
    assert made.stdout == f"{name}: version {VERSION}, was 0\n"
    for again in (invoke(*given), invoke(*given, "--check")):
        assert again.exit_code == 0
        assert again.stdout == f"{name}: version {VERSION}, nothing to do\n"
    assert invoke(*given, "--print").stdout == ""


def test_what_is_printed_makes_the_schema(server: PostgresServer, name: str) -> None:
    given = ("migrate", server.url, "--schema", name)
    printed = invoke(*given, "--print")
    assert printed.exit_code == 0
    assert invoke(*given, "--check").exit_code == 1, "printing changes nothing"
    server.sql(printed.stdout)
    assert invoke(*given, "--check").exit_code == 0


def test_a_newer_schema_is_left_alone(server: PostgresServer, name: str) -> None:
    server.sql(
        f"CREATE SCHEMA {name}",
        f"CREATE FUNCTION {name}.version() RETURNS integer LANGUAGE sql AS 'SELECT 99'",
    )
    for option in ("--check", "--print", "--schema"):
        options = (option,) if option != "--schema" else ()
        refused = invoke("migrate", server.url, "--schema", name, *options)
        assert refused.exit_code == 1
        assert "is of version 99, newer than" in last_line(refused)
    count = f"SELECT count(*) FROM pg_class WHERE relnamespace = '{name}'::regnamespace"
    assert server.sql(count) == [(0,)]


def test_a_migration_that_fails_has_changed_nothing(
    server: PostgresServer, name: str
) -> None:
    server.sql(
        f"CREATE SCHEMA {name}",
        f"CREATE TABLE {name}.outbox (mine int)",  # somebody else's
    )
    failed = invoke("migrate", server.url, "--schema", name)
    assert failed.exit_code == 1
    assert last_line(failed) == 'Error: relation "outbox" already exists'
    rows = server.sql(
        f"SELECT relname FROM pg_class WHERE relnamespace = '{name}'::regnamespace"
    )
    assert rows == [("outbox",)]


def test_several_at_once_wait_for_each_other(server: PostgresServer, name: str) -> None:
    with psycopg.connect(server.url) as first:
        first.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"asgi-broker {name}",),
        )
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        thread = threading.Thread(
            target=invoke, args=("migrate", server.url, "--schema", name)
        )
        thread.start()
        wait_until(lambda: server.sql(waiting) == [(1,)])
        assert invoke("migrate", server.url, "--schema", name, "--check").exit_code == 1
    thread.join()
    assert invoke("migrate", server.url, "--schema", name, "--check").exit_code == 0


@pytest.mark.parametrize("url", ["geheim", "redis://geheim@h", "postgresql://h:geheim"])
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    for refused in (invoke("migrate", url), invoke("migrate", "-", stdin=f"{url}\n")):
        assert refused.exit_code == 2
        assert "the URL of PostgreSQL must be" in last_line(refused)
        assert "geheim" not in refused.stderr


def test_a_server_that_is_absent_is_said_in_one_line() -> None:
    url = f"postgresql://u:geheim@127.0.0.1:{free_port()}/d"
    refused = run("migrate", url)  # as a process of its own: nothing else is printed
    assert refused.returncode == 1
    assert "refused" in last_line(refused)
    assert "geheim" not in refused.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("adapters.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    refused = invoke("migrate", "postgresql://h/d")
    assert refused.exit_code == 2
    assert "pip install 'asgi-broker[postgres]'" in last_line(refused)


def test_options_that_do_not_go_together() -> None:
    refused = invoke("migrate", "postgresql://h/d", "--check", "--print")
    assert refused.exit_code == 2
    assert invoke("migrate", "postgresql://h/d", "--schema", "A").exit_code == 2

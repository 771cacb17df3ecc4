"""Settings come from five places, and what is wrong is told with its place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from hypercorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from adapters.hosting.settings import (
    AccessSettings,
    ApiSettings,
    ClientSettings,
    ServerSettings,
    SettingsError,
    load_settings,
)
from adapters.hosting.settings.building import Section, build
from adapters.hosting.settings.schema import FIELDS
from adapters.hosting.settings.values import toml
from broker import Access, Limits, Overflow, TopicRules, UsageError

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "settings.md").read_text()
DEFAULTS: Mapping[str, object] = {
    "server": ServerSettings(),
    "access": AccessSettings(),
    "client": ClientSettings(),
    "api": ApiSettings(),
    "limits": Limits(),
    "topics": TopicRules(),
}
EVERY = [(section, field) for section in FIELDS for field in FIELDS[section]]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes a file and returns its name, relative as a person's."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "broker.toml") -> Path:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        return Path(name)

    return write_file


def problem(**sources: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**sources)
    return str(caught.value)


def test_nothing_given_is_all_defaults() -> None:
    loaded = load_settings()
    settings = loaded.settings
    assert settings.server == ServerSettings()
    assert settings.access == AccessSettings()
    assert settings.client == ClientSettings()
    assert settings.api == ApiSettings()
    assert settings.limits == Limits()
    assert settings.topics == ()
    assert set(loaded.sources.values()) == {"default"}


def test_every_field_of_the_broker_can_be_set() -> None:
    assert list(FIELDS["limits"]) == [each.name for each in fields(Limits)]
    assert list(FIELDS["topics"]) == [each.name for each in fields(TopicRules)]


LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("hypercorn.toml line 2", {"hypercorn_file": "\nworkers = 2\n"}),
    ("broker.toml line 3", {"file": "# all\n[server]\nworkers = 3\n"}),
    ("BROKER_SERVER_WORKERS", {"environ": {"BROKER_SERVER_WORKERS": "4"}}),
    ("--workers", {"flags": {"server.workers": 5}}),
]


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("last", range(4))
def test_the_later_layer_wins(write: Write, first: int, last: int) -> None:
    given = LAYERS[first][1] | LAYERS[last][1]
    for name, file in (("hypercorn_file", "hypercorn.toml"), ("file", "broker.toml")):
        if name in given:
            given[name] = write(given[name], file)
    loaded = load_settings(**given)
    winner = max(first, last)
    assert loaded.settings.server.workers == winner + 2
    assert loaded.sources["server.workers"] == LAYERS[winner][0]
    assert loaded.sources["server.loop"] == "default"


def test_layers_are_merged_setting_by_setting(write: Write) -> None:
    loaded = load_settings(
        file=write("[limits]\nstall_s = 3\nblock_s = 4\n"),
        environ={"BROKER_LIMITS_STALL_S": "5.5", "BROKER_LIMITS_IDLE_S": "60"},
        flags={"limits.grace_s": 1, "limits.idle_s": None},
    )
    assert loaded.settings.limits == Limits(
        stall_s=5.5, block_s=4.0, idle_s=60.0, grace_s=1.0
    )
    sources = {key: source for key, source in loaded.sources.items() if "_s" in key}
    assert {key: source for key, source in sources.items() if source != "default"} == {
        "limits.block_s": "broker.toml line 3",
        "limits.stall_s": "BROKER_LIMITS_STALL_S",
        "limits.idle_s": "BROKER_LIMITS_IDLE_S",
        "limits.grace_s": "--limits-grace-s",
    }


def test_two_halves_of_one_rule_may_come_from_two_layers(write: Write) -> None:
    """Each is refused alone; what counts is what they make together."""
    loaded = load_settings(
        file=write("[limits]\nmax_message_bytes = 2_000_000\n"),
        environ={
            "BROKER_LIMITS_MAX_OUTBOX_BYTES": "3000000",
            "BROKER_LIMITS_MAX_INBOX_BYTES": "3000000",
        },
    )
    assert loaded.settings.limits.max_message_bytes == 2_000_000


def test_of_hypercorns_file_three_keys_are_read(write: Write) -> None:
    text = 'bind = "[::1]:80"\nworker_class = "trio"\nworkers = 2\nbacklog = 9\n'
    server = load_settings(hypercorn_file=write(text)).settings.server
    assert server == ServerSettings(bind=("[::1]:80",), loop="trio", workers=2)
    text = 'bind = ["a:1", "b:2"]\n'
    server = load_settings(hypercorn_file=write(text)).settings.server
    assert server == ServerSettings(bind=("a:1", "b:2"))


def test_the_file_of_this_repository_can_be_read() -> None:
    file = ROOT / "hypercorn.toml"
    loaded = load_settings(hypercorn_file=file)
    assert loaded.settings.server == ServerSettings()
    lines = file.read_text().splitlines()
    line = next(at for at, text in enumerate(lines, 1) if text.startswith("bind ="))
    assert loaded.sources["server.bind"] == f"{file} line {line}"


def test_topics_keep_their_order(write: Write) -> None:
    patterns = [f"topic{number}" for number in range(12)]
    text = "".join(f'[[topics]]\npattern = "{pattern}"\n' for pattern in patterns)
    loaded = load_settings(file=write(text + "[[topics]]\n"))
    rules = loaded.settings.topics
    assert rules == (*(TopicRules(pattern=each) for each in patterns), TopicRules())
    assert loaded.sources["topics[11].pattern"] == "broker.toml line 24"
    assert loaded.sources["topics[12].pattern"] == "default"


def test_every_option_of_a_topic(write: Write) -> None:
    file = write("""
topics = [
  {pattern = "a.*", history_size = 1, history_bytes = 2, history_ttl_s = 3},
  {presence = true, join_leave = true, overflow = "conflate", publish = "users"},
]
""")
    loaded = load_settings(file=file)
    assert loaded.settings.topics == (
        TopicRules(pattern="a.*", history_size=1, history_bytes=2, history_ttl_s=3.0),
        TopicRules(
            presence=True,
            join_leave=True,
            overflow=Overflow.CONFLATE,
            publish=Access.USERS,
        ),
    )
    assert loaded.sources["topics[1].publish"] == "broker.toml line 2"


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("BROKER_SERVER_BIND", "a:1, unix:/s", "bind", ("a:1", "unix:/s")),
        ("BROKER_SERVER_BIND", " fd://3 ", "bind", ("fd://3",)),
        ("BROKER_SERVER_LOOP", "uvloop", "loop", "uvloop"),
        ("BROKER_SERVER_WORKERS", "7", "workers", 7),
        ("BROKER_SERVER_DRAIN_S", "7", "drain_s", 7.0),
        ("BROKER_SERVER_TRACING", "true", "tracing", True),
        ("BROKER_SERVER_TRACING", "false", "tracing", False),
        ("BROKER_SERVER_METRICS_FROM", "", "metrics_from", ()),
        ("BROKER_SERVER_TRUSTED_PROXIES", "::1", "trusted_proxies", ("::1",)),
    ],
)
def test_variables_are_parsed(name: str, text: str, key: str, value: object) -> None:
    loaded = load_settings(environ={name: text})
    assert getattr(loaded.settings.server, key) == value
    assert loaded.sources[f"server.{key}"] == name


@pytest.mark.parametrize("text", ["none", "", " "])
def test_a_variable_can_take_a_limit_away(text: str) -> None:
    limits = load_settings(environ={"BROKER_LIMITS_BYTES_PER_S": text}).settings.limits
    assert limits == Limits(bytes_per_s=None)


def test_a_file_can_take_a_limit_away(write: Write) -> None:
    file = write('[limits]\nbytes_per_s = "none"\n')
    assert load_settings(file=file).settings.limits == Limits(bytes_per_s=None)


def test_every_setting_has_a_variable() -> None:
    """Its default, as text, is accepted and is the same again."""
    environ = {}
    for section, field in EVERY:
        value = getattr(DEFAULTS[section], field)
        text = ",".join(value) if isinstance(value, tuple) else toml(value).strip('"')
        if section != "topics":
            environ[f"BROKER_{section}_{field}".upper()] = text
    loaded = load_settings(environ=environ)
    assert loaded.settings == load_settings().settings
    assert set(loaded.sources.values()) == set(environ)


def test_other_variables_are_left_alone() -> None:
    environ = {"BROKER_CONFIG": "x", "BROKER_PORT": "tcp://", "SERVER_BIND": "?"}
    assert load_settings(environ=environ) == load_settings()


def test_flags_are_values_or_text() -> None:
    flags = {"server.bind": ("a:1",), "server.workers": "2", "access.origins": "*,null"}
    loaded = load_settings(flags=flags)
    assert loaded.settings.server == ServerSettings(bind=("a:1",), workers=2)
    assert loaded.settings.access == AccessSettings(origins=("*", "null"))
    assert loaded.sources["access.origins"] == "--access-origins"


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "http://a", "https://a.example:8443", "http://[::1]:8000"),
        *("https://a:80", "http://127.0.0.1:443", "capacitor://localhost"),
    ],
)
def test_origins(origin: str) -> None:
    settings = load_settings(flags={"access.origins": [origin]}).settings
    assert settings.access.origins == (origin,)


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8000", "0.0.0.0:0", "[::]:65535", "a_b.c-d:1"),
        *("unix:/run/broker.sock", "unix:x", "fd://0", "fd://12"),
    ],
)
def test_addresses_to_bind(address: str) -> None:
    settings = load_settings(flags={"server.bind": [address]}).settings
    assert settings.server.bind == (address,)


BIND = "must be host:port, [v6]:port, unix:path or fd://N"
ORIGIN = 'must be scheme://host[:port], "*" or "null"'
NETWORK = "must be an address or a network such as 10.0.0.0/8"
FLAGS = {
    "server.bind": "--bind",
    "server.trusted_proxies": "--trusted-proxies",
    "server.metrics_from": "--metrics-from",
    "access.origins": "--access-origins",
}


@pytest.mark.parametrize(
    ("key", "item", "fault"),
    [
        *[
            ("server.bind", item, BIND)
            for item in (
                *("", "8000", ":8000", "localhost", "a:", "a:x", "a:65536", "a:-1"),
                *("::1:80", "[::1]", "[::1:80", "[::g]:80", "256.0.0.1:80", "1.2:80"),
                *("http://a:80", "a b:80", "a:80 ", "-a:80", "a:１"),
            )
        ],
        ("server.bind", "unix:", "needs a path behind unix:"),
        ("server.bind", "fd://", "needs the number of a descriptor behind fd://"),
        ("server.bind", "fd://-1", "needs the number of a descriptor behind fd://"),
        *[
            (key, item, NETWORK)
            for key in ("server.trusted_proxies", "server.metrics_from")
            for item in ("", "*", "localhost", "10.0.0.0/33", "10.0.0.1:80", "10.0.0")
        ],
        (
            "server.trusted_proxies",
            "10.0.0.1/8",
            "has bits set behind its prefix; write 10.0.0.0/8",
        ),
        *[
            ("access.origins", item, ORIGIN)
            for item in (
                *("", "a.example", "https://", "https://*", "https://a b"),
                *("https://a:", "https://a:x", "https://a:65536", "//a", "https:a"),
                *("https://u@a", "https://1.2", "https://[::g]", "https://bücher"),
                *("https://*.example", "1://a", "None", "https://a\n"),
            )
        ],
        *[
            ("access.origins", item, f"is not what browsers send; write {right}")
            for item, right in (
                ("https://a/", "https://a"),
                ("https://a:8443/b?c", "https://a:8443"),
                ("https://a#b", "https://a"),
                ("HTTPS://A.example", "https://a.example"),
                ("https://a:443", "https://a"),
                ("http://[::1]:80", "http://[::1]"),
            )
        ],
    ],
)
def test_what_is_no_address_is_refused(key: str, item: str, fault: str) -> None:
    said = problem(flags={key: [item]})
    assert said == f"{FLAGS[key]}: {key}: {toml(item)} {fault}"


def test_every_item_of_a_list_is_checked() -> None:
    said = problem(flags={"server.bind": ("127.0.0.1:0", "a")})
    assert said == f'--bind: server.bind: "a" {BIND}'


def test_long_values_are_cut() -> None:
    said = problem(flags={"access.origins": ["x" * 80]})
    assert said == f'--access-origins: access.origins: "{"x" * 58}… {ORIGIN}'


OVERFLOW = '"disconnect", "drop_oldest", "drop_newest", "conflate", "block"'
NOT_HYPERCORNS = "hypercorn has no such setting"
LOOPS = '"asyncio", "uvloop", "trio"'
OUTSIDE = "outside of a section"
SECTIONS = "server, access, client, api, limits, topics"
TOO_SMALL = "is below max_message_bytes: the largest message would never fit"

UNKNOWN: list[tuple[str, str]] = [
    ("\n[server]\nbnid = 1", '3: unknown key "bnid" in server; did you mean bind?'),
    ("[limits]\nbind = 1", '2: unknown key "bind" in limits; it belongs in [server]'),
    (
        "limits.pattern = 1",
        '1: unknown key "pattern" in limits; it belongs in [[topics]]',
    ),
    ("access.zz = 1", '1: unknown key "zz" in access; known are origins'),
    (
        "[[topics]]\n[[topics]]\nhistory_siz = 1",
        '3: unknown key "history_siz" in topics[1]; did you mean history_size?',
    ),
    ("[limit]", '1: unknown section "limit"; did you mean limits?'),
    ("[[zz]]", f'1: unknown section "zz"; known are {SECTIONS}'),
    ("\nbind = 1", f'2: unknown key "bind" {OUTSIDE}; it belongs in [server]'),
    (
        "stal_s = 1",
        f'1: unknown key "stal_s" {OUTSIDE}; did you mean limits.stall_s?',
    ),
    ("zz = []", f'1: unknown key "zz" {OUTSIDE}; known sections are {SECTIONS}'),
    (
        r'"\n\u202E" = 1',
        rf'1: unknown key "\n\u202e" {OUTSIDE}; known sections are {SECTIONS}',
    ),
]

TABLES = [
    ("limits = 3", "1: limits must be a table, not 3"),
    ("[[server]]", "1: server must be a table"),
    ("[[limits]]", "1: limits must be a table, not [{…}]"),
    ("[topics]", "1: topics must be an array of tables, [[topics]], not a table"),
    ("topics = [3]", "1: topics[0] must be a table, not 3"),
]

# (key, given, what it must be, given as it is shown)
VALUES = [
    ("server.bind", "'a:1'", "an array of strings (at least 1)", '"a:1"'),
    ("server.bind", "[]", "an array of strings (at least 1)", "[]"),
    ("server.bind", "['a:1', 1]", "an array of strings (at least 1)", '["a:1", 1]'),
    ("access.origins", "1979-05-27", "an array of strings", "1979-05-27"),
    ("access.origins", "[{a = 1}]", "an array of strings", "[{…}]"),
    ("server.workers", "true", "an integer >= 1", "true"),
    ("server.workers", "1.0", "an integer >= 1", "1.0"),
    ("server.workers", "'1'", "an integer >= 1", '"1"'),
    ("server.workers", "0", "an integer >= 1", "0"),
    ("server.drain_s", "false", "a number > 0", "false"),
    ("server.drain_s", "0", "a number > 0", "0"),
    ("server.drain_s", "inf", "a number > 0", "inf"),
    ("server.drain_s", "nan", "a number > 0", "nan"),
    ("server.drain_s", "1e999", "a number > 0", "inf"),
    ("server.drain_s", hex(2**5000), "a number > 0", f"0x1{'0' * 56}…"),
    ("server.user_timeout_s", "3e6", "a number > 0 and <= 2147483", "3000000.0"),
    ("server.notsent_lowat_bytes", "0", "an integer > 0 and <= 2147483647", "0"),
    ("server.keepalive_s", "0.5", "a number >= 1 and <= 32767", "0.5"),
    ("server.keepalive_s", "32_768", "a number >= 1 and <= 32767", "32768"),
    ("server.tracing", "1", "true or false", "1"),
    ("server.loop", "'curio'", f"one of {LOOPS}", '"curio"'),
    ("server.loop", "{a = 1}", f"one of {LOOPS}", "a table"),
    ("limits.max_sessions", "'none'", "an integer", '"none"'),
    ("limits.max_sessions", hex(2**63), "an integer", "9223372036854775808"),
    ("limits.max_sessions", hex(2**5000), "an integer", f"0x1{'0' * 56}…"),
    ("limits.stall_s", "inf", "a number", "inf"),
    ("limits.stall_s", "'3'", "a number", '"3"'),
    ("limits.idle_s", "''", 'a number, or "none"', '""'),
    ("limits.idle_s", "nan", 'a number, or "none"', "nan"),
    ("limits.max_sessions_per_user", "1.5", 'an integer, or "none"', "1.5"),
]

REFUSED_BY_THE_BROKER = [
    ("\n[limits]\nstall_s = 0", "3: limits.stall_s must be > 0, not 0.0"),
    (
        "[limits]\nblock_s = 1\nmax_topics = -1",
        "3: limits.max_topics must be > 0, not -1",
    ),
    (
        "[[topics]]\nhistory_size = -1",
        "2: topics[0].history_size must be >= 0, not -1",
    ),
    ("[[topics]]\njoin_leave = true", "2: topics[0].join_leave needs presence=True"),
    (
        "[[topics]]\npresence = false\njoin_leave = true",
        "2 (topics[0].presence), broker.toml line 3 (topics[0].join_leave): "
        "topics[0].join_leave needs presence=True",
    ),
    (
        "[[topics]]\npresence = true\npattern = 'presence .'",
        "3: topics[0].pattern: invalid topic 'presence .': "
        "character ' ' at position 8 is not printable ASCII",
    ),
    (
        "limits.max_message_bytes = 2_000_000",
        f"1: limits.max_message_bytes: limits.max_outbox_bytes {TOO_SMALL}",
    ),
    (
        "[limits]\nmax_inbox_bytes = 9\nstall_s = 1\nmax_message_bytes = 10",
        "2 (limits.max_inbox_bytes), broker.toml line 4 (limits.max_message_bytes): "
        f"limits.max_inbox_bytes {TOO_SMALL}",
    ),
    (
        "[[topics]]\noverflow = 'drop'",
        f'2: topics[0].overflow must be one of {OVERFLOW}, not "drop"',
    ),
    ("[[topics]]\npattern = 3", "2: topics[0].pattern must be a string, not 3"),
]

NO_TOML: list[tuple[str | bytes, str]] = [
    ("a = 1\nb = ?", "2: is not TOML: Invalid value (column 5)"),
    ("a = 1\na = 2\nb = 3", "2: is not TOML: Cannot overwrite a value (column 6)"),
    ("\n\na = '''\nb\n\n", "4: is not TOML: Expected \"'''\" (end of file)"),
    ("\ufeffa = 1", "1: is not TOML: Invalid statement (column 1)"),
    (b"a = 1\n# \xff", "2: is not UTF-8"),
]


@pytest.mark.parametrize(
    ("text", "message"), [*UNKNOWN, *TABLES, *REFUSED_BY_THE_BROKER, *NO_TOML]
)
def test_a_wrong_file_is_refused(write: Write, text: str | bytes, message: str) -> None:
    assert problem(file=write(text)) == f"broker.toml line {message}"


@pytest.mark.parametrize(("key", "text", "right", "shown"), VALUES)
def test_a_wrong_value_is_refused(
    write: Write, key: str, text: str, right: str, shown: str
) -> None:
    said = problem(file=write(f"# one line\n\n{key} = {text}"))
    assert said == f"broker.toml line 3: {key} must be {right}, not {shown}"


def test_toml_without_a_place_is_refused(write: Write) -> None:
    """The parser gives up on these without saying where."""
    number = write("a = " + "1" * 5_000)
    start = "broker.toml: is not TOML: "
    assert problem(file=number).startswith(f"{start}Exceeds the limit (4300 digits)")
    nested = write("a = " + "[" * 100_000)
    assert problem(file=nested).startswith(start)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bind = 1", "1: bind must be an array of strings (at least 1), not 1"),
        ("bind = 'localhost'", f'1: bind: "localhost" {BIND}'),
        ("\nworkers = 0", "2: workers must be an integer >= 1, not 0"),
        (
            "worker_class = 'gevent'",
            f'1: worker_class must be one of {LOOPS}, not "gevent"',
        ),
        ("a", "1: is not TOML: Expected '=' after a key in a key/value pair"),
        ("\nbogus = 1", f'2: unknown key "bogus"; {NOT_HYPERCORNS}'),
        ("[tls]\na = 1", f'1: unknown key "tls"; {NOT_HYPERCORNS}'),
        ("create_sockets = 1", '1: unknown key "create_sockets"; '),
        ("log = 1", '1: unknown key "log"; '),
        ("_bind = 1", '1: unknown key "_bind"; did you mean bind?'),
        ("cert_file = ''", '1: unknown key "cert_file"; did you mean certfile?'),
        (
            "stall_s = 1",
            '1: unknown key "stall_s"; it belongs in [limits] of broker.toml',
        ),
        (
            "keep_alive_timeout = 'y'",
            '1: keep_alive_timeout must be a number >= 0, not "y"',
        ),
        ("keep_alive_timeout = inf", "1: keep_alive_timeout must be a number >= 0, no"),
        ("graceful_timeout = -1", "1: graceful_timeout must be a number >= 0, not -1"),
        ("backlog = true", "1: backlog must be an integer >= 0, not true"),
        ("read_timeout = 1.5", "1: read_timeout must be an integer >= 0, not 1.5"),
        ("accesslog = 1", "1: accesslog must be a string, not 1"),
        ("logger_class = 'x'", "1: logger_class cannot be set in a file"),
        ("server_names = 'x'", '1: server_names must be an array of strings, not "x"'),
        ("insecure_bind = 1", "1: insecure_bind must be an array of strings, not 1"),
        ("logconfig_dict = 1", "1: logconfig_dict must be a table, not 1"),
        ("keyfile_password = 4711", "1: keyfile_password must be a string"),
        ("verify_mode = 'x'", '1: verify_mode must be an integer >= 0, not "x"'),
        ("ciphers = 'x'", "1: ciphers: No cipher can be selected"),
        ("verify_mode = 7", "1: verify_mode: 7 is not a valid VerifyMode"),
    ],
)
def test_a_wrong_file_of_hypercorn_is_refused(
    write: Write, text: str, message: str
) -> None:
    said = problem(hypercorn_file=write(text, "hypercorn.toml"))
    assert said.removesuffix(" (end of file)").startswith(
        f"hypercorn.toml line {message}"
    )
    assert "4711" not in said


def test_every_setting_of_hypercorn_may_be_given(write: Write) -> None:
    """With its own default, or what its type calls for."""
    lines = ['bind = "h:1"', 'insecure_bind = "h:2"', 'quic_bind = ["h:3"]']
    lines += ['application_path = "a:b"', 'root_path = "/x"', "logconfig_dict = {}"]
    lines += ['errorlog = "-"', 'accesslog = "-"', "read_timeout = 1", "umask = 0o22"]
    lines += ["cert_reqs = 0", "verify_mode = 2", "verify_flags = 32", "user = 1"]
    lines += ["statsd_host = 'h:1'", "startup_timeout = 1", "daemon = false"]
    given = {line.partition(" ")[0] for line in lines}
    for name, default in vars(Config).items():
        is_plain = isinstance(default, bool | int | float | str | list)
        if is_plain and not name.startswith("_") and name not in given:
            lines.append(f"{name} = {toml(default)}")
    load_settings(hypercorn_file=write("\n".join(lines)))


@pytest.fixture
def pems(write: Write) -> dict[str, bytes]:
    """Files cert.pem and key.pem that go together, and what else there may be."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "h")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    cert = x509.CertificateBuilder(
        name, name, key.public_key(), 1, begin, begin.replace(year=2120)
    ).sign(key, SHA256())

    def pem(key: ec.EllipticCurvePrivateKey, lock: Any) -> bytes:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)

    files = {
        "cert.pem": cert.public_bytes(Encoding.PEM),
        "key.pem": pem(key, NoEncryption()),
        "other.pem": pem(other, NoEncryption()),
        "locked.pem": pem(key, BestAvailableEncryption(b"geheim")),
        "empty.pem": b"",
        "binary.pem": b"\xff-----BEGIN CERTIFICATE-----",
    }
    for file, content in files.items():
        write(content, file)
    return files


@pytest.mark.usefixtures("pems")
@pytest.mark.parametrize(
    ("certfile", "keyfile", "more"),
    [
        ("cert.pem", "key.pem", ""),
        ("cert.pem", "key.pem", 'ca_certs = "cert.pem"\nverify_mode = 2'),
        ("cert.pem", "locked.pem", 'keyfile_password = "geheim"'),
    ],
)
def test_certificates_are_tried(
    write: Write, certfile: str, keyfile: str, more: str
) -> None:
    text = f'certfile = "{certfile}"\nkeyfile = "{keyfile}"\n{more}\n'
    load_settings(hypercorn_file=write(text, "hypercorn.toml"))


@pytest.mark.usefixtures("pems")
@pytest.mark.parametrize(
    ("certfile", "keyfile", "more", "message"),
    [
        ("no.pem", "key.pem", "", '1: certfile "no.pem": No such file or directory'),
        ("cert.pem", "no.pem", "", '2: keyfile "no.pem": No such file or directory'),
        ("cert.pem", "..", "", '2: keyfile "..": Is a directory'),
        ("empty.pem", "key.pem", "", '1: certfile "empty.pem" has no certificate in'),
        ("cert.pem", "cert.pem", "", '2: keyfile "cert.pem" has no private key in PEM'),
        (
            "cert.pem",
            "other.pem",
            "",
            '1, hypercorn.toml line 2: certfile "cert.pem" and keyfile "other.pem": ',
        ),
        (
            "cert.pem",
            "locked.pem",
            "",
            '2: keyfile "locked.pem" is encrypted: set keyfile_password',
        ),
        (
            "cert.pem",
            "locked.pem",
            'keyfile_password = "4711"',
            '1, hypercorn.toml line 2: certfile "cert.pem" and keyfile "locked.pem": ',
        ),
        (
            "cert.pem",
            "key.pem",
            'ca_certs = "no.pem"',
            '3: ca_certs "no.pem": No such file or directory',
        ),
        (
            "cert.pem",
            "key.pem",
            'ca_certs = "key.pem"',
            '3: ca_certs "key.pem" has no certificate in PEM',
        ),
        (
            "cert.pem",
            "key.pem",
            'ca_certs = "binary.pem"',
            '3: ca_certs "binary.pem": ',
        ),
    ],
)
def test_certificates_that_cannot_be_used(
    write: Write, certfile: str, keyfile: str, more: str, message: str
) -> None:
    text = f'certfile = "{certfile}"\nkeyfile = "{keyfile}"\n{more}\n'
    said = problem(hypercorn_file=write(text, "hypercorn.toml"))
    assert said.startswith(f"hypercorn.toml line {message}")
    assert "4711" not in said
    assert "_ssl.c" not in said


@pytest.mark.parametrize("name", ["certfile", "keyfile", "ca_certs"])
def test_half_of_tls_is_refused(write: Write, name: str) -> None:
    """hypercorn would serve without any, and say nothing."""
    said = problem(hypercorn_file=write(f'{name} = "x.pem"\n', "hypercorn.toml"))
    assert said.startswith(f"hypercorn.toml line 1: {name} is set, and ")
    assert said.endswith(": it would be served without TLS")


@pytest.mark.parametrize("name", ["file", "hypercorn_file"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    gone = tmp_path / "gone.toml"
    said = problem(**{name: gone})
    assert said == f"{gone}: cannot be read: No such file or directory"
    said = problem(**{name: tmp_path})
    assert said == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("SERVER_BINDS", "", "unknown variable; did you mean BROKER_SERVER_BIND?"),
        ("ACCESS_\n", "1", "unknown variable; did you mean BROKER_ACCESS_ORIGINS?"),
        ("TOPICS_PATTERN", "a", "topics can only be set in a file"),
        (
            "SERVER_BIND",
            "",
            'server.bind must be strings with commas between (at least 1), not ""',
        ),
        ("SERVER_BIND", "a:1,", f'server.bind: "" {BIND}'),
        ("SERVER_WORKERS", "", 'server.workers must be an integer >= 1, not ""'),
        (
            "SERVER_WORKERS",
            "none",
            'server.workers must be an integer >= 1, not "none"',
        ),
        ("SERVER_WORKERS", "1.5", 'server.workers must be an integer >= 1, not "1.5"'),
        ("SERVER_WORKERS", "0", 'server.workers must be an integer >= 1, not "0"'),
        ("SERVER_DRAIN_S", "inf", 'server.drain_s must be a number > 0, not "inf"'),
        ("SERVER_DRAIN_S", "10s", 'server.drain_s must be a number > 0, not "10s"'),
        ("SERVER_TRACING", "yes", 'server.tracing must be true or false, not "yes"'),
        ("SERVER_LOOP", "TRIO", f'server.loop must be one of {LOOPS}, not "TRIO"'),
        (
            "LIMITS_IDLE_S",
            "null",
            'limits.idle_s must be a number, or "none", not "null"',
        ),
        ("LIMITS_IDLE_S", "0", "limits.idle_s must be > 0, not 0.0"),
        (
            "LIMITS_MAX_TOPICS",
            "1e30",
            'limits.max_topics must be an integer, not "1e30"',
        ),
    ],
)
def test_a_wrong_variable_is_refused(name: str, text: str, message: str) -> None:
    shown = name.replace("\n", r"\n")
    assert problem(environ={f"BROKER_{name}": text}) == f"BROKER_{shown}: {message}"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "server.worker",
            1,
            '--worker: unknown setting "server.worker"; did you mean server.workers?',
        ),
        (
            "server.workers",
            0,
            "--workers: server.workers must be an integer >= 1, not 0",
        ),
        (
            "server.workers",
            "x",
            '--workers: server.workers must be an integer >= 1, not "x"',
        ),
        (
            "limits.block_s",
            -1,
            "--limits-block-s: limits.block_s must be > 0, not -1.0",
        ),
    ],
)
def test_a_wrong_flag_is_refused(key: str, value: object, message: str) -> None:
    assert problem(flags={key: value}) == message


def test_topics_have_no_flags() -> None:
    said = problem(flags={"topics.pattern": "a"})
    assert said.startswith('--topics-pattern: unknown setting "topics.pattern"; ')


def test_what_is_overruled_must_be_right_too(write: Write) -> None:
    file = write("server.workers = 0")
    said = problem(file=file, flags={"server.workers": 1})
    assert said == "broker.toml line 1: server.workers must be an integer >= 1, not 0"


def test_all_that_was_given_is_to_blame_when_nothing_tells_more() -> None:
    """A rule of the future, whose message names no setting."""

    def make(**values: int) -> None:
        if len(values) == 2:
            raise UsageError("these two do not go together")

    section = Section({"a": 1, "b": 2}, {"a": "--a", "b": "B"})
    with pytest.raises(SettingsError) as caught:
        build(make, "limits", section)
    assert str(caught.value) == (
        "--a (limits.a), B (limits.b): these two do not go together"
    )


def test_rows_show_every_setting_in_order(write: Write) -> None:
    file = write("""
[[topics]]
presence = true
[limits]
stall_s = 1
bytes_per_s = "none"
""")
    rows = load_settings(file=file, flags={"server.workers": 2}).rows()
    keys = [key.replace("topics[0]", "topics") for key, _, _ in rows]
    assert keys == [f"{section}.{field}" for section, field in EVERY]
    assert [row for row in rows if row[2] != "default"] == [
        ("server.workers", "2", "--workers"),
        ("limits.bytes_per_s", '"none"', "broker.toml line 6"),
        ("limits.stall_s", "1.0", "broker.toml line 5"),
        ("topics[0].presence", "true", "broker.toml line 3"),
    ]
    texts = {key: value for key, value, _ in rows}
    assert texts["server.bind"] == '["127.0.0.1:8000"]'
    assert texts["server.trusted_proxies"] == "[]"
    assert texts["topics[0].overflow"] == '"disconnect"'


def test_rows_are_a_file_that_says_the_same(write: Write) -> None:
    first = load_settings(
        file=write("[[topics]]\npattern = 'a.*'\n[[topics]]\nhistory_size = 3\n"),
        flags={"access.origins": ["https://a.example", "*"], "limits.idle_s": 1e300},
    )
    lines = [f"{key} = {value}" for key, value, _ in first.rows() if "[" not in key]
    for index in range(2):
        own = [row for row in first.rows() if row[0].startswith(f"topics[{index}]")]
        lines.append("[[topics]]")
        lines += [f"{key.split('.')[-1]} = {value}" for key, value, _ in own]
    again = load_settings(file=write("\n".join(lines)))
    assert again.settings == first.settings
    assert len(again.sources) == len(EVERY) + len(FIELDS["topics"])


def test_loaded_settings_do_not_change() -> None:
    loaded: Any = load_settings()
    with pytest.raises(TypeError):
        loaded.sources["server.bind"] = "?"
    with pytest.raises(AttributeError):
        loaded.settings.server.workers = 2


def test_the_structs_know_their_bounds_too() -> None:
    """For those who convert a mapping themselves."""
    assert msgspec.convert({"workers": 2}, ServerSettings) == ServerSettings(workers=2)
    wrongs: list[dict[str, object]] = [{"workers": 0}, {"worker": 1}, {"bind": []}]
    for wrong in wrongs:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, ServerSettings)


@given(
    st.none()
    | st.sampled_from(Overflow)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.text()).map(tuple)
)
def test_values_as_toml_are_read_back(value: object) -> None:
    read = tomllib.loads(f"key = {toml(value)}")["key"]
    if value is None:
        assert read == "none"
    elif isinstance(value, tuple):
        assert tuple(read) == value
    elif isinstance(value, Overflow):
        assert Overflow(read) is value
    else:
        assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(("section", "field"), EVERY)
def test_the_docs_name_every_setting_and_its_default(section: str, field: str) -> None:
    header = "[[topics]]" if section == "topics" else f"[{section}]"
    chapter = DOCS.split(f"\n## `{header}`\n")[1].split("\n## ")[0]
    rows = re.findall(rf"^\| `{field}` \| `(.*?)` \|", chapter, re.MULTILINE)
    assert rows == [toml(getattr(DEFAULTS[section], field))]


def test_the_docs_name_no_other_setting() -> None:
    named = re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE)
    assert sorted(named) == sorted(field for _, field in EVERY)


def test_the_examples_in_the_docs_work(write: Write) -> None:
    blocks = {
        language: re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
        for language in ("toml", "sh", "text")
    }
    environ = dict(line.split("=", 1) for line in blocks["sh"][0].splitlines())
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    write(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "public.pem"
    )
    settings = load_settings(file=write(blocks["toml"][0]), environ=environ).settings
    assert settings.server.bind == ("0.0.0.0:8000", "[::]:8000")
    assert settings.server.metrics_from == ()
    assert settings.limits == Limits(max_sessions=20_000, messages_per_s=None)
    assert [rules.pattern for rules in settings.topics] == ["prices.>", "chat.>"]
    assert blocks["text"][0].splitlines() == [
        problem(file=write("[limits]\n\nstal_s = 1")),
        problem(environ={"BROKER_SERVER_WORKERS": "0"}),
        problem(
            hypercorn_file=write(
                '\n\nkeyfile = "key.pem"\ncertfile = "cert.pem"', "hypercorn.toml"
            )
        ),
    ]

"""Keys in settings: tried when they are loaded, and shown to nobody."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm

from adapters.hosting.application import client_protocol
from adapters.hosting.settings import (
    ClientSettings,
    SettingsError,
    load_settings,
    token_verifier,
)
from adapters.hosting.settings.secret import Secret
from broker.client_protocol import ClientProtocol
from broker.protocol.rules import ProtocolTimes

pytestmark = pytest.mark.usefixtures("empty_folder")

SECRET = "not to be seen by anybody, and long"
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
JWKS = json.dumps({"keys": [ECAlgorithm.to_jwk(EC.public_key(), as_dict=True)]})
ENV = "BROKER_CLIENT_HMAC_SECRET"
NONE = {"client.hmac_secret": '"none"', "client.hmac_secret_file": '"none"'}


def public(key: Any) -> str:
    data: bytes = key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return data.decode()


def private(key: Any) -> str:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data.decode()


def write(text: str | bytes, name: str = "broker.toml") -> Path:
    """Write a file; return its name, relative as a person's."""
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return Path(name)


def client(text: str = "", **environ: str) -> ClientSettings:
    return load_settings(file=write(text), environ=environ).settings.client


def problem(text: str = "", **environ: str) -> str:
    """Return what is wrong; the secret is not in it."""
    with pytest.raises(SettingsError) as caught:
        load_settings(file=write(text), environ=environ)
    assert "not to be seen" not in str(caught.value)
    return str(caught.value)


def is_genuine(settings: ClientSettings, key: Any, algorithm: str) -> bool:
    verifier = token_verifier(settings)
    assert verifier is not None
    made = jwt.encode({"sub": "ada", "aud": "us", "iss": "it"}, key, algorithm)
    return b"ada" in verifier.verify(made, now=0)


# --- Which keys count ---


def test_without_a_key_everybody_is_welcome() -> None:
    assert token_verifier(client()) is None
    assert client().anonymous
    assert client_protocol(client()).tokens is None


def test_every_kind_of_key_at_once() -> None:
    write(public(ED) + "a word\n" + public(EC), "keys.pem")
    write(JWKS, "jwks.json")
    settings = client(
        f'[client]\nhmac_secret = "{SECRET}"\npublic_key_file = "keys.pem"\n'
        'jwks_file = "jwks.json"\naudience = "us"\nissuer = "it"\n'
    )
    assert is_genuine(settings, SECRET, "HS256")
    assert is_genuine(settings, ED, "EdDSA")
    assert is_genuine(settings, EC, "ES256")
    assert is_genuine(client('[client]\njwks_file = "jwks.json"'), EC, "ES256")


@pytest.mark.parametrize(
    ("end", "cut"), [("", ""), ("\n", ""), ("\r\n", ""), ("\n\n", "\n"), (" ", " ")]
)
def test_one_line_end_of_a_file_is_no_part_of_the_secret(end: str, cut: str) -> None:
    write(SECRET + end, "secret")
    settings = client('[client]\nhmac_secret_file = "secret"')
    assert settings.hmac_secret == Secret(SECRET + cut)


def test_a_variable_is_the_secret_as_it_is() -> None:
    settings = client(**{ENV: f" {SECRET}\n"})
    assert settings.hmac_secret == Secret(f" {SECRET}\n")


def test_a_later_place_overrules_with_secret_or_file() -> None:
    write(SECRET, "secret")
    in_file = f'[client]\nhmac_secret = "{"x" * 32}"'
    named = '[client]\nhmac_secret_file = "gone"'
    for settings in (
        client(in_file, **{f"{ENV}_FILE": "secret"}),
        client(in_file, **{ENV: SECRET}),
        client(named, **{f"{ENV}_FILE": "secret"}),
        client(named, **{ENV: SECRET}),
    ):
        assert settings.hmac_secret == Secret(SECRET)
    loaded = load_settings(file=write(named), environ={ENV: SECRET})
    assert loaded.sources["client.hmac_secret_file"] == "default"
    for text in (in_file, named):
        for name in (ENV, f"{ENV}_FILE"):
            assert not client(text, **{name: "none"}).has_keys


def test_both_in_one_place_are_refused() -> None:
    assert problem(**{ENV: SECRET, f"{ENV}_FILE": "secret"}) == (
        f"{ENV}_FILE: client.hmac_secret_file and client.hmac_secret are both set: "
        "choose one"
    )
    text = f'[api]\nkey_file = "secret"\nkey = "{SECRET}"'
    assert problem(text) == (
        "broker.toml line 3: api.key and api.key_file are both set: choose one"
    )
    assert client(**{ENV: SECRET, f"{ENV}_FILE": "none"}).has_keys


@pytest.mark.parametrize(
    ("text", "is_welcome"),
    [
        ("", False),
        ("anonymous = true", True),
        ("anonymous = false", False),
    ],
)
def test_who_has_no_token_where_there_is_a_key(text: str, *, is_welcome: bool) -> None:
    file = write(f"[client]\n{text}")
    loaded = load_settings(file=file, environ={ENV: SECRET})
    assert client_protocol(loaded.settings.client).anonymous is is_welcome
    assert loaded.sources["client.anonymous"] == (
        "broker.toml line 2" if text else "default where there is a key for tokens"
    )


def test_a_server_that_lets_nobody_in() -> None:
    assert not client("[client]\nanonymous = false").anonymous


def test_every_setting_reaches_the_protocol() -> None:
    protocol = client_protocol(
        ClientSettings(
            anonymous=False,
            personal="users",
            ping_s=5,
            pong_s=4,
            stale_s=3,
            expired_s=2,
            write_delay_s=0.1,
            max_recovered=9,
            max_history=8,
            max_commands=7,
            max_depth=6,
        )
    )
    assert protocol == ClientProtocol(
        clock=protocol.clock,
        anonymous=False,
        personal="users",
        write_delay_s=0.1,
        times=ProtocolTimes(ping_s=5, pong_s=4, stale_s=3, expired_s=2),
        max_recovered=9,
        max_history=8,
        max_commands=7,
        max_depth=6,
    )


def test_personal_channels() -> None:
    assert client("[client]\npersonal = ''").personal == ""
    assert client("[client]\npersonal = 'none'").personal is None


def test_defaults_are_the_protocols() -> None:
    protocol = client_protocol(ClientSettings())
    assert protocol == ClientProtocol(clock=protocol.clock)


# --- What cannot be used ---

SHORT = "client.hmac_secret is shorter than 32 bytes"
PEM = 'public_key_file = "keys"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hmac_secret = 'short'", SHORT),
        ("hmac_secret = 12345", "client.hmac_secret must be a string, or"),
        ("hmac_secret = ['not to be seen']", "client.hmac_secret must be a string, or"),
        ("hmac_secret = ''", "client.hmac_secret is empty; write none if"),
        ("hmac_secret_file = ''", "client.hmac_secret_file is empty; write none if"),
        ("jwks_file = 'gone'", "client.jwks_file: the file cannot be read: No such"),
        ("jwks_file = '.'", "client.jwks_file: the file cannot be read: Is a dir"),
        ("jwks_file = 'keys'", "client.jwks_file: not a key set: it is not JSON"),
        (PEM, "client.public_key_file: the file has no public key in PEM"),
        ("audience = 'us'", "client.audience: there is no key that a token could"),
        ("issuer = 'it'", "client.issuer: there is no key that a token could be che"),
        ("leeway_s = -1", "client.leeway_s must be a number >= 0, not -1"),
        ("ping_s = 0", "client.ping_s must be a number > 0, not 0"),
        ("pong_s = 25", "client.pong_s must be below ping_s"),
        ("ping_s = 8", "client.ping_s: client.pong_s must be below ping_s"),
        ("write_delay_s = 1.1", "client.write_delay_s must be a number >= 0 and <= 1"),
        ("personal = 'a b'", 'client.personal: "a b" must have letters, digits, _'),
        ("max_depth = 901", "client.max_depth must be an integer >= 3 and <= 900"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    write("nothing of use", "keys")
    told = problem(f"[client]\n{text}")
    assert told.startswith(f"broker.toml line 2: {said}")
    assert told.isprintable()
    assert "12345" not in told


UNUSABLE: dict[str, tuple[str | bytes, str]] = {
    "private": (private(ED), "the file has a private key: give the public one alone"),
    "both": (public(EC) + private(ED), "the file has a private key: give the public"),
    "broken": (
        "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----",
        "not a public key in PEM",
    ),
    "short": (
        public(rsa.generate_private_key(65537, 1024)),
        "a public key of a kind or strength that is not accepted",
    ),
    "many": (public(EC) * 33, "more than 32 keys"),
    "binary": (b"\xff", "the file is not UTF-8"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_public_keys_that_cannot_be_used(name: str) -> None:
    pem, said = UNUSABLE[name]
    write(pem, "keys")
    told = problem(f"[client]\n{PEM}")
    assert told.startswith(f"broker.toml line 2: client.public_key_file: {said}")


def test_too_many_keys_in_all() -> None:
    write(public(EC) * 32, "keys")
    told = problem(f"[client]\n{PEM}", **{ENV: SECRET})
    assert told == (
        f"{ENV}, broker.toml line 2: client.hmac_secret, client.public_key_file: "
        "more than 32 keys"
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({ENV: "short"}, f"{ENV}: {SHORT}"),
        ({ENV: ""}, f"{ENV}: client.hmac_secret is empty; write none if"),
        ({f"{ENV}_FILE": " "}, f"{ENV}_FILE: client.hmac_secret_file is empty; wr"),
        ({"BROKER_API_KEY": ""}, "BROKER_API_KEY: api.key is empty; write none if"),
        ({"BROKER_API_KEY": "schlüssel"}, "BROKER_API_KEY: api.key must be printable"),
        ({"BROKER_API_KEY": " k"}, "BROKER_API_KEY: api.key must be printable ASCII"),
        ({"BROKER_API_PATH": "api"}, 'BROKER_API_PATH: api.path: "api" must be a pa'),
        ({"BROKER_API_PATH": "/api/"}, 'BROKER_API_PATH: api.path: "/api/" must be'),
        ({"BROKER_API_PATH": "/{a}"}, 'BROKER_API_PATH: api.path: "/{a}" must be a'),
        # A secret in the wrong place: the path is the secret.
        (
            {f"{ENV}_FILE": SECRET},
            f"{ENV}_FILE: client.hmac_secret_file: the file cannot be read: No such",
        ),
        ({f"{ENV}S": SECRET}, f"{ENV}S: unknown variable; did you mean {ENV}"),
    ],
)
def test_wrong_variables(variables: dict[str, str], said: str) -> None:
    assert problem(**variables).startswith(said)


def test_a_secret_in_a_file_that_is_too_short() -> None:
    write("short\n", "secret")
    told = problem(**{f"{ENV}_FILE": "secret"})
    assert told == f"the file of {ENV}_FILE: {SHORT}"


@pytest.mark.parametrize("section", ["client", "api"])
def test_a_section_that_is_no_table_may_be_a_secret(section: str) -> None:
    told = problem(f'{section} = "{SECRET}"')
    assert told == f"broker.toml line 1: {section} must be a table"


def test_without_pyjwt_the_extra_is_named() -> None:
    program = f"""if True:
        import sys; sys.modules["jwt"] = None
        from adapters.hosting.settings import SettingsError, load_settings
        load_settings()
        try: load_settings(environ={{{ENV!r}: "s" * 32}})
        except SettingsError as error: print(error)
    """
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout.startswith(f"{ENV}: client.hmac_secret: adapters.tokens needs")
    assert "pip install 'asgi-broker[jwt]'" in ran.stdout


# --- Shown to nobody ---


def test_rows_have_the_place_and_not_the_secret() -> None:
    write(SECRET, "secret")
    file = write('[api]\nkey_file = "secret"\n')
    loaded = load_settings(file=file, environ={ENV: SECRET})
    rows = {key: (value, source) for key, value, source in loaded.rows()}
    assert rows["client.hmac_secret"] == ('"***"', ENV)
    assert rows["api.key"] == ('"***"', "the file of broker.toml line 2")
    assert rows["api.key_file"] == ('"secret"', "broker.toml line 2")
    plain = {key: value for key, value, _ in load_settings().rows()}
    assert plain.items() >= NONE.items()
    assert SECRET not in f"{rows} {loaded} {loaded.settings!r} {loaded.settings.api}"


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(SECRET)
    for shown in (f"{secret}", f"{secret!r}", "%s" % secret, str([secret])):  # noqa: UP031 # shown
        assert SECRET not in shown
    assert pickle.loads(pickle.dumps(secret)).text == SECRET

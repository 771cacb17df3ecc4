"""``broker token``, and the server that it makes tokens for."""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from adapters.cli_tokens import duration, in_words
from tests.serving import PATIENCE_S

from .commands import Running, invoke, last_line, run, serving

pytestmark = pytest.mark.usefixtures("empty_folder")

SECRET = "long enough, and not to be seen by anybody"
ENV = {"BROKER_CLIENT_HMAC_SECRET": SECRET}


def make(*arguments: str, **variables: str) -> str:
    made = invoke("token", "make", *arguments, **(variables or ENV))
    assert made.exit_code == 0, made.stderr
    assert made.stderr == ""
    return made.stdout.removesuffix("\n")


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, SECRET, ["HS256"], options={"verify_aud": False}
    )
    return claims


def inspect(token: str, *arguments: str, **variables: str) -> Result:
    """Inspect a token that comes by standard input, with the secret or as is said."""
    asked = ("token", "inspect", "-", *arguments)
    return invoke(*asked, stdin=token, **(variables or ENV))


def said(result: Result) -> dict[str, str]:
    """Return {what: what is said of it}."""
    assert result.stderr == ""
    return dict(line.split(None, 1) for line in result.stdout.splitlines())


def signed(**claims: Any) -> str:
    return jwt.encode(claims, SECRET, "HS256")


# --- Made ---


def test_a_connection_token() -> None:
    before = int(time.time())
    claims = claims_of(make("--user", "42", "--expires", "10m"))
    assert list(claims) == ["sub", "iat", "exp"]
    assert claims["sub"] == "42"
    assert claims["iat"] >= before
    assert claims["exp"] - claims["iat"] == 600


def test_all_that_a_token_may_say() -> None:
    flags = ("--user", "", "--expires", "never", "--info", '{"a": [1, "é"]}')
    variables = {"BROKER_CLIENT_AUDIENCE": "us", "BROKER_CLIENT_ISSUER": "it", **ENV}
    claims = claims_of(make(*flags, "--subs", "a", "--subs", "b:c", **variables))
    del claims["iat"]
    assert claims == {
        "sub": "",
        "aud": "us",
        "iss": "it",
        "info": {"a": [1, "é"]},
        "subs": {"a": {}, "b:c": {}},
    }


def test_a_subscription_token() -> None:
    claims = claims_of(make("--user", "42", "--channel", "rooms:lobby"))
    assert claims["channel"] == "rooms:lobby"
    assert claims["exp"] - claims["iat"] == 3_600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--channel", "bad channel"), "--channel: invalid topic 'bad channel': "),
        (("--channel", "a..b"), "--channel: invalid topic 'a..b': "),
        (("--channel", "chat.*"), "--channel: invalid topic 'chat.*': "),
        (("--subs", "a", "--subs", "a..b"), "--subs: invalid topic 'a..b': "),
        (("--subs", ""), "--subs: "),
    ],
)
def test_no_token_is_made_for_what_is_no_channel(
    arguments: tuple[str, ...], said: str
) -> None:
    """The server would answer 107, and inspect called it accepted."""
    refused = invoke("token", "make", "--user", "42", *arguments, **ENV)
    assert refused.exit_code == 2
    assert said in last_line(refused)
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("claims", "variables", "why"),
    [
        ({"sub": "42", "channel": "bad channel"}, {}, "invalid topic 'bad channel': "),
        ({"sub": "42", "channel": "\x1b[2J"}, {}, "invalid topic '\\x1b[2J': "),
        ({"sub": "42", "subs": {"a": {}, "a..b": {}}}, {}, "invalid topic 'a..b': "),
        ({"sub": "4,2"}, {"BROKER_CLIENT_PERSONAL": "ns"}, "a comma or hash in "),
    ],
)
def test_what_is_no_channel_is_not_accepted(
    claims: dict[str, Any], variables: Any, why: str
) -> None:
    token = signed(**claims)
    shown = inspect(token, **ENV, **variables)
    assert shown.exit_code == 1
    answer = said(shown)["answer"]
    assert answer.startswith("error 107 bad request (")
    assert why in answer
    if "channel" in claims:
        return
    everything: Any = {**ENV, **variables}
    with serving(**everything) as server:
        assert opened(server, token)["error"]["code"] == 107


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_a_private_key_of_ones_own(key: Any, algorithm: str) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    Path("private.pem").write_bytes(pem)
    Path("public.pem").write_bytes(public)
    variables = {"BROKER_CLIENT_PUBLIC_KEY_FILE": "public.pem"}
    token = make("--user", "ada", "--secret-file", "private.pem", **variables)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert inspect(token, **variables).exit_code == 0


def test_a_secret_of_ones_own() -> None:
    for content in (f"{SECRET}\n", f"{SECRET}\r\n", SECRET):
        Path("secret").write_bytes(content.encode())
        token = make("--user", "ada", "--secret-file", "secret", BROKER_CONFIG="")
        assert claims_of(token)["sub"] == "ada"


def test_a_secret_by_standard_input() -> None:
    asked = ("token", "make", "--user", "ada", "--secret-file", "-")
    assert claims_of(invoke(*asked, stdin=SECRET).stdout.strip())["sub"] == "ada"


def test_a_key_that_the_server_does_not_have() -> None:
    Path("secret").write_text("x" * 32)
    made = invoke("token", "make", "--user", "a", "--secret-file", "secret", **ENV)
    assert made.exit_code == 0
    assert made.stderr == (
        "Warning: the server would refuse it: disconnect 3500 invalid token "
        "(no key of ours has signed it)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "problem"),
    [
        ((), ENV, "Error: Missing option '--user'."),
        (("--user", "a"), {}, "Error: nothing to sign with: set client.hmac_secret, "),
        (("--user", "a"), {"BROKER_CLIENT_HMAC_SECRET": "s"}, "Error: BROKER_CLIENT_"),
        (("--user", "a", "--channel", ""), ENV, "Error: --channel is empty"),
        (
            ("--user", "a", "--channel", "c", "--subs", "d"),
            ENV,
            "Error: --subs is for tokens that open a connection",
        ),
        (
            ("--user", "a", "--expires", "1"),
            ENV,
            "Error: Invalid value for '--expires'",
        ),
        (("--user", "a", "--info", "{"), ENV, "Error: Invalid value for '--info': not"),
        (("--user", "a", "--secret-file", "gone"), ENV, "Error: Invalid value for '--"),
        (
            ("--user", "a", "--secret-file", "short"),
            ENV,
            "Error: --secret-file: is shorter than 32 bytes",
        ),
        (("--user", "a", "--secret", SECRET), ENV, "Error: No such option"),
    ],
)
def test_what_cannot_be_made(
    arguments: tuple[str, ...], variables: dict[str, str], problem: str
) -> None:
    Path("short").write_text("short")
    refused = invoke("token", "make", *arguments, **variables)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert last_line(refused).startswith(problem)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("10m", 600), ("2h", 7_200), ("7d", 604_800), ("never", None)],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0s", "-1s", "1 h", "1H", "1w", "١s", "m"])
def test_what_is_no_duration(text: str) -> None:
    refused = invoke("token", "make", "--user", "a", "--expires", text, **ENV)
    assert refused.exit_code == 2
    assert "is not 30s, 10m, 2h, 7d or never" in last_line(refused)


# --- Inspected ---


def test_a_token_that_is_accepted() -> None:
    now = int(time.time())
    result = inspect(signed(sub="42", iat=now - 60 * 60, exp=now + 600, nbf=1))
    assert result.exit_code == 0
    lines = said(result)
    assert list(lines) == [
        "header",
        "claims",
        "signature",
        "iat",
        "nbf",
        "exp",
        "answer",
    ]
    assert json.loads(lines["header"]) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(lines["claims"])["sub"] == "42"
    assert lines["signature"] == "genuine"
    assert lines["nbf"].startswith("1970-01-01 00:00:01Z, valid for ")
    assert re.fullmatch(r".+Z, made \d+ min ago", lines["iat"])
    assert re.fullmatch(r".+Z, valid for another \d+ min", lines["exp"])
    assert re.fullmatch(
        r'connection accepted for user "42", to be refreshed in \d+ min',
        lines["answer"],
    )


OVER = {"exp": 1}
WRONG = "a claim is not what it should be"
SUB = {"sub": "42", "channel": "rooms:lobby"}


@pytest.mark.parametrize(
    ("claims", "exit_code", "answer"),
    [
        ({}, 0, "connection accepted for an anonymous user, without end"),
        (
            SUB,
            0,
            'subscription to "rooms:lobby" accepted for user "42", without end',
        ),
        (SUB | {"client": "c1"}, 0, 'subscription to "rooms:lobby" accepted for'),
        (OVER, 1, "error 109 token expired (the token has expired)"),
        (SUB | OVER, 1, "error 109 token expired (the token has expired)"),
        ({"nbf": 2**53}, 1, "error 109 token expired (the token is not valid yet)"),
        ({"expire_at": 1}, 1, "error 110 expired (expire_at is over)"),
        ({"sub": 42}, 1, f"disconnect 3500 invalid token ({WRONG})"),
        (SUB | {"b64info": "?"}, 1, f"error 103 permission denied ({WRONG})"),
        ({"channel": 1}, 1, f"disconnect 3500 invalid token ({WRONG})"),
    ],
)
def test_what_a_client_would_be_answered(
    claims: dict[str, Any], exit_code: int, answer: str
) -> None:
    result = inspect(signed(**claims))
    assert said(result)["signature"] == "genuine"
    assert said(result)["answer"].startswith(answer)
    assert result.exit_code == exit_code


@pytest.mark.parametrize(
    ("token", "signature"),
    [
        (
            jwt.encode(SUB, "x" * 32, "HS256"),
            "not genuine: no key of ours has signed it",
        ),
        ("x", "not genuine: not a token"),
        ("x" * 10_000, "not genuine: too long, or not ASCII"),
        ("é.\ud800.", "not genuine: too long, or not ASCII"),
    ],
)
def test_what_is_not_genuine(token: str, signature: str) -> None:
    result = inspect(token.encode("utf-8", "surrogatepass").decode(errors="replace"))
    assert result.exit_code == 1
    assert said(result)["signature"] == signature
    assert re.match("disconnect 3500|error 103", said(result)["answer"])


def test_for_somebody_else() -> None:
    variables = {"BROKER_CLIENT_AUDIENCE": "us", "BROKER_CLIENT_ISSUER": "it", **ENV}
    lines = said(inspect(signed(aud="them", iss="it"), **variables))
    assert lines["signature"] == "genuine"
    assert lines["answer"] == (
        "disconnect 3500 invalid token (meant for another audience)"
    )


def test_without_keys_no_token_is_accepted() -> None:
    result = inspect(signed(sub="42"), BROKER_CONFIG="")
    assert result.exit_code == 1
    assert said(result)["signature"] == "not checked: the settings have no key"
    assert said(result)["answer"] == (
        "disconnect 3500 invalid token (the settings have no key)"
    )


def test_a_token_as_an_argument() -> None:
    token = signed(sub="42")
    shown = invoke("token", "inspect", token, **ENV)
    assert (shown.exit_code, shown.stdout) == (0, inspect(f"{token}\n").stdout)


@pytest.mark.parametrize("token", ["", " \n"])
def test_nothing_to_inspect(token: str) -> None:
    refused = inspect(token)
    assert refused.exit_code == 2
    assert last_line(refused) == "Error: TOKEN is empty"


def test_a_token_cannot_steer_the_terminal() -> None:
    lines = inspect(signed(sub="\x1b[2J\n\u202e\x7f", channel="\r\x1b]0;x\x07")).stdout
    assert all(char == "\n" or " " <= char <= "~" for char in lines)
    assert len(lines.splitlines()) == 4


@given(st.binary(max_size=40) | st.sampled_from([b"[" * 2_000, b"9" * 5_000, b"1e999"]))
def test_any_claims(payload: bytes) -> None:
    """A verdict, and no traceback."""
    part = urlsafe_b64encode(payload).decode().rstrip("=")
    result = inspect(f"{part}.{part}.")
    assert result.exit_code == 1
    assert len(said(result)) == 4


def test_when_what_it_opens_is_over() -> None:
    result = inspect(signed(exp=2**53, expire_at=0))
    assert result.exit_code == 0
    assert said(result)["exp"].startswith("no date of this calendar, valid for ")
    assert said(result)["expire_at"] == "never: what it opens lasts"
    assert said(result)["answer"].endswith(", without end")
    over = said(inspect(signed(iat=2**40, expire_at=60)))
    assert re.match(
        "1970-01-01 00:01:00Z, what it opened is over for ", over["expire_at"]
    )
    assert re.match(".+, made in the future, in ", over["iat"])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min")),
        *((7_200, "2 h"), (172_799, "48 h"), (172_800, "2 days")),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# --- The server ---


def opened(server: Running, token: str = "") -> dict[str, Any]:
    """Connect as an SDK does; return the reply, or why there was none."""
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    with connect(url, proxy=None, close_timeout=PATIENCE_S) as client:
        client.send(json.dumps({"id": 1, "connect": {"token": token}}))
        try:
            reply: dict[str, Any] = json.loads(client.recv(PATIENCE_S))
        except ConnectionClosed:
            return {"code": client.close_code, "reason": client.close_reason}
    return reply


def test_a_server_with_keys(empty_folder: Path) -> None:
    """Tokens of ``broker token make`` open it; the server API has its key."""
    (empty_folder / "hmac").write_text(SECRET)
    (empty_folder / "broker.toml").write_text(
        '[client]\nhmac_secret_file = "hmac"\naudience = "chat"\n'
    )
    made = run("token", "make", "--user", "ada", "--expires", "10m")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    body = {"channel": "rooms:lobby", "data": {"text": "hi"}}
    with serving(BROKER_API_KEY="key of the API") as server:
        reply = opened(server, token)
        assert reply["connect"]["expires"] is True
        assert 0 < reply["connect"]["ttl"] <= 600
        assert opened(server, token[:-2]) == {"code": 3500, "reason": "invalid token"}
        assert opened(server) == {"code": 3501, "reason": "bad request"}
        over = jwt.encode({"aud": "chat", "exp": 1}, SECRET, "HS256")
        assert opened(server, over)["error"]["code"] == 109
        status, answer = server.post("/api/publish", body, X_API_Key="key of the API")
        assert (status, answer["result"]["offset"]) == (200, 1)
        assert server.post("/api/publish", body) == (401, None)
        assert server.post("/api/publish", body, X_API_Key=SECRET) == (401, None)
        assert server.stop() == 0
        log = server.log()
    for secret in (SECRET, "key of the API", token):
        assert secret not in log
    assert "Traceback" not in log


def test_a_server_without_keys() -> None:
    """Everybody is welcome, and there is no server API."""
    with serving("--loop", "trio") as server:
        assert "client" in opened(server)["connect"]
        assert opened(server, signed(sub="ada"))["code"] == 3500
        assert server.post("/api/publish", {}, X_API_Key="")[0] == 404
        assert server.stop() == 0

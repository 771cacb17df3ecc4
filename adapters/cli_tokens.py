"""``broker token``: makes tokens for clients, and says what is in them."""

from __future__ import annotations

import json
import re
import sys
import time
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from adapters.cli_settings import config_option, load
from adapters.hosting.settings import ClientSettings, token_verifier
from broker import InvalidTopic
from broker.protocol import frames, tokens
from broker.protocol.codes import Errors
from broker.protocol.personal import personal_channel
from broker.topics import check_topic

__all__ = ("token",)

NEVER = "never"
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
WORDS = ((86_400, "days"), (3_600, "h"), (60, "min"))
# {claim: what it means when it is past, and before}
TIMES = {
    "iat": ("made {} ago", "made in the future, in {}"),
    "nbf": ("valid for {}", "not valid yet: in {}"),
    "exp": ("expired {} ago", "valid for another {}"),
    "expire_at": ("what it opened is over for {}", "what it opens lasts {}"),
}


def duration(text: str) -> int | None:
    """Return a time such as 30s, 10m, 2h or 7d (s); None for never."""
    if text == NEVER:
        return None
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None or not int(found[1]):
        raise click.BadParameter(f"{text!a} is not 30s, 10m, 2h, 7d or {NEVER}")
    return int(found[1]) * UNITS_S[found[2]]


def json_value(text: str) -> Any:
    """Return what a piece of JSON says."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}") from error


@click.group()
def token() -> None:
    """Make and inspect tokens of clients."""


@token.command()
@click.option("--user", required=True, help='Whom it names; "" for nobody.')
@click.option("--channel", help="Make it for a subscription to this channel.")
@click.option(
    "--expires",
    type=duration,
    metavar="TIME",
    default="1h",
    show_default=True,
    help=f"When: 30s, 10m, 2h, 7d or {NEVER}.",
)
@click.option(
    "--info", type=json_value, metavar="JSON", help="About the client, for others."
)
@click.option(
    "--subs",
    multiple=True,
    metavar="CHANNEL",
    help="What the server is to subscribe the client to; may be repeated.",
)
@click.option(
    "--secret-file",
    type=click.File("rb"),
    help="The HMAC secret, or a private key in PEM; - for standard input.  "
    "[default: client.hmac_secret of the settings]",
)
@config_option
def make(
    user: str,
    channel: str | None,
    expires: int | None,
    info: Any,
    subs: tuple[str, ...],
    secret_file: IO[bytes] | None,
    config: Path | None,
) -> None:
    """Print a token that opens a connection, or a subscription.

    It is signed with the server's own HMAC secret, or with a key of your own. Audience
    and issuer are what the settings ask for.
    """
    if channel == "":
        raise click.UsageError("--channel is empty")
    if channel is not None and subs:
        raise click.UsageError("--subs is for tokens that open a connection")
    for option, names in (("--channel", (channel,)), ("--subs", subs)):
        for name in names:
            if name is not None and (fault := _fault(name)):
                raise click.UsageError(f"{option}: {fault}")
    client = load(config).settings.client
    now = time.time()
    claims = {
        "sub": user,
        "channel": channel,
        "iat": int(now),
        "exp": None if expires is None else int(now) + expires,
        "aud": client.audience,
        "iss": client.issuer,
        "info": info,
        "subs": {each: {} for each in subs} or None,
    }
    given = {name: claim for name, claim in claims.items() if claim is not None}
    made = _signed(given, client, secret_file)
    click.echo(made)
    told = Inspection(made, client, now)
    if client.has_keys and not told.is_accepted:
        click.echo(f"Warning: the server would refuse it: {told.answer}", err=True)


@token.command()
@click.argument("text", metavar="TOKEN")
@config_option
def inspect(text: str, config: Path | None) -> None:
    """Say what is in TOKEN, and what the server would answer a client that has it.

    TOKEN may be -, for standard input, where other users do not see it.

    \b
    Exit codes: 0 genuine and valid; 1 not; 2 wrong options or settings.
    """
    if text == "-":
        text = sys.stdin.buffer.read().decode(errors="replace")
    text = text.strip()
    if not text:
        raise click.UsageError("TOKEN is empty")
    told = Inspection(text, load(config).settings.client, time.time())
    lines = told.lines()
    width = max(map(len, lines))
    for name, line in lines.items():
        click.echo(f"{name:<{width}}  {line}")
    sys.exit(0 if told.is_accepted else 1)


class Inspection:
    """What is in a token, and what the server would make of it.

    Args:
        text: the token, as it came.
        now: the time (s, Unix).

    Attributes:
        is_accepted: the client for whom it is may come in.
        answer: what that client is told, and why, in words.
    """

    def __init__(self, text: str, client: ClientSettings, now: float) -> None:
        self._text = text
        self._now = now
        self._verifier = token_verifier(client)
        header, _, rest = text.partition(".")
        claims = _part(rest.partition(".")[0])
        self._parts = {"header": _shown(_part(header)), "claims": _shown(claims)}
        self._claims: dict[str, Any] = claims if isinstance(claims, dict) else {}
        self.is_accepted, self.answer = self._judge(client)

    def lines(self) -> dict[str, str]:
        """Return {what: what is said of it}."""
        return {
            **self._parts,
            "signature": self._signature(),
            **self._times(),
            "answer": self.answer,
        }

    def _judge(self, client: ClientSettings) -> tuple[bool, str]:
        verifier, now = self._verifier, self._now
        user, channel = self._claims.get("sub") or "", self._claims.get("channel")
        answer: tokens.ConnectGrant | tokens.SubscribeGrant | tokens.Refusal
        if not isinstance(channel, str) or not channel:
            what, anonymous = "connection", client.anonymous
            answer = tokens.connect(verifier, self._text, now=now, anonymous=anonymous)
        else:
            what = f"subscription to {_shown(channel)}"
            answer = tokens.subscribe(
                verifier,
                self._text,
                channel=channel,
                user=str(user),
                client=str(self._claims.get("client") or ""),
                now=now,
            )
        if isinstance(answer, frames.Error):
            return False, f"error {answer.code} {answer.message} ({self._why(answer)})"
        if isinstance(answer, frames.DisconnectPush):
            told = f"disconnect {answer.code} {answer.reason}"
            return False, f"{told} ({self._why(answer)})"
        if fault := self._no_channel(answer, client, channel):
            error = Errors.BAD_REQUEST
            return False, f"error {error.code} {error.message} ({fault})"
        whom = f"user {_shown(user)}" if user else "an anonymous user"
        if answer.expires_at is None:
            return True, f"{what} accepted for {whom}, without end"
        left = in_words(answer.expires_at - now)
        return True, f"{what} accepted for {whom}, to be refreshed in {left}"

    def _no_channel(
        self,
        grant: tokens.ConnectGrant | tokens.SubscribeGrant,
        client: ClientSettings,
        channel: object,
    ) -> str:
        """Return what is wrong with a channel that the client would get, or nothing."""
        if isinstance(grant, tokens.SubscribeGrant):
            return _fault(str(channel))
        if client.personal is not None and grant.user:
            try:
                personal_channel(client.personal, grant.user)
            except InvalidTopic as error:
                return str(error)
        return next(filter(None, map(_fault, grant.subs)), "")

    def _why(self, answer: tokens.Refusal) -> str:
        """Return what clients are not told."""
        if self._verifier is None:
            return "the settings have no key"
        if answer == Errors.EXPIRED:
            return "expire_at is over"
        try:
            self._verifier.verify(self._text, now=self._now)
        except (tokens.TokenInvalid, tokens.TokenExpired) as error:
            return str(error)
        return "a claim is not what it should be"

    def _signature(self) -> str:
        if self._verifier is None:
            return "not checked: the settings have no key"
        try:
            self._verifier.signed(self._text)
        except tokens.TokenInvalid as error:
            return f"not genuine: {error}"
        return "genuine"

    def _times(self) -> dict[str, str]:
        found = {}
        for name, (past, future) in TIMES.items():
            at = self._claims.get(name)
            if isinstance(at, int | float) and not isinstance(at, bool):
                words = past if at <= self._now else future
                left = in_words(abs(at - self._now))
                found[name] = f"{_date(at)}, {words.format(left)}"
        if self._claims.get("expire_at") == 0:
            found["expire_at"] = "never: what it opens lasts"
        return found


def _fault(channel: str) -> str:
    """Return what is wrong with the name of a channel, or nothing."""
    try:
        check_topic(channel)
    except InvalidTopic as error:
        return str(error)
    return ""


def _signed(
    claims: dict[str, Any], client: ClientSettings, file: IO[bytes] | None
) -> str:
    if file is not None:
        # As of the settings' files: a line end at the end is no part of the secret.
        key = file.read().removesuffix(b"\n").removesuffix(b"\r")
        source = "--secret-file"
    elif client.hmac_secret is not None:
        key = client.hmac_secret.text.encode()
        source = "client.hmac_secret"
    else:
        raise click.UsageError(
            "nothing to sign with: set client.hmac_secret, or give --secret-file"
        )
    try:
        from adapters.tokens import JwtSigner

        return JwtSigner(key).sign(claims)
    except (ValueError, ModuleNotFoundError) as error:
        problem = str(error).removeprefix("hmac_secret ")
        raise click.UsageError(f"{source}: {problem}") from error


def _date(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "no date of this calendar"


def in_words(seconds: float) -> str:
    """Return a time (s, >= 0) as people say it."""
    for unit_s, word in WORDS:
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {word}"
    return f"{seconds:.0f} s"


def _part(text: str) -> Any:
    """Return what a part of a token says; None if that cannot be read."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None


def _shown(said: object) -> str:
    # ASCII: what anybody wrote into a token is not to steer this terminal.
    return "cannot be read" if said is None else json.dumps(said)

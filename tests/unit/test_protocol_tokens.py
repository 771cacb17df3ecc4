"""What a token's claims allow, and what its client is told where they do not."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from broker.protocol import tokens
from broker.protocol.codes import Disconnects, Errors
from broker.protocol.frames import NO_DATA
from broker.protocol.tokens import (
    ConnectGrant,
    Flag,
    Override,
    SubscribeGrant,
    TokenExpired,
    TokenInvalid,
    check_registered,
)

NOW = 1_700_000_000.0


class Signed:
    """A verifier to whom a token is its own claims: ``expired`` and ``forged`` not."""

    def verify(self, token: str, *, now: float) -> bytes:
        if token == "forged":
            raise TokenInvalid("forged")
        if token == "expired":
            raise TokenExpired("expired")
        claims = token.encode("utf-8", "surrogateescape")
        check_registered(claims, now=now)
        return claims


def connect(*, anonymous: bool = False, **claims: Any) -> ConnectGrant | tokens.Refusal:
    return tokens.connect(Signed(), json.dumps(claims), now=NOW, anonymous=anonymous)


def subscribe(user: str = "u1", **claims: Any) -> SubscribeGrant | tokens.Refusal:
    return tokens.subscribe(
        Signed(), json.dumps(claims), channel="t", user=user, client="c1", now=NOW
    )


# --- Connections ---


def test_a_connection_token() -> None:
    grant = connect(
        sub="u1",
        exp=NOW + 60,
        iat=NOW,
        jti="x",
        info={"name": "Ann"},
        meta=[1],
        channels=["a", "b"],
    )
    assert grant == ConnectGrant(
        user="u1",
        info=Raw(b'{"name": "Ann"}'),
        subs={"a": SubscribeGrant(), "b": SubscribeGrant()},
        meta=Raw(b"[1]"),
        expires_at=NOW + 60,
    )
    assert isinstance(grant, ConnectGrant)
    assert grant.ttl_s(NOW) == 60


def test_subscriptions_with_options() -> None:
    options = {
        "info": {"seat": 1},
        "b64data": b64encode(b'{"a":\n1}').decode(),
        "override": {"presence": {"value": True}, "force_recovery": {}, "new": {}},
    }
    grant = connect(sub="u1", subs={"a": options}, channels=["ignored"])
    assert grant == ConnectGrant(
        user="u1",
        subs={
            "a": SubscribeGrant(
                info=Raw(b'{"seat": 1}'),
                data=Raw(b'{"a":1}'),
                override=Override(presence=Flag(True), force_recovery=Flag(False)),
            )
        },
    )


def test_base64_goes_first_and_need_not_be_json() -> None:
    grant = connect(info={"a": 1}, b64info=b64encode(b"\xff").decode())
    assert grant == ConnectGrant(info=Raw(b'"/w=="'))


def test_null_claims_are_absent() -> None:
    names = ["sub", "exp", "nbf", "iat", "aud", "iss", "b64info", "channels", "subs"]
    claims: dict[str, Any] = dict.fromkeys([*names, "expire_at", "channel"])
    assert connect(**claims) == ConnectGrant()


@pytest.mark.parametrize(
    ("claims", "expires_at", "ttl_s"),
    [
        ({}, None, 0),
        ({"exp": NOW + 60.5}, NOW + 60.5, 60),
        ({"exp": NOW + 0.5}, NOW + 0.5, 1),
        ({"exp": NOW + 60, "expire_at": 0}, None, 0),
        ({"exp": NOW + 60, "expire_at": NOW + 5}, NOW + 5, 5),
        ({"expire_at": NOW + 5}, NOW + 5, 5),
        ({"exp": 2**53}, 2**53, 2**32 - 1),
    ],
)
def test_when_a_connection_expires(
    claims: dict[str, Any], expires_at: float | None, ttl_s: int
) -> None:
    grant = connect(**claims)
    assert isinstance(grant, ConnectGrant)
    assert (grant.expires_at, grant.ttl_s(NOW)) == (expires_at, ttl_s)
    grant_of_one = subscribe(sub="u1", channel="t", **claims)
    assert isinstance(grant_of_one, SubscribeGrant)
    assert (grant_of_one.expires_at, grant_of_one.ttl_s(NOW)) == (expires_at, ttl_s)


def test_no_token() -> None:
    assert tokens.connect(None, "", now=NOW) == Disconnects.BAD_REQUEST
    assert tokens.connect(Signed(), "", now=NOW) == Disconnects.BAD_REQUEST
    assert tokens.connect(Signed(), "", now=NOW, anonymous=True) == ConnectGrant()


def test_no_verifier_trusts_no_token() -> None:
    assert tokens.connect(None, "{}", now=NOW) == Disconnects.INVALID_TOKEN
    # Not even where who has none may come.
    refused = tokens.connect(None, "{}", now=NOW, anonymous=True)
    assert refused == Disconnects.INVALID_TOKEN


def test_connections_refused() -> None:
    verifier = Signed()
    assert tokens.connect(verifier, "expired", now=NOW) == Errors.TOKEN_EXPIRED
    assert tokens.connect(verifier, "forged", now=NOW) == Disconnects.INVALID_TOKEN
    assert connect(exp=NOW) == Errors.TOKEN_EXPIRED
    assert connect(nbf=NOW + 1) == Errors.TOKEN_EXPIRED
    assert connect(expire_at=NOW) == Errors.EXPIRED
    assert connect(sub="u1", channel="t") == Disconnects.INVALID_TOKEN


WRONG: list[dict[str, Any]] = [
    {"sub": 1},
    {"exp": "tomorrow"},
    {"exp": True},
    {"exp": -1},
    {"exp": 10**400},
    {"expire_at": 10**400},
    {"nbf": []},
    {"channels": "a"},
    {"channels": [1]},
    {"subs": ["a"]},
    {"subs": {"a": 1}},
    {"subs": {"a": {"b64info": "%"}}},
    {"b64info": "%"},
    {"b64info": "é"},
    {"b64info": 1},
]


@pytest.mark.parametrize("claims", WRONG)
def test_claims_of_wrong_kinds(claims: dict[str, Any]) -> None:
    assert connect(**claims) == Disconnects.INVALID_TOKEN


@pytest.mark.parametrize(
    "token",
    [
        "[]",
        "null",
        "x",
        '{"info":"\udcff"}',
        '{"info":' + "[" * 5000,
        '{"sub":"\\ud800"}',
    ],
)
def test_claims_that_are_no_json_object(token: str) -> None:
    assert tokens.connect(Signed(), token, now=NOW) == Disconnects.INVALID_TOKEN


class Blind:
    """A verifier that looks at nothing: what a careless application may write."""

    def verify(self, token: str, *, now: float) -> bytes:
        return token.encode("utf-8", "surrogateescape")


@given(st.binary(max_size=50))
def test_a_careless_verifier_breaks_nothing(claims: bytes) -> None:
    token = claims.decode("utf-8", "surrogateescape") or "x"
    outcome = tokens.connect(Blind(), token, now=NOW)
    assert outcome == Disconnects.INVALID_TOKEN or isinstance(outcome, ConnectGrant)


# --- Refreshing ---


def test_refreshing_a_connection() -> None:
    def refresh(token: str) -> ConnectGrant | tokens.Refusal:
        return tokens.refresh(Signed(), token, user="u1", now=NOW)

    token = json.dumps({"sub": "u1", "exp": NOW + 60})
    assert refresh(token) == ConnectGrant("u1", expires_at=NOW + 60)
    assert refresh("") == Disconnects.BAD_REQUEST
    assert refresh("expired") == Errors.EXPIRED
    assert refresh("forged") == Disconnects.INVALID_TOKEN
    assert refresh('{"sub":"u2"}') == Disconnects.INVALID_TOKEN
    assert refresh("{}") == Disconnects.INVALID_TOKEN


def test_refreshing_a_subscription() -> None:
    def refresh(token: str) -> SubscribeGrant | tokens.Refusal:
        return tokens.sub_refresh(
            Signed(), token, channel="t", user="u1", client="c1", now=NOW
        )

    token = json.dumps({"sub": "u1", "channel": "t", "exp": NOW + 60})
    assert refresh(token) == SubscribeGrant(expires_at=NOW + 60)
    assert refresh("") == Disconnects.BAD_REQUEST
    assert refresh("expired") == Errors.EXPIRED
    assert refresh("forged") == Disconnects.INVALID_TOKEN
    assert refresh('{"sub":"u1","channel":"x"}') == Disconnects.INVALID_TOKEN


# --- Subscriptions ---


def test_a_subscription_token() -> None:
    assert subscribe(
        sub="u1",
        channel="t",
        info=1,
        data=None,
        exp=NOW + 9,
        override={"join_leave": {"value": True}},
    ) == SubscribeGrant(
        info=Raw(b"1"),
        data=Raw(b"null"),
        override=Override(join_leave=Flag(True)),
        expires_at=NOW + 9,
    )


def test_an_anonymous_subscription() -> None:
    assert subscribe(user="", channel="t") == SubscribeGrant()
    assert subscribe(user="", sub="", channel="t") == SubscribeGrant()
    assert SubscribeGrant().info is NO_DATA


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "u1"},
        {"sub": "u1", "channel": ""},
        {"sub": "u1", "channel": "other"},
        {"sub": "u2", "channel": "t"},
        {"channel": "t"},
        {"sub": "", "channel": "t"},
        {"sub": "u1", "channel": "t", "client": "c2"},
        {"sub": "u2", "channel": "t", "client": "c1"},
    ],
)
def test_genuine_tokens_of_somebody_else(claims: dict[str, Any]) -> None:
    assert subscribe(**claims) == Disconnects.INVALID_TOKEN


def test_no_channel_is_nobodys() -> None:
    outcome = tokens.subscribe(
        Signed(), '{"channel":""}', channel="", user="", client="c1", now=NOW
    )
    assert outcome == Disconnects.INVALID_TOKEN


def test_a_legacy_token_names_the_client() -> None:
    assert subscribe(channel="t", client="c1") == SubscribeGrant()
    assert subscribe(channel="t", client="c1", sub="u1") == SubscribeGrant()


def test_subscriptions_refused() -> None:
    def outcome(token: str) -> SubscribeGrant | tokens.Refusal:
        return tokens.subscribe(
            Signed(), token, channel="t", user="u1", client="c1", now=NOW
        )

    assert outcome("expired") == Errors.TOKEN_EXPIRED
    assert outcome("forged") == Errors.PERMISSION_DENIED
    assert outcome("[]") == Errors.PERMISSION_DENIED
    assert subscribe(channel="t", sub="u1", b64data="%") == Errors.PERMISSION_DENIED
    assert subscribe(channel="t", sub="u1", expire_at=NOW) == Errors.EXPIRED
    # Whose token it is comes before whether it is over.
    stolen = subscribe(channel="t", sub="u2", expire_at=NOW)
    assert stolen == Disconnects.INVALID_TOKEN


# --- Registered claims ---


@pytest.mark.parametrize(
    ("claims", "leeway_s", "error"),
    [
        ({"exp": NOW}, 0, TokenExpired),
        ({"exp": NOW + 0.1}, 0, None),
        ({"exp": NOW - 4}, 5, None),
        ({"exp": NOW - 5}, 5, TokenExpired),
        ({"nbf": NOW}, 0, None),
        ({"nbf": NOW + 1}, 0, TokenExpired),
        ({"nbf": NOW + 5}, 5, None),
        ({"iat": NOW + 99}, 0, None),
        ({}, 0, None),
    ],
)
def test_times(
    claims: dict[str, Any], leeway_s: float, error: type[Exception] | None
) -> None:
    data = json.dumps(claims).encode()
    if error is None:
        check_registered(data, now=NOW, leeway_s=leeway_s)
    else:
        with pytest.raises(error):
            check_registered(data, now=NOW, leeway_s=leeway_s)


@pytest.mark.parametrize(
    ("claims", "valid"),
    [
        ({"aud": "us", "iss": "it"}, True),
        ({"aud": ["them", "us"], "iss": "it"}, True),
        ({"aud": "them", "iss": "it"}, False),
        ({"aud": "u", "iss": "it"}, False),
        ({"aud": [], "iss": "it"}, False),
        ({"iss": "it"}, False),
        ({"aud": "us"}, False),
        ({"aud": "us", "iss": "other"}, False),
        ({"aud": "us", "iss": ["it"]}, False),
        ({"aud": 1, "iss": "it"}, False),
        # Who may not come at all is not asked for a fresh token.
        ({"aud": "them", "iss": "it", "exp": 1}, False),
    ],
)
def test_addressees(claims: dict[str, Any], valid: bool) -> None:
    data = json.dumps(claims).encode()
    if valid:
        check_registered(data, now=NOW, audience="us", issuer="it")
    else:
        with pytest.raises(TokenInvalid):
            check_registered(data, now=NOW, audience="us", issuer="it")

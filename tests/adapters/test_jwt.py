"""Real keys, real tokens, and the ways people forge them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from adapters.tokens import MAX_KEYS, MAX_TOKEN_BYTES, JwtSigner, JwtVerifier
from broker.protocol import tokens
from broker.protocol.codes import Disconnects, Errors
from broker.protocol.tokens import TokenExpired, TokenInvalid, TokenVerifier

NOW = 1_700_000_000.0
SECRET = "s" * 64
RSA = rsa.generate_private_key(65537, 2048)
RSA_2 = rsa.generate_private_key(65537, 2048)
EC = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED = ed25519.Ed25519PrivateKey.generate()
CLAIMS: dict[str, Any] = {"sub": "u1", "exp": int(NOW) + 60}

# {algorithm: the key that signs}
SIGNING: dict[str, Any] = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), SECRET),
    **dict.fromkeys(("RS256", "RS384", "RS512"), RSA),
    **EC,
    "EdDSA": ED,
}


def pem(key: Any) -> bytes:
    data = key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    assert isinstance(data, bytes)
    return data


def private(key: Any, password: bytes = b"") -> bytes:
    how: KeySerializationEncryption = NoEncryption()
    if password:
        how = BestAvailableEncryption(password)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
    assert isinstance(data, bytes)
    return data


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        made = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(public, as_dict=True)
    made = {name: made[name] for name in made if name != "key_ops"}
    return {**made, **more}


def signed(
    algorithm: str = "HS256",
    key: Any = None,
    kid: str | None = None,
    **claims: Any,
) -> str:
    headers = None if kid is None else {"kid": kid}
    used = SIGNING[algorithm] if key is None else key
    return jwt.encode({**CLAIMS, **claims}, used, algorithm, headers)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: Any, payload: bytes = b"{}", secret: bytes = b"") -> str:
    """A token with any header, signed with HMAC, whatever the header says."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = f"{b64(head)}.{b64(payload)}"
    signature = hmac.digest(secret, said.encode(), hashlib.sha256) if secret else b""
    return f"{said}.{b64(signature)}"


ALL = JwtVerifier(
    hmac_secret=SECRET,
    public_keys=[pem(RSA), *map(pem, EC.values()), pem(ED).decode()],
)
IS_A_VERIFIER: TokenVerifier = ALL  # mypy checks


def refused(verifier: JwtVerifier, token: str) -> str:
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(token, now=NOW)
    return str(caught.value)


# --- Genuine ---


@pytest.mark.parametrize("algorithm", SIGNING)
def test_every_algorithm(algorithm: str) -> None:
    claims = ALL.verify(signed(algorithm, info={"a": 1}), now=NOW)
    assert json.loads(claims) == {**CLAIMS, "info": {"a": 1}}


@pytest.mark.parametrize("algorithm", SIGNING)
def test_a_changed_token(algorithm: str) -> None:
    head, _, signature = signed(algorithm).split(".")
    changed = b64(json.dumps({**CLAIMS, "sub": "admin"}).encode())
    assert refused(ALL, f"{head}.{changed}.{signature}") == (
        "no key of ours has signed it"
    )
    assert refused(ALL, f"{head}.{changed}.") == "no key of ours has signed it"


def test_it_works_with_the_protocol() -> None:
    grant = tokens.connect(ALL, signed("ES256"), now=NOW)
    assert grant == tokens.ConnectGrant("u1", expires_at=NOW + 60)
    assert tokens.connect(ALL, signed(), now=NOW + 60) == Errors.TOKEN_EXPIRED
    assert tokens.connect(ALL, "x", now=NOW) == Disconnects.INVALID_TOKEN


def test_times_audience_and_issuer() -> None:
    verifier = JwtVerifier(hmac_secret=SECRET, audience="us", issuer="it", leeway_s=5)
    token = signed(aud="us", iss="it")
    assert verifier.verify(token, now=NOW + 64)
    with pytest.raises(TokenExpired):
        verifier.verify(token, now=NOW + 65)
    with pytest.raises(TokenExpired):
        verifier.verify(signed(aud="us", iss="it", nbf=NOW + 6), now=NOW)
    assert refused(verifier, signed(aud="them", iss="it")) == (
        "meant for another audience"
    )
    assert refused(verifier, signed(iss="it")) == "meant for another audience"
    assert refused(verifier, signed(aud="us", iss="x")) == "made by another issuer"


def test_a_forged_token_is_never_called_expired() -> None:
    """That would tell a forger that the rest was right."""
    assert refused(ALL, signed(key="x" * 64, exp=1)) == "no key of ours has signed it"


def test_a_signature_is_genuine_whatever_it_is_for() -> None:
    verifier = JwtVerifier(hmac_secret=SECRET, audience="us")
    over = signed(exp=1, aud="them")
    assert json.loads(verifier.signed(over))["exp"] == 1
    with pytest.raises(TokenInvalid, match="no key of ours"):
        verifier.signed(signed("RS256"))
    with pytest.raises(TokenInvalid, match="too long"):
        verifier.signed("a" * 10_000)


# --- Made ---


@pytest.mark.parametrize("key", [SECRET, RSA, *EC.values(), ED])
def test_what_is_made_is_genuine(key: Any) -> None:
    signer = JwtSigner(key if isinstance(key, str) else private(key))
    claims = {"sub": "ü", "info": None}
    token = signer.sign(claims)
    assert jwt.get_unverified_header(token) == {"alg": signer.algorithm, "typ": "JWT"}
    assert json.loads(ALL.verify(token, now=NOW)) == claims


def test_each_key_has_its_algorithm() -> None:
    keys = {"RS256": RSA, **EC, "EdDSA": ED}
    for algorithm, key in keys.items():
        assert JwtSigner(private(key).decode()).algorithm == algorithm
    assert JwtSigner(b"s" * 64).algorithm == "HS256"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key": ""}, "shorter than 32"),
        ({"key": "s" * 31}, "shorter than 32"),
        ({"key": json.dumps(jwk(RSA))}, "another kind of key"),
        ({"key": pem(RSA)}, "not a private key in PEM"),
        ({"key": b"-----BEGIN PRIVATE KEY-----"}, "not a private key in PEM"),
        ({"key": private(RSA, b"password")}, "encrypted"),
        ({"key": private(rsa.generate_private_key(65537, 1024))}, "strength"),
        ({"key": private(ec.generate_private_key(ec.SECP256K1()))}, "kind"),
        ({"key": private(ed448.Ed448PrivateKey.generate())}, "kind"),
    ],
)
def test_keys_that_cannot_sign(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        JwtSigner(**options)


# --- Forged ---


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_no_algorithm(name: str) -> None:
    assert refused(ALL, forged({"alg": name})) == "no key of ours has signed it"


@pytest.mark.parametrize("name", ["HS256", "RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(name: str) -> None:
    """Algorithm confusion: HMAC with the bytes of the public key, which all know."""
    only_rsa = JwtVerifier(public_keys=[pem(RSA)])
    for secret in (pem(RSA), pem(RSA).strip(), json.dumps(jwk(RSA)).encode()):
        refused(only_rsa, forged({"alg": name}, secret=secret))
        refused(ALL, forged({"alg": name}, secret=secret))
    with pytest.raises(ValueError, match="another kind of key"):
        JwtVerifier(hmac_secret=pem(RSA))
    with pytest.raises(ValueError, match="another kind of key"):
        JwtVerifier(hmac_secret=json.dumps(jwk(RSA)))


def test_a_key_of_the_tokens_own() -> None:
    """`jwk`, `jku` and `x5u` in a header are the forger's words."""
    header = {"jwk": jwk(RSA_2), "jku": "https://evil.example/jwks", "x5u": "x"}
    token = jwt.encode(CLAIMS, RSA_2, "RS256", header)
    refused(ALL, token)
    secret = b"x" * 32
    own = {"kty": "oct", "k": b64(secret)}
    refused(ALL, forged({"alg": "HS256", "jwk": own}, secret=secret))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {"a": 1}},
        {"alg": "HS256", "kid": 1},
        {"alg": "HS256", "crit": ["exp"], "exp": 1},
        {"alg": "HS256", "crit": "b64"},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
        {"alg": "PS256"},
        {"alg": "ES256K"},
        [],
        None,
        b"",
        b"{",
        b"\xff",
        b"[" * 5000,
        b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"alg":"HS256","n":' + b"9" * 5000 + b"}",
    ],
)
def test_strange_headers(header: Any) -> None:
    refused(ALL, forged(header, secret=SECRET.encode()))


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", b"\xff", b'{"exp":"x"}', b'{"a":' + b"[" * 3000]
)
def test_signed_nonsense(payload: bytes) -> None:
    token = forged({"alg": "HS256"}, payload, SECRET.encode())
    assert refused(ALL, token) == "claims are not what they should be"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "....", "é.é.é", "\ud800"])
def test_garbage(token: str) -> None:
    refused(ALL, token)


@given(st.text(max_size=60) | st.from_regex(r"[\w=-]*\.[\w=-]*\.[\w=-]*"))
def test_any_garbage(token: str) -> None:
    refused(ALL, token)


@given(st.data())
def test_every_bit_counts(data: st.DataObject) -> None:
    token = signed(data.draw(st.sampled_from(["HS256", "RS256", "ES256", "EdDSA"])))
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != token[at]))
    refused(ALL, token[:at] + other + token[at + 1 :])


def test_huge_tokens_are_not_looked_at() -> None:
    fits = signed(info="x" * 5000)
    assert len(fits) <= MAX_TOKEN_BYTES
    assert ALL.verify(fits, now=NOW)
    for token in (signed(info="x" * 6500), "a" * 10_000_000, "." * 10_000_000):
        assert refused(ALL, token) == "too long, or not ASCII"
    assert refused(JwtVerifier(hmac_secret=SECRET, max_token_bytes=10), fits)


# --- Keys ---


def test_a_secret_goes_with_what_it_is_long_enough_for() -> None:
    """RFC 7518, section 3.2; and PyJWT would warn at every token."""
    verifier = JwtVerifier(hmac_secret=b"s" * 48)
    for name in ("HS256", "HS384"):
        assert verifier.verify(signed(name, b"s" * 48), now=NOW)
    assert refused(verifier, forged({"alg": "HS512"}, secret=b"s" * 48))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "no key"),
        ({"hmac_secret": ""}, "shorter than 32"),
        ({"hmac_secret": "s" * 31}, "shorter than 32"),
        ({"public_keys": ["x"]}, "not a public key in PEM"),
        ({"public_keys": [pem(rsa.generate_private_key(65537, 1024))]}, "strength"),
        ({"public_keys": [pem(ec.generate_private_key(ec.SECP256K1()))]}, "kind"),
        ({"public_keys": [pem(ed448.Ed448PrivateKey.generate())]}, "kind"),
        ({"public_keys": [pem(dsa.generate_private_key(1024))]}, "kind"),
        ({"public_keys": [pem(RSA)] * (MAX_KEYS + 1)}, "more than 32"),
        ({"hmac_secret": SECRET, "leeway_s": -1}, "leeway_s"),
        ({"jwks": "x"}, "is not JSON"),
        ({"jwks": b"\xff"}, "is not JSON"),
        ({"jwks": "[" * 5000}, "is not JSON"),
        ({"jwks": "[]"}, "not a key set"),
        ({"jwks": "{}"}, "not a key set"),
        ({"jwks": {"keys": {}}}, "not a key set"),
        ({"jwks": {"keys": []}}, "no usable key"),
        ({"jwks": {"keys": [jwk(RSA)] * (MAX_KEYS + 1)}}, "more than 32"),
    ],
)
def test_keys_that_cannot_be_used(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        JwtVerifier(**options)


def test_keys_of_a_set_are_found_by_their_id() -> None:
    keys = [jwk(RSA, kid="a"), jwk(RSA_2, kid="b", use="sig"), jwk(ED, alg="EdDSA")]
    verifier = JwtVerifier(jwks=json.dumps({"keys": keys}))
    assert verifier.verify(signed("RS256", RSA, "a"), now=NOW)
    assert verifier.verify(signed("RS512", RSA_2, "b"), now=NOW)
    assert verifier.verify(signed("RS256", RSA_2), now=NOW)
    assert verifier.verify(signed("EdDSA", ED, "any"), now=NOW)
    refused(verifier, signed("RS256", RSA, "b"))
    refused(verifier, signed("RS256", RSA, "c"))


@pytest.mark.parametrize("name", EC)
def test_curves_in_a_set(name: str) -> None:
    verifier = JwtVerifier(jwks={"keys": [jwk(EC[name])]})
    assert verifier.verify(signed(name), now=NOW)


def test_a_key_that_says_its_algorithm_takes_no_other() -> None:
    verifier = JwtVerifier(jwks={"keys": [jwk(RSA, alg="RS512")]})
    assert verifier.verify(signed("RS512"), now=NOW)
    refused(verifier, signed("RS256"))


@pytest.mark.parametrize(
    "other",
    [
        jwk(RSA_2, use="enc"),
        jwk(RSA_2, key_ops=["encrypt"]),
        jwk(RSA_2, key_ops="verify"),
        jwk(RSA_2, alg="PS256"),
        jwk(RSA_2, alg="RSA-OAEP"),
        jwk(RSA_2, alg="HS256"),
        jwk(RSA_2, alg=1),
        jwk(RSA_2, kid=1),
        jwk(RSA_2, n="!"),
        jwk(RSA_2, n=None),
        jwk(RSA_2, kty="EC"),
        jwk(EC["ES256"], x="AA"),
        jwk(EC["ES256"], crv="P-999"),
        jwk(ec.generate_private_key(ec.SECP256K1())),
        jwk(rsa.generate_private_key(65537, 1024)),
        RSAAlgorithm.to_jwk(RSA_2, as_dict=True),
        HMACAlgorithm.to_jwk("k" * 64, as_dict=True),
        {"kty": "future"},
        {},
        None,
        "key",
    ],
)
def test_other_keys_of_a_set_are_passed_over(other: Any) -> None:
    verifier = JwtVerifier(jwks={"keys": [other, jwk(RSA)]})
    assert verifier.verify(signed("RS256"), now=NOW)
    refused(verifier, signed("RS256", RSA_2))
    refused(verifier, signed("HS256", "k" * 64))


def test_keys_are_replaced() -> None:
    verifier = JwtVerifier(hmac_secret=SECRET, jwks={"keys": [jwk(RSA)]})
    verifier.set_jwks({"keys": [jwk(RSA_2)]})
    assert verifier.verify(signed("RS256", RSA_2), now=NOW)
    refused(verifier, signed("RS256", RSA))
    with pytest.raises(ValueError, match="no usable key"):
        verifier.set_jwks({"keys": []})
    assert verifier.verify(signed("RS256", RSA_2), now=NOW)
    assert verifier.verify(signed(), now=NOW)


def test_a_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['jwt'] = None; import adapters.tokens"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[jwt]'" in run.stderr

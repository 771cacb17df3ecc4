"""JSON Web Tokens for the Centrifuge client protocol, checked and made with PyJWT."""

# PyJWT, not joserfc: both refuse what is tried here, PyJWT needs no more than
# cryptography, and is what FastAPI's and Django's users have installed already.

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

try:
    import jwt
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_pem_public_key,
    )
    from jwt.algorithms import HMACAlgorithm
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.tokens needs PyJWT and cryptography: pip install 'asgi-broker[jwt]'"
    ) from error

from broker.protocol.tokens import TokenInvalid, check_registered

__all__ = ("MAX_KEYS", "MAX_TOKEN_BYTES", "JwtSigner", "JwtVerifier")

# Source: what HTTP servers take as a whole header line (nginx, Apache, hypercorn).
MAX_TOKEN_BYTES = 8192
MAX_KEYS = 32  # guess: sets in the wild have two to four; each may cost one check
MIN_RSA_BITS = 2048  # Source: RFC 7518, section 3.3

PublicKey: TypeAlias = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
)

# {curve: the algorithm that RFC 7518, section 3.4, ties to it}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA = frozenset({"RS256", "RS384", "RS512"})
# {algorithm: shortest secret (bytes)}. Source: RFC 7518, section 3.2
_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}


@dataclass(frozen=True, slots=True)
class _Key:
    """A key, and the only algorithms it is ever used with."""

    key: PublicKey | bytes
    algorithms: frozenset[str]
    kid: str | None = None


class JwtVerifier:
    """Checks tokens against keys that were given beforehand; asks nobody.

    A key's own type decides which algorithms it is used with, never the token: a token
    that names another is refused before any key is touched. That leaves no room for
    ``none``, nor for a public key taken as a shared secret. An EC key goes with one
    algorithm, by its curve; a shared secret with those that it is long enough for.

    Every token costs bounded work: its length is limited, and so are the keys. Of
    these only such are tried as fit the token's algorithm and, where both have one,
    its key id.

    Safe to call from several threads, also while ``set_jwks`` is called.

    Args:
        hmac_secret: for HS256 (from 32 bytes), HS384 (48), HS512 (64).
        public_keys: in PEM: RSA from 2048 bits (RS256, RS384, RS512), EC on P-256,
            P-384, P-521 (ES256, ES384, ES512), Ed25519 (EdDSA).
        jwks: as for ``set_jwks``.
        audience: must be among a token's ``aud``; None does not look.
        issuer: must be a token's ``iss``; None does not look.
        leeway_s: how far clocks may be apart (s, >= 0).
        max_token_bytes: longer ones are refused unseen (> 0).

    Raises:
        ValueError: a key that cannot be used, more than 32, or none at all.
    """

    def __init__(
        self,
        *,
        hmac_secret: str | bytes | None = None,
        public_keys: Iterable[str | bytes] = (),
        jwks: str | bytes | Mapping[str, Any] | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        leeway_s: float = 0,
        max_token_bytes: int = MAX_TOKEN_BYTES,
    ) -> None:
        if leeway_s < 0:
            raise ValueError("leeway_s is below 0")
        self._audience = audience
        self._issuer = issuer
        self._leeway_s = leeway_s
        self._max_token_bytes = max_token_bytes
        fixed = [_pem_key(pem) for pem in public_keys]
        if hmac_secret is not None:
            fixed.append(_secret_key(hmac_secret))
        if not fixed and jwks is None:
            raise ValueError("no key: give hmac_secret, public_keys or jwks")
        self._fixed = tuple(fixed)
        self._keys = _bounded(self._fixed)
        if jwks is not None:
            self.set_jwks(jwks)

    def set_jwks(self, jwks: str | bytes | Mapping[str, Any]) -> None:
        """Take a set of public keys (RFC 7517) in place of the one before.

        Who fetches it, how often, and from where is the application's affair. Keys of
        unknown kinds or for other uses are passed over, and so are shared secrets,
        which have no place in a public set, private keys, and keys too weak to trust.

        Args:
            jwks: ``{"keys": [...]}``, as JSON or decoded.

        Raises:
            ValueError: not such a set, more than 32 keys, or not one usable. The set
                before stays.
        """
        try:
            read = json.loads(jwks) if isinstance(jwks, str | bytes) else jwks
        except (ValueError, RecursionError) as error:
            raise ValueError("not a key set: it is not JSON") from error
        keys = read.get("keys") if isinstance(read, Mapping) else None
        if not isinstance(keys, list):
            raise ValueError(  # noqa: TRY004  # bad JSON, not a caller's bad type
                "not a key set: it has no list of keys"
            )
        found = [key for jwk in _bounded(keys) if (key := _jwk_key(jwk)) is not None]
        if not found:
            raise ValueError("no usable key in the key set")
        self._keys = _bounded((*self._fixed, *found))

    def verify(self, token: str, *, now: float) -> bytes:
        """Return the claims of a genuine token; see ``TokenVerifier.verify``.

        Raises:
            TokenInvalid: too long, not a token, of no algorithm or key of ours, with a
                wrong signature, or for another audience or from another issuer.
            TokenExpired: genuine, but over, or not to be used yet.
        """
        claims = self.signed(token)
        check_registered(
            claims,
            now=now,
            leeway_s=self._leeway_s,
            audience=self._audience,
            issuer=self._issuer,
        )
        return claims

    def signed(self, token: str) -> bytes:
        """Return what a key of ours has signed, whatever it says, and for whenever.

        For people who look at a token; ``verify`` is what tells whether it counts.

        Raises:
            TokenInvalid: too long, not a token, of no algorithm or key of ours, or
                with a wrong signature.
        """
        # ASCII, so that characters are bytes.
        if not token.isascii() or len(token) > self._max_token_bytes:
            raise TokenInvalid("too long, or not ASCII")
        jws = jwt.PyJWS()
        try:
            header = jws.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenInvalid("not a token") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str):
            raise TokenInvalid("no algorithm")
        for key in self._keys:
            if algorithm not in key.algorithms:
                continue
            if kid is not None and key.kid is not None and kid != key.kid:
                continue
            try:
                signed = jws.decode_complete(token, key.key, algorithms=[algorithm])
            except (jwt.PyJWTError, ValueError):
                continue
            payload = signed["payload"]
            assert isinstance(payload, bytes)
            return payload
        raise TokenInvalid("no key of ours has signed it")


class JwtSigner:
    """Makes tokens that ``JwtVerifier`` takes for genuine, with one key.

    Args:
        key: a shared secret from 32 bytes (HS256), or a private key in PEM, not
            encrypted: RSA (RS256), EC (ES256, ES384 or ES512), Ed25519 (EdDSA).

    Attributes:
        algorithm: that it signs with.

    Raises:
        ValueError: a key that cannot be used, or that no verifier would take.
    """

    def __init__(self, key: str | bytes) -> None:
        data = key.encode() if isinstance(key, str) else key
        if b"-----BEGIN " not in data:
            _secret_key(data)
            self._key: Any = data
            self.algorithm = "HS256"
            return
        try:
            self._key = load_pem_private_key(data, None)
        except TypeError as error:
            raise ValueError("the private key is encrypted") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("not a private key in PEM") from error
        algorithms = _algorithms(self._key.public_key())
        if not algorithms:
            raise ValueError("a private key of a kind or strength that is not accepted")
        self.algorithm = min(algorithms)  # of RSA's three the usual one

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token of these claims, a JSON object; none is looked at or added."""
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return jwt.PyJWS().encode(payload, self._key, self.algorithm)


def _bounded(keys: Iterable[Any]) -> tuple[Any, ...]:
    found = tuple(keys)
    if len(found) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    return found


def _secret_key(secret: str | bytes) -> _Key:
    data = secret.encode() if isinstance(secret, str) else secret
    algorithms = frozenset(name for name, least in _HMAC.items() if len(data) >= least)
    if not algorithms:
        raise ValueError(f"hmac_secret is shorter than {min(_HMAC.values())} bytes")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(data)
    except jwt.PyJWTError as error:
        raise ValueError("hmac_secret looks like another kind of key") from error
    return _Key(data, algorithms)


def _pem_key(pem: str | bytes) -> _Key:
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a public key in PEM") from error
    algorithms = _algorithms(key)
    if not algorithms:
        raise ValueError("a public key of a kind or strength that is not accepted")
    assert isinstance(key, PublicKey)
    return _Key(key, algorithms)


def _jwk_key(jwk: object) -> _Key | None:
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    named, kid = jwk.get("alg"), jwk.get("kid")
    if not isinstance(named, str | None) or not isinstance(kid, str | None):
        return None
    try:
        key = jwt.PyJWK(jwk).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(key)
    if named is not None:
        algorithms &= {named}
    return _Key(key, algorithms, kid) if algorithms else None


def _algorithms(key: object) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA if key.key_size >= MIN_RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = _CURVES.get(key.curve.name)
        return frozenset() if name is None else frozenset({name})
    if isinstance(key, ed25519.Ed25519PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()

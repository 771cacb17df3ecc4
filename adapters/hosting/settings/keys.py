"""The secrets that settings name: keys of tokens and of the server API, and a URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from broker import UsageError
from broker.schemes import backplane_for

from .building import Section
from .schema import SECRET_FIELDS, ClientSettings, SettingsError
from .secret import Secret, read_text

if TYPE_CHECKING:
    from adapters.tokens import JwtVerifier

__all__ = ("check_backplane", "check_keys", "read_secrets", "token_verifier")

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def token_verifier(client: ClientSettings) -> JwtVerifier | None:
    """Return what tells genuine tokens from others; None if there are no keys.

    Raises:
        ValueError: a key or its file cannot be used.
        ModuleNotFoundError: what checks tokens is not installed; says what to install.
    """
    options: dict[str, Any] = {}
    for field, of_verifier in _OF_VERIFIER.items():
        if (given := getattr(client, field)) is not None:
            options |= of_verifier(given)
    if not options:
        return None
    from adapters.tokens import JwtVerifier  # needs an extra

    return JwtVerifier(
        **options,
        audience=client.audience,
        issuer=client.issuer,
        leeway_s=client.leeway_s,
    )


def read_secrets(sections: Mapping[str, Section]) -> None:
    """Put what secrets' files say where the secrets themselves would stand.

    Raises:
        SettingsError: a file cannot be read.
    """
    for key in SECRET_FIELDS:
        name, _, field = key.partition(".")
        section = sections[name]
        path = section.values.get(f"{field}_file")
        if path is None:
            continue
        source = section.sources[f"{field}_file"]
        try:
            text = read_text(path)
        except ValueError as error:
            raise SettingsError(f"{source}: {key}_file: {error}") from error
        # Editors and echo end a file with a line end, which is no part of the secret.
        section.values[field] = Secret(text.removesuffix("\n").removesuffix("\r"))
        section.sources[field] = f"the file of {source}"


def check_backplane(server: Section) -> None:
    """See whether the URL of a backplane stands for one. Nothing is connected.

    Raises:
        SettingsError: it does not, or its extra is missing.
    """
    url = server.values.get("backplane")
    if url is None:
        return
    try:
        backplane_for(url.text)
    except (UsageError, ModuleNotFoundError) as error:
        source = server.sources["backplane"]
        raise SettingsError(f"{source}: server.backplane: {error}") from error


def check_keys(client: Section, api: Section) -> None:
    """Try every key that was given, so that a bad one is told with its place.

    Raises:
        SettingsError: one cannot be used, or there is none where one is needed.
    """
    given = tuple(
        field for field in _OF_VERIFIER if client.values.get(field) is not None
    )
    for fields in (*((field,) for field in given), given):  # each alone, and together
        values = {field: client.values[field] for field in fields}
        try:
            token_verifier(ClientSettings(**values))
        except (ValueError, ModuleNotFoundError) as error:
            places = ", ".join(client.sources[field] for field in fields)
            names = ", ".join(f"client.{field}" for field in fields)
            text = str(error)
            text = f"client.{text}" if text.startswith(fields) else f"{names}: {text}"
            raise SettingsError(f"{places}: {text}") from error
    for field in ("audience", "issuer"):
        if client.values.get(field) is not None and not given:
            raise SettingsError(
                f"{client.sources[field]}: client.{field}: there is no key that a "
                f"token could be checked with; set one of {', '.join(_OF_VERIFIER)}"
            )
    key = api.values.get("key")
    if key is not None and (fault := _key_fault(key.text)):
        raise SettingsError(f"{api.sources['key']}: api.key {fault}")


def _key_fault(key: str) -> str | None:
    """Return what is wrong with a key that is to come in an HTTP header."""
    if not key.isascii() or not key.isprintable() or key != key.strip() or not key:
        return "must be printable ASCII without spaces around it"
    return None


def _public_keys(path: str) -> dict[str, Any]:
    text = read_text(path)
    keys = [match[0] for match in _PEM.finditer(text) if "PUBLIC KEY" in match[1]]
    if "PRIVATE KEY" in text:
        raise ValueError("the file has a private key: give the public one alone")
    if not keys:
        raise ValueError("the file has no public key in PEM")
    return {"public_keys": keys}


# {setting: what of it goes to a verifier}
_OF_VERIFIER: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "hmac_secret": lambda secret: {"hmac_secret": secret.text},
    "public_key_file": _public_keys,
    "jwks_file": lambda path: {"jwks": read_text(path)},
}

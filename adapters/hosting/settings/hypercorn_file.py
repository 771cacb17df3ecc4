"""What is wrong with hypercorn's own settings; hypercorn itself takes any."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from .layers import TomlFile, elsewhere, nearest
from .schema import HYPERCORN_KEYS, SettingsError
from .secret import Secret
from .values import convert, shown

__all__ = ("check_hypercorn",)

_ORIGIN = re.compile(r"^\[.*?\] | \(_ssl\.c:\d+\)$")  # of an error, in OpenSSL's code

# Seconds, bytes, counts, ids: none of them is negative.
_KINDS: Mapping[type, Any] = {
    bool: bool,
    int: Annotated[int, msgspec.Meta(ge=0)],
    float: Annotated[float, msgspec.Meta(ge=0)],
    str: str,
    list: list[str],
    dict: dict,
}
# Of properties, whose types hypercorn does not say, and of what is not to be shown.
_OTHERS: Mapping[str, Any] = {
    "cert_reqs": _KINDS[int],
    "insecure_bind": list[str],
    "keyfile_password": Secret,
    "quic_bind": list[str],
    "root_path": str,
}


def check_hypercorn(file: TomlFile) -> None:
    """Look at what is hypercorn's alone, and try its certificates.

    Raises:
        SettingsError: a key that hypercorn does not have, a value that does not fit, a
            certificate that cannot be used, or half of what TLS needs.
    """
    try:
        kinds = {**HYPERCORN_KEYS, **_kinds()}
    except ModuleNotFoundError:  # who reads its file without it does not serve with it
        return
    for name, value in file.data.items():
        source = file.source(name)
        if name not in kinds:
            hint = elsewhere(name, "")
            hint = f"{hint} of broker.toml" if hint else _near(name, kinds)
            raise SettingsError(f"{source}: unknown key {shown(name)}; {hint}")
        if name.endswith("_bind") and isinstance(value, str):
            continue  # hypercorn takes both
        if name not in HYPERCORN_KEYS and (fault := _fault(value, kinds[name])):
            raise SettingsError(f"{source}: {name} {fault}")
    _check_tls(file)


def _kinds() -> dict[str, Any]:
    """Return {setting of hypercorn: its type}; None where a file cannot say it."""
    from hypercorn.config import Config  # needs an extra

    hints = get_type_hints(Config)
    names = {*hints, *vars(Config), *_OTHERS}
    found: dict[str, Any] = {}
    for name in names:
        default = getattr(Config, name, None)
        is_method = callable(default) and not isinstance(default, type)
        if name.startswith("_") or is_method:
            continue
        if name in _OTHERS:
            found[name] = _OTHERS[name]
        elif not isinstance(default, property):
            found[name] = _kind(hints.get(name, type(default)))
    return found


def _kind(hint: Any) -> Any:
    """Return what a file may say where hypercorn takes values of this type."""
    origin = get_origin(hint)
    for each in get_args(hint) if origin in (Union, UnionType) else (origin or hint,):
        # The enums of ssl are numbers as well, and so is bool, which comes first.
        for base, kind in _KINDS.items():
            if issubclass(each, base):
                return kind
    return None


def _fault(value: object, kind: Any) -> str | None:
    if kind is None:
        return "cannot be set in a file"
    if kind is dict:
        return (
            None if isinstance(value, dict) else f"must be a table, not {shown(value)}"
        )
    try:
        convert(value, kind)
    except ValueError as error:
        return str(error)
    return None


def _near(name: str, known: Mapping[str, Any]) -> str:
    hint = nearest(name, known)
    # All that it has would be a page.
    return hint if hint.startswith("did you") else "hypercorn has no such setting"


def _check_tls(file: TomlFile) -> None:
    given = file.data
    for name, other in (
        ("certfile", "keyfile"),
        ("keyfile", "certfile"),
        ("ca_certs", "certfile"),
    ):
        if name in given and other not in given:
            problem = f"{name} is set, and {other} is not: it would be served without"
            raise SettingsError(f"{file.source(name)}: {problem} TLS")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    attempts: dict[str, Callable[[Any], object]] = {
        "ciphers": context.set_ciphers,
        "verify_mode": ssl.VerifyMode,
        "cert_reqs": ssl.VerifyMode,
        "verify_flags": ssl.VerifyFlags,
    }
    for name, attempt in attempts.items():
        if name in given:
            with _told(f"{file.source(name)}: {name}"):
                attempt(given[name])
    for name, what in (
        ("certfile", "certificate"),
        ("keyfile", "private key"),
        ("ca_certs", "certificate"),
    ):
        if name in given:
            place = f"{file.source(name)}: {name} {shown(given[name])}"
            with _told(place):
                content = Path(given[name]).read_bytes()
            if f"{what.upper()}-----".encode() not in content:
                raise SettingsError(f"{place} has no {what} in PEM")
    if "certfile" in given:
        _load_chain(context, file)
    if "ca_certs" in given:
        with _told(f"{file.source('ca_certs')}: ca_certs {shown(given['ca_certs'])}"):
            context.load_verify_locations(given["ca_certs"])


def _load_chain(context: ssl.SSLContext, file: TomlFile) -> None:
    given = file.data
    key = f"{file.source('keyfile')}: keyfile {shown(given['keyfile'])}"

    def password() -> str:
        # Without this OpenSSL asks whoever sits there, or nobody, of each worker.
        if "keyfile_password" not in given:
            raise SettingsError(f"{key} is encrypted: set keyfile_password")
        return str(given["keyfile_password"])

    places = f"{file.source('certfile')}, {file.source('keyfile')}"
    files = f"certfile {shown(given['certfile'])} and keyfile {shown(given['keyfile'])}"
    with _told(f"{places}: {files}"):
        context.load_cert_chain(given["certfile"], given["keyfile"], password)


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Say what fails as one line, with its place in front."""
    try:
        yield
    except ssl.SSLError as error:
        reason = _ORIGIN.sub("", str(error.args[-1])).rstrip(".")
        if reason == "PEM lib":  # all that is said of a wrong password
            reason = "cannot be loaded; is the content, or keyfile_password, wrong?"
        raise SettingsError(f"{place}: {reason}") from error
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise SettingsError(f"{place}: {problem}") from error
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error

"""``import broadcaster`` without a change to who imports it."""

from __future__ import annotations

import sys
from importlib import import_module

from broker import UsageError

__all__ = ("install",)

# {name in broadcaster: module here}; ``_backends`` up to 0.3.1, ``backends`` after it.
_MODULES = {"broadcaster": "", "broadcaster._base": ""} | {
    f"broadcaster.{folder}{module}": ".backends"
    for folder in ("backends", "_backends")
    for module in ("", ".base", ".memory", ".redis", ".postgres", ".kafka")
}


def install() -> None:
    """Have ``import broadcaster`` find this package, in this process, from now on.

    For code that cannot be changed. Call it before anything imports broadcaster; a
    second call changes nothing.

    Raises:
        UsageError: the original has been imported already; nothing was changed.
    """
    package = __name__.rpartition(".")[0]
    ours = {name: import_module(package + path) for name, path in _MODULES.items()}
    there = sys.modules.get("broadcaster")
    if there is not None and there is not ours["broadcaster"]:
        raise UsageError("broadcaster has been imported already: call install() first")
    sys.modules.update(ours)

"""Settings of the server: defaults, files, the environment and flags in one."""

from .keys import token_verifier
from .loading import Loaded, load_settings
from .schema import (
    AccessSettings,
    ApiSettings,
    ClientSettings,
    ServerSettings,
    Settings,
    SettingsError,
)

__all__ = (
    "AccessSettings",
    "ApiSettings",
    "ClientSettings",
    "Loaded",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "load_settings",
    "token_verifier",
)

"""Settings of the server: defaults, files, the environment and flags in one."""

from .loading import Loaded, load_settings
from .schema import AccessSettings, ServerSettings, Settings, SettingsError

__all__ = (
    "AccessSettings",
    "Loaded",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "load_settings",
)

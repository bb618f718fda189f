"""What this host shows Consul is looked at by the main process: what is wrong ends the start before anything runs."""

import os

from plugin.settings import Settings, SettingsError
from store.credentials import read_credentials


def refuse_unusable(settings: Settings) -> None:
    """Each later use reads them again; that they are wrong then, too, would be told by the worker alone."""
    if settings.store.scheme == "sqlite":
        return
    try:
        read_credentials(os.environ)
    except ValueError as error:
        raise SettingsError(str(error)) from None

"""What this host shows Consul. Read by the main process, so that what is wrong ends the start before anything runs."""

import os

from plugin.settings import Settings, SettingsError
from store.credentials import Credentials, read_credentials


def credentials(settings: Settings) -> Credentials:
    if settings.store.scheme == "sqlite":
        return Credentials()
    try:
        return read_credentials(os.environ)
    except ValueError as error:
        raise SettingsError(str(error)) from None

"""The part of the composition root that is about the store that the hosts share."""

import os
from collections.abc import Callable

from plugin.settings import Settings, SettingsError
from store.breaker import Breaker
from store.catalog import Catalog
from store.consul import ConsulStore
from store.feed import Announcing
from store.interface import Store
from store.measured import Measured, Told
from store.sqlite import SqliteStore


def open_store(settings: Settings) -> Store:
    return open_stores(settings)[0]


def open_stores(
    settings: Settings, told: Told = lambda *_: None, back: Callable[[], None] = lambda: None
) -> tuple[Store, Catalog | None]:
    """What the hosts share, and where services can be registered; `told` hears how long each call took, `back` that
    what was away answers again."""
    if settings.store.scheme == "sqlite":
        return Announcing(Measured(SqliteStore(settings.state_dir / "cluster.db"), told), settings.host), None
    try:
        consul = ConsulStore.from_url(str(settings.store), root=settings.cluster, environ=os.environ)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return Breaker(Announcing(Measured(consul, told), settings.host), skew=lambda: consul.skew, back=back), consul

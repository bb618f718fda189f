"""The part of the composition root that is about the store that the hosts share."""

import os
from collections.abc import Callable
from typing import NamedTuple

from plugin.settings import Settings, SettingsError
from store.breaker import Breaker
from store.catalog import Catalog
from store.connections import NOTHING, Traffic
from store.consul import ConsulStore
from store.feed import Announcing
from store.interface import Store
from store.measured import Measured, Told
from store.sqlite import SqliteStore


class Opened(NamedTuple):
    store: Store
    catalog: Catalog | None  # where services can be registered
    exchanged: Callable[[], Traffic]  # with hosts beyond this one
    away: Callable[[], tuple[float, str] | None]  # for how many seconds, and why; None while the store answers
    skew: Callable[[], float | None]  # seconds this host's clock is ahead of the store's, None: not known


def open_store(settings: Settings) -> Store:
    return open_stores(settings).store


def open_stores(settings: Settings, told: Told = lambda *_: None, back: Callable[[], None] = lambda: None) -> Opened:
    """What the hosts share; `told` hears how long each call took, `back` that what was away answers again."""
    if settings.store.scheme == "sqlite":
        here = SqliteStore(settings.state_dir / "cluster.db")
        return Opened(
            Announcing(Measured(here, told), settings.host), None, lambda: NOTHING, lambda: None, lambda: None
        )
    try:
        consul = ConsulStore.from_url(str(settings.store), root=settings.cluster, environ=os.environ)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    store = Breaker(Announcing(Measured(consul, told), settings.host), skew=lambda: consul.skew, back=back)
    return Opened(store, consul, consul.exchanged, store.away, store.skew)

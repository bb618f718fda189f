"""The part of the composition root that is about addresses: a manager for each name space, and who tells of them."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from driver import occupied
from driver.journal import Journal as Networks
from ipam.commons import Commons
from ipam.ipam import Ipam
from ipam.journal import Journal
from ipam.lending import Lending
from ipam.mirror import Mirror
from ipam.pools import Plan, Pools
from ipam.spaces import Spaces
from ipam.tenancy import Tenancy
from plugin.settings import Settings
from store.interface import Store
from store.ip import IPNetwork
from store.space import Prefixed, Space

SPACES = "spaces/"  # this host's own records of the other name spaces


@dataclass(frozen=True, slots=True)
class Addressing:
    own: Ipam  # of our driver's networks
    spaces: Spaces  # of all
    mirror: Mirror


def assemble_addressing(
    settings: Settings,
    store: Store,
    local: Store,
    networks: Networks,
    tenancy: Tenancy,
    others: Callable[[], Collection[IPNetwork]],
) -> Addressing:
    """`others` are the subnets of Docker's networks that are not ours."""
    plan = Plan(tuple((source.network, source.size) for source in settings.pools), 32 - settings.block)

    def spaced(space: str) -> Store:
        return Space(store, space) if space else store

    def in_use() -> list[IPNetwork]:
        return [*occupied.prefixes(), *others(), *spaces.pools()]

    def routed(pool: IPNetwork) -> bool:
        return networks.network_in(pool) is not None

    def manager(space: str) -> Ipam:
        seen = spaced(space)
        pools = Pools(seen, settings.host, plan, tenancy, in_use)
        return Ipam(
            Journal(Prefixed(local, f"{SPACES}{space}/") if space else local, time.time),
            pools,
            Commons(seen, pools, tenancy),
            Lending(seen, settings.host, tenancy),
            tenancy,
            routed=lambda pool: not space and routed(pool),
            changed=lambda pool: mirror.changed((space, pool)),
        )

    own = manager("")
    spaces = Spaces(own, {key.split("/")[1] for key in local.read(SPACES).entries}, manager, routed)
    mirror = Mirror(spaced, settings.host, spaces.given, spaces.leases)
    return Addressing(own, spaces, mirror)

"""The subnets of Docker's networks, as the Engine last told: a pool that flannelpy chooses keeps clear of them.

RequestPool may not ask, since the Engine waits for it; and a network of macvlan, say, shows in no route of the host."""

from collections.abc import Callable, Collection, Sequence

from cluster.engine import ListedNetwork
from store.ip import IPNetwork


class Subnets:
    """Reads each of Docker's lists."""

    def __init__(self, held: Callable[[], Collection[IPNetwork]]) -> None:
        """`held` are the pools of this host's own records: those tell of them sooner, when one goes, too."""
        self._held = held
        self._others: Collection[IPNetwork] = ()

    def others(self) -> Collection[IPNetwork]:
        return self._others

    def networks(self, listed: Sequence[ListedNetwork], _: float) -> None:
        self._others = {pool for network in listed for pool in network.shape.pools} - {*self._held()}

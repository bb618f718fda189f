"""Follows what the hosts share of their networks, as the view that forwarding is made from."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from cluster.following import Following
from driver.view import View
from store.copy import Changes
from store.interface import Entry, Store
from store.ip import IPNetwork
from store.records import POOLS, NetworkSpec, Peer, pools_of, pools_with_holder, pools_with_peer


class Watch:
    def __init__(
        self,
        store: Store,
        host: str,
        listeners: Sequence[Callable[[], object]],
        trusts: Callable[[], bool],
        doubted: Callable[[], object] = lambda: None,
    ) -> None:
        """`trusts` tells whether what the store does not show is not there. As long as it does not, all that was known
        stays as it is: a store that has forgotten shows one host after the other, as each tells it again. `doubted`
        hears that this begins: a watch finds out before the next beat does."""
        self._following, self._listeners = Following(store, host, POOLS, self._take, self._believes), listeners
        self._view: View | None = None
        self._trusts, self._doubts, self._doubted = trusts, False, doubted
        self.start, self.stop = self._following.start, self._following.stop
        self.age, self.idle, self.hurry = self._following.age, self._following.idle, self._following.hurry

    def view(self) -> View | None:
        """The last that the store said, None if it has not answered since the start."""
        return self._view

    def shows(self, spec: NetworkSpec, peer: Peer) -> bool:
        """Whether the store is known to have the network, and in it the peer, exactly so."""
        view = self._view
        return view is not None and not self._doubts and view.shows(spec, peer)

    def peers_of(self, host: str) -> list[IPNetwork]:
        """The networks in which the store has this host as a peer."""
        return pools_with_peer(self._view.keys_of("peers", host) if self._view else (), host)

    def pools_of(self, host: str) -> list[tuple[str, IPNetwork]]:
        """The pools, each with its space, of which the store has this host as a holder."""
        return pools_with_holder(self._view.keys_of("holders", host) if self._view else (), host)

    def pools_with_loans(self) -> set[tuple[str, IPNetwork]] | None:
        """The pools, each with its space, in which an address is borrowed or asked for; None if that is not known."""
        view = self._view
        return pools_of(chain(view.keys("wanted"), view.keys("borrowed"))) if view else None

    def _believes(self, _: Mapping[str, Entry]) -> bool:
        before, self._doubts = self._doubts, not self._trusts()
        if self._doubts and not before:
            self._doubted()
        return not self._doubts

    def _take(self, changes: Changes) -> None:
        if self._view is not None and not changes:
            return
        values = {key: entry.value if entry else None for key, entry in changes.items()}
        self._view = (self._view or View({})).after(values)
        for listener in self._listeners:
            listener()

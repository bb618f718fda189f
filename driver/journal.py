"""The networks and endpoints of this host: durable before Docker hears the answer, and all that a restart needs."""

import threading
from collections.abc import Callable
from dataclasses import replace

from driver.errors import NoSuchEndpoint, NoSuchNetwork
from driver.model import Endpoint, Network, Published
from store.interface import Store
from store.ip import IPNetwork
from store.local import LocalRecords

STRIPES = 64  # locks that all endpoints share


class Journal:
    """Safe for many threads. Nobody waits for another endpoint's write: those of one moment become durable together."""

    def __init__(self, store: Store, changed: Callable[[], object] = lambda: None) -> None:
        """`changed` is called after each change, on the request path: it must not wait."""
        self._changed = changed
        self._writing_networks = threading.Lock()
        self._writing = [threading.Lock() for _ in range(STRIPES)]
        self._networks = LocalRecords(store, "networks/", Network, str)
        self._endpoints = LocalRecords(store, "endpoints/", Endpoint, str)

    def networks(self) -> list[Network]:
        return list(self._networks.records.values())

    def network(self, network_id: str) -> Network:
        found = self._networks.records.get(network_id)
        if found is None:
            raise NoSuchNetwork(f"network {network_id[:12]} is not known on this host; remove it and create it again")
        return found

    def has(self, network: Network) -> bool:
        """Whether it is still there, and as it was."""
        return self._networks.records.get(network.id) == network

    def network_in(self, pool: IPNetwork) -> Network | None:
        return next((network for network in self.networks() if pool in network.pools), None)

    def put_network(self, network: Network) -> None:
        with self._writing_networks:
            self._networks.put(network.id, network)
        self._changed()

    def remove_network(self, network_id: str) -> None:
        with self._writing_networks:
            self._networks.remove(network_id)
        self._changed()

    def endpoints(self, network_id: str) -> list[Endpoint]:
        return [endpoint for endpoint in self.all_endpoints() if endpoint.network_id == network_id]

    def all_endpoints(self) -> list[Endpoint]:
        return list(self._endpoints.records.values())

    def endpoint(self, network_id: str, endpoint_id: str) -> Endpoint:
        found = self._endpoints.records.get(endpoint_id)
        if found is None or found.network_id != network_id:
            raise NoSuchEndpoint(f"endpoint {endpoint_id[:12]} is not known in network {network_id[:12]} on this host")
        return found

    def has_link(self, link: str) -> bool:
        """Whether it is an endpoint's, on the host's side."""
        return any(endpoint.host_link == link for endpoint in self.all_endpoints())

    def put_endpoint(self, endpoint: Endpoint) -> None:
        with self._lock_of(endpoint.id):
            self._endpoints.put(endpoint.id, endpoint)
        self._changed()

    def set_published(self, endpoint_id: str, published: tuple[Published, ...]) -> None:
        """Of an endpoint that is still there."""
        with self._lock_of(endpoint_id):
            found = self._endpoints.records.get(endpoint_id)
            if found is not None and found.published != published:
                self._endpoints.put(endpoint_id, replace(found, published=published))

    def remove_endpoint(self, endpoint_id: str) -> None:
        with self._lock_of(endpoint_id):
            self._endpoints.remove(endpoint_id)
        self._changed()

    def _lock_of(self, endpoint_id: str) -> threading.Lock:
        return self._writing[hash(endpoint_id) % STRIPES]

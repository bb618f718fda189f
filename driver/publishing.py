"""Published ports of containers in networks that lead out by themselves (`gateway=direct`): take, tell the kernel, give
back. Which ports those are, and that nobody else has them, is driver/ports.py's."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from driver.backends import BACKENDS
from driver.errors import NetworkConflict
from driver.journal import Journal
from driver.kernel import Kernel
from driver.model import Endpoint, PortRequest, Published
from driver.ports import Ports
from driver.reconciler import Reconciler

log = logging.getLogger(__name__)


class Publishing:
    def __init__(
        self,
        journal: Journal,
        ports: Ports,
        reconciler: Reconciler,
        open_kernel: Callable[[], AbstractContextManager[Kernel]],
        delete_endpoint: Callable[[str, str], None],
    ) -> None:
        self._journal, self._ports, self._reconciler = journal, ports, reconciler
        self._open_kernel, self._delete_endpoint = open_kernel, delete_endpoint

    def publish(self, network_id: str, endpoint_id: str, ports: Sequence[PortRequest]) -> None:
        """Make these, and no others, ports of the host that lead to the container, from now on."""
        network, endpoint = self._journal.network(network_id), self._journal.endpoint(network_id, endpoint_id)
        if not network.leads_out:
            return
        self.withdraw(network_id, endpoint_id)
        if not ports:
            return
        published = self._taken(endpoint, ports)
        try:
            self._journal.set_published(endpoint_id, published)
            self._reconciler.settle(BACKENDS[network.backend].devices(network))
        except Exception:
            self.withdraw(network_id, endpoint_id)
            raise
        log.info("ports published", extra={"endpoint": endpoint_id[:12], "ports": " ".join(map(str, published))})

    def withdraw(self, network_id: str, endpoint_id: str) -> None:
        for endpoint in self._journal.endpoints(network_id):
            if endpoint.id == endpoint_id and endpoint.published:
                self._journal.set_published(endpoint_id, ())
                self._reconciler.poke()
        self._ports.release(endpoint_id)

    def _taken(self, endpoint: Endpoint, ports: Sequence[PortRequest]) -> tuple[Published, ...]:
        try:
            return self._ports.take(endpoint, ports)
        except NetworkConflict:
            if not self._evict_lost():
                raise
            return self._ports.take(endpoint, ports)

    def _evict_lost(self) -> bool:
        """Whether a port was held for somebody who has no link any more: a dockerd that has not yet used this driver
        when it cleans up, as after a loss of power, does not tell of endpoints that are gone."""
        with self._open_kernel() as kernel:
            links = set(kernel.links_of("veth"))
        lost = [e for e in self._journal.all_endpoints() if e.published and e.host_link not in links]
        for old in lost:
            log.warning("endpoint left behind", extra={"endpoint": old.id[:12], "port": old.published[0]})
            self._delete_endpoint(old.network_id, old.id)
        return bool(lost)

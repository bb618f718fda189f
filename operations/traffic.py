"""How much the containers of this host have sent and received, by network.

A veth pair takes its counters along when its container goes, so they are summed up here at every look; what a container
moved after the last look is not counted."""

import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from driver.model import Endpoint, Network

LINKS = Path("/sys/class/net")


class Traffic:
    def __init__(self, links: Path = LINKS) -> None:
        self._links, self._lock = links, threading.Lock()
        self._last: dict[tuple[str, str], int] = {}  # by link and counter
        self._sent, self._received = Counter[str](), Counter[str]()

    def look(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> dict[str, tuple[int, int]]:
        """Bytes from the containers of this host, and to them, by first pool of the network."""
        pools = {network.id: str(network.pools[0]) for network in networks}
        with self._lock:
            seen = {}
            for endpoint in endpoints:
                pool = pools.get(endpoint.network_id)
                for counter, total in (("rx_bytes", self._sent), ("tx_bytes", self._received)):  # the host's end
                    now = self._read(endpoint.host_link, counter)
                    if pool is None or now is None:
                        continue
                    before = self._last.get((endpoint.host_link, counter), 0)
                    total[pool] += now - before if now >= before else now
                    seen[endpoint.host_link, counter] = now
            self._last = seen
            return {pool: (self._sent[pool], self._received[pool]) for pool in pools.values()}

    def _read(self, link: str, counter: str) -> int | None:
        try:
            return int((self._links / link / "statistics" / counter).read_text())
        except (OSError, ValueError):
            return None

"""How much the containers of this host have sent and received, by network, since this process began.

A veth pair takes its counters along when its container goes, so they are summed up here at every look; what a container
moved after the last look is not counted."""

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from driver.model import Endpoint, Network

LINKS = Path("/sys/class/net")
Counted = tuple[str, str]  # link and counter


class Traffic:
    def __init__(self, networks: Collection[Network], endpoints: Collection[Endpoint], links: Path = LINKS) -> None:
        """The links that are there now have counted since their containers started, and not for us."""
        self._links, self._lock = links, threading.Lock()
        self._sent, self._received = Counter[str](), Counter[str]()
        self._last: dict[Counted, int] = {where: now for where, _, now in self._read(_pools(networks), endpoints)}

    def look(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> dict[str, tuple[int, int]]:
        """Bytes from the containers of this host, and to them, by first pool of the network."""
        pools = _pools(networks)
        with self._lock:
            seen: dict[Counted, int] = {}
            for where, pool, now in self._read(pools, endpoints):
                before = self._last.get(where, 0)
                total = self._sent if where[1] == "rx_bytes" else self._received  # the host's end
                total[pool] += now - before if now >= before else now
                seen[where] = now
            self._last = {**self._missed(endpoints), **seen}
            return {pool: (self._sent[pool], self._received[pool]) for pool in pools.values()}

    def _missed(self, endpoints: Collection[Endpoint]) -> dict[Counted, int]:
        """What is known of links that may be seen again: one is renamed for a moment, or has lost its record."""
        listed = {endpoint.host_link for endpoint in endpoints}
        return {
            where: count
            for where, count in self._last.items()
            if where[0] in listed or (self._links / where[0]).exists()
        }

    def _read(self, pools: Mapping[str, str], endpoints: Collection[Endpoint]) -> Iterator[tuple[Counted, str, int]]:
        for endpoint in endpoints:
            for counter in ("rx_bytes", "tx_bytes"):
                now = self._count(endpoint.host_link, counter)
                if now is not None and endpoint.network_id in pools:
                    yield (endpoint.host_link, counter), pools[endpoint.network_id], now

    def _count(self, link: str, counter: str) -> int | None:
        try:
            return int((self._links / link / "statistics" / counter).read_text())
        except (OSError, ValueError):
            return None


def _pools(networks: Collection[Network]) -> dict[str, str]:
    return {network.id: str(network.pools[0]) for network in networks}

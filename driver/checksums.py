"""Packets that came with a wrong UDP checksum: how a tunnel looks at the far end of a broken checksum offload.

The kernel drops them, and does no more than count. Ping, whose packets are small, goes through; TCP does not."""

import logging
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

IPV4, IPV6 = Path("/proc/thread-self/net/snmp"), Path("/proc/thread-self/net/snmp6")
MANY = 10  # in one period; a damaged packet now and then is nobody's fault


class Checksums:
    def __init__(self, tunnels: Callable[[], bool]) -> None:
        """`tunnels` says whether there is a tunnel here at all."""
        self._tunnels, self._last = tunnels, wrong()
        self.many = 0  # that came between the last two looks; 0 if they were few

    def look(self) -> None:
        """Called again and again; tells of every time in which many came."""
        before, self._last = self._last, wrong()
        came = self._last - before
        self.many = came if came >= MANY and self._tunnels() else 0
        if self.many:
            log.warning(
                "UDP packets arrive with a wrong checksum; if containers here answer to ping and not to TCP, another "
                "host spoils what it tunnels: create the network with -o checksum-offload=off",
                extra={"packets": came},
            )


def wrong() -> int:
    """UDP packets dropped for their checksum since the start of this host, as `nstat -az '*InCsumErrors'` has them."""
    names, values = (line.split() for line in IPV4.read_text().splitlines() if line.startswith("Udp:"))
    found = int(values[names.index("InCsumErrors")])
    for line in IPV6.read_text().splitlines() if IPV6.exists() else ():
        name, _, value = line.partition(" ")
        if name == "Udp6InCsumErrors":
            found += int(value)
    return found

"""What this host already uses, so that no pool is put over it: routes, interfaces, and name servers."""

from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

from driver.kernel import Kernel
from store.ip import IPNetwork

RESOLV_CONF = Path("/etc/resolv.conf")


def prefixes() -> list[IPNetwork]:
    with Kernel() as kernel:
        return [*kernel.prefixes_in_use(), *name_servers(RESOLV_CONF)]


def name_servers(path: Path) -> list[IPNetwork]:
    """The servers that a resolv.conf names, each as the prefix of its address alone."""
    found = []
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with suppress(ValueError):
                    found.append(ip_network(ip_address(words[1].partition("%")[0])))
    return found

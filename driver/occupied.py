"""What this host already uses, so that no pool is put over it: routes, interfaces, and name servers."""

from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

from driver.kernel import Kernel
from store.ip import IPNetwork

# The second is where systemd's own resolver, which the first names then, has its servers from.
RESOLV_CONFS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def prefixes(netns: str | None = None, root: Path = Path("/")) -> list[IPNetwork]:
    with Kernel(netns) as kernel:
        return [*kernel.prefixes_in_use(), *name_servers(root)]


def name_servers(root: Path) -> list[IPNetwork]:
    """The servers that the host asks, each as the prefix of its address alone. `root` is where its `/` is."""
    return [server for path in RESOLV_CONFS for server in _named_in(root / path.lstrip("/"))]


def _named_in(path: Path) -> list[IPNetwork]:
    found = []
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with suppress(ValueError):
                    found.append(ip_network(ip_address(words[1].partition("%")[0])))
    return found

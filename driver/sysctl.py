"""The kernel's switches under /proc/sys/net, in the network namespace of this process."""

from pathlib import Path

from driver.errors import KernelError

# A managed plugin finds /proc/sys read-only and the host's mounted beside it (see plugin.json).
MOUNTED, ROOT = Path("/host/proc/sys/net"), Path("/proc/sys/net")
FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
# A line a route: prefix, its length, source, its length, next hop, metric, references, uses, flags, interface.
ROUTES6 = Path("/proc/thread-self/net/ipv6_route")
ADVERTISED_DEFAULT = 0x50000  # RTF_DEFAULT and RTF_ADDRCONF (linux/ipv6_route.h)


def _root() -> Path:
    return MOUNTED if MOUNTED.exists() else ROOT


def ensure(name: str, value: int) -> None:
    """Set a switch if it stands otherwise. `name` like `ipv4/ip_forward`."""
    path = _root() / name
    try:
        if path.read_text().strip() != str(value):
            path.write_text(str(value))
    except OSError as error:
        raise KernelError(f"cannot set {path} to {value}: {error.strerror}") from error


def read(name: str) -> str | None:
    """A switch as it stands, None where there is none of that name."""
    try:
        return (_root() / name).read_text().strip()
    except OSError:
        return None


def speaks(version: int) -> bool:
    """Whether this host has the IP version, for its own use at least."""
    return version == 4 or read("ipv6/conf/lo/disable_ipv6") == "0"


def forwards(version: int) -> bool:
    """Whether this host forwards packets of the IP version."""
    try:
        return (_root() / FORWARDING[version]).read_text().strip() != "0"
    except OSError as error:
        raise KernelError(f"this host has no IPv{version}: {error}") from error


def ensure_forwarding(version: int, dev: str) -> None:
    """Let this host forward. `dev` is the underlay interface: a host that forwards IPv6 ignores router advertisements
    unless told otherwise, and loses the default routes that it learned from them. So they go on to be heard there, and
    wherever such a route leads when forwarding is turned on; for others an advertisement might be a container's."""
    if version == 6:
        advertised = set() if forwards(6) else _advertised_defaults()
        for heard in {dev, *advertised}:
            if read(f"ipv6/conf/{heard}/accept_ra") == "1":
                ensure(f"ipv6/conf/{heard}/accept_ra", 2)
    ensure(FORWARDING[version], 1)


def _advertised_defaults() -> set[str]:
    """The interfaces of default routes that router advertisements brought."""
    try:
        routes = [line.split() for line in ROUTES6.read_text(errors="replace").splitlines()]
    except OSError:
        return set()
    return {route[9] for route in routes if int(route[8], 16) & ADVERTISED_DEFAULT == ADVERTISED_DEFAULT}


def guard_endpoint(host_link: str, *, proxy_arp: bool = False, leads_out: bool = False) -> None:
    """What comes from a container must have its address as the source; nobody configures the host from inside.

    `proxy_arp`: the container believes that its whole pool is on the link, and asks there for its neighbours.
    `leads_out`: a process of the host reaches the container's published ports at 127.0.0.1, and so has the container's
    answers come to it there. What the container itself sends to 127.0.0.1 is dropped by the filter."""
    ensure(f"ipv4/conf/{host_link}/rp_filter", 1)
    ensure(f"ipv4/conf/{host_link}/route_localnet", int(leads_out))
    ensure(f"ipv4/conf/{host_link}/proxy_arp", int(proxy_arp))
    if proxy_arp:
        ensure(f"ipv4/neigh/{host_link}/proxy_delay", 0)
    if (_root() / f"ipv6/conf/{host_link}").exists():
        ensure(f"ipv6/conf/{host_link}/accept_ra", 0)
        # Nobody else is on this link. While the link-local address is tested for a second, the host cannot ask for
        # the container's MAC, and the first packets to it are lost.
        ensure(f"ipv6/conf/{host_link}/accept_dad", 0)

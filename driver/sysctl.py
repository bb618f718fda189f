"""The kernel's switches under /proc/sys/net, in the network namespace of this process."""

from pathlib import Path

from driver.errors import KernelError

# A managed plugin finds /proc/sys read-only and the host's mounted beside it (see plugin.json).
MOUNTED, ROOT = Path("/host/proc/sys/net"), Path("/proc/sys/net")
FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}


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


def forwards(version: int) -> bool:
    """Whether this host forwards packets of the IP version."""
    try:
        return (_root() / FORWARDING[version]).read_text().strip() != "0"
    except OSError as error:
        raise KernelError(f"this host has no IPv{version}: {error}") from error


def ensure_forwarding(version: int, dev: str) -> None:
    """Let this host forward. `dev` is the underlay interface: a host that forwards IPv6 ignores router advertisements
    unless told otherwise, and would lose a default route that it learned from them."""
    accept = _root() / f"ipv6/conf/{dev}/accept_ra"
    if version == 6 and accept.exists() and accept.read_text().strip() == "1":
        ensure(f"ipv6/conf/{dev}/accept_ra", 2)
    ensure(FORWARDING[version], 1)


def guard_endpoint(host_link: str, *, proxy_arp: bool = False, leads_out: bool = False) -> None:
    """What comes from a container must have its address as the source; nobody configures the host from inside.

    `proxy_arp`: the container believes that its whole pool is on the link, and asks there for its neighbours.
    `leads_out`: a process of the host reaches the container's published ports at 127.0.0.1, and so has the container's
    answers come to it there. What the container itself sends to 127.0.0.1 is dropped by the filter."""
    ensure(f"ipv4/conf/{host_link}/rp_filter", 1)
    if leads_out:
        ensure(f"ipv4/conf/{host_link}/route_localnet", 1)
    if proxy_arp:
        ensure(f"ipv4/conf/{host_link}/proxy_arp", 1)
        ensure(f"ipv4/neigh/{host_link}/proxy_delay", 0)
    if (_root() / f"ipv6/conf/{host_link}").exists():
        ensure(f"ipv6/conf/{host_link}/accept_ra", 0)
        # Nobody else is on this link. While the link-local address is tested for a second, the host cannot ask for
        # the container's MAC, and the first packets to it are lost.
        ensure(f"ipv6/conf/{host_link}/accept_dad", 0)

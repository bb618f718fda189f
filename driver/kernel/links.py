"""The links that belong to a network: made and changed through pyroute2, and read from their bytes."""

import errno
from collections.abc import Callable, Sequence
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from driver.errors import KernelError
from driver.host_network import LinkSeen
from driver.kernel.seen import is_for_a_forwarder, tunnel_of
from driver.model import mac_of
from driver.state import BridgeLink, LinkState, TunLink, VxlanLink, WireguardLink

WIREGUARD_LINK = "fl.wg"
Links = Sequence[tuple[LinkSeen, bytes]]  # with the messages they were read from


def put_link(ip: Any, look: Callable[[], Links], o: VxlanLink | BridgeLink) -> None:
    """Make the link, or bring the one of that name to this shape. `look` reads all links."""
    kind, changeable, fixed = _attributes(o)
    links = look()
    named = _index_of(o.dev, links)
    ours = next((link.index for link, _ in links if (link.kind, link.mac) == (kind, o.mac)), None)
    if named is None and ours is None:
        add_link(ip, o.dev, kind=kind, address=o.mac, **changeable, **fixed)
        links = look()
        if isinstance(o, VxlanLink) and _index_of(o.dev, links) is None:
            raise KernelError(f"+ {o}: {_occupant(links, o)}")
        return
    if named is None and ours is not None:  # a link with our MAC is ours under any name
        rename(ip, ours, o.dev)
    elif ours != named:  # even the same MAC, set again, would cost the link its neighbours
        ip.link("set", index=named, address=o.mac)
    if changeable:
        ip.link("set", index=named or ours, kind=kind, **changeable)


def _index_of(name: str, links: Links) -> int | None:
    return next((link.index for link, _ in links if link.name == name), None)


def rename(ip: Any, index: int, name: str) -> None:
    """The link is down then."""
    ip.link("set", index=index, state="down")  # older kernels rename no link that is up
    ip.link("set", index=index, ifname=name)


def endpoint_mac(name: str) -> str:
    """Of the host's end of a container's pair, by which it is known whatever it is called."""
    return mac_of(name)


def add_link(ip: Any, name: str, **attributes: Any) -> None:
    """One that exists is fine."""
    try:
        ip.link("add", ifname=name, **attributes)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def put_state(ip: Any, index: int, o: LinkState) -> None:
    try:
        ip.link("set", index=index, mtu=o.mtu, master=0, state="up" if o.up else "down")
    except NetlinkError as error:
        if error.code != errno.EADDRINUSE:
            raise
        raise KernelError(
            f"+ {o}: the UDP port of {o.dev} is taken on this host by a program, or by a tunnel of another kind; "
            "end that, or create the network on every host with another -o port="
        ) from error


def _attributes(o: VxlanLink | BridgeLink) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The link's kind, and what can be and what cannot be changed of it, beside name and MAC."""
    if isinstance(o, BridgeLink):
        return "bridge", {}, {}
    local = "vxlan_local" if o.local.version == 4 else "vxlan_local6"
    changeable = {local: str(o.local), "vxlan_learning": 0, "vxlan_ttl": 0, "vxlan_tos": 0}
    return "vxlan", changeable, {"vxlan_id": o.vni, "vxlan_port": o.port}


def tunnels(links: Links) -> dict[str, tuple[int, int]]:
    """VNI and port of every VXLAN device that can be seen from here, by its name."""
    found = {link.name: tunnel_of(raw) for link, raw in links if link.kind == "vxlan"}
    return {name: (tunnel.vni, tunnel.port) for name, tunnel in found.items()}


def _occupant(links: Links, o: VxlanLink) -> str:
    names = [name for name, used in tunnels(links).items() if used == (o.vni, o.port)]
    who = f"the VXLAN device {names[0]}" if names else "a VXLAN device made here and moved to another namespace"
    return (
        f"{who} has the same VNI and port; remove it, or create the network on every host with another -o vni= "
        "or -o port="
    )


def read_network_link(link: LinkSeen, raw: bytes) -> VxlanLink | BridgeLink | WireguardLink | TunLink:
    if link.kind == "vxlan":
        tunnel = tunnel_of(raw)
        return VxlanLink(link.name, tunnel.vni, tunnel.local, tunnel.port, link.mac, tunnel.plain)
    if link.name.startswith(WIREGUARD_LINK):
        return WireguardLink(link.name, alive=link.kind == "wireguard")
    if link.kind == "tun" and is_for_a_forwarder(raw):
        return TunLink(link.name)
    return BridgeLink(link.name, link.mac)

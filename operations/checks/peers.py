"""The other hosts, and the way to them."""

from collections.abc import Iterator

from driver.backends import BACKENDS
from operations.checks.finding import error, warning
from operations.facts import Facts
from operations.model import Finding
from operations.reach import Reached
from store.ip import IPAddress


def underlay_is_known(facts: Facts) -> Iterator[Finding]:
    if facts.lost:
        yield error(
            "interface",
            f"where other hosts are is not known, so none is reached and no network can be made: {facts.lost}",
            "bring that interface up (flannelpy follows by itself), or correct FLANNELPY_IFACE and restart flannelpy",
        )


def published_address_is_here(facts: Facts) -> Iterator[Finding]:
    underlay = facts.underlay
    for address in underlay.advertised if underlay else ():
        if underlay is not None and address not in underlay.addresses:
            has = ", ".join(map(str, underlay.addresses))
            yield warning(
                "published address",
                f"this host tells the others to send to {address}, which its interface {underlay.dev} does not have "
                f"({has})",
                "unset FLANNELPY_ADDRESS, or correct it; right only behind an address translator that forwards the "
                "tunnel's port",
            )


def addresses_are_published_once(facts: Facts) -> Iterator[Finding]:
    for address, hosts in facts.shared.items():
        yield error(
            "shared address",
            f"hosts {' and '.join(hosts)} all publish {address}, so that what is sent to one of them reaches another",
            "set FLANNELPY_IFACE or FLANNELPY_ADDRESS on each, so that it publishes where the others reach it; for one "
            "that is gone for good: `flannelpy leave --host NAME`; right only with wireguard, behind one address "
            "translator",
        )


def peers_live(facts: Facts) -> Iterator[Finding]:
    for host, seconds in facts.silent.items():
        yield warning(
            "silent host",
            f"host {host} has given no sign of life for {seconds:.0f} s",
            f"see that flannelpy runs there and reaches the store; gone for good: `flannelpy leave --host {host}`",
        )


def others_send_to_the_right_interface(facts: Facts) -> Iterator[Finding]:
    astray = {(each.way.remote.host, each.way.address): each for each in facts.reached if each.astray}
    for each in astray.values():
        yield error("interface", *misled(each))


def misled(each: Reached) -> tuple[str, str]:
    host, address, route = each.way.remote.host, each.way.address, each.route
    if route is None or route.ends_here:
        return (
            f"host {host} publishes {address}, which is an address of this host itself, too",
            f"set FLANNELPY_IFACE or FLANNELPY_ADDRESS on host {host}, so that it publishes where the others reach it",
        )
    return (
        f"packets to host {host} ({address}) leave by {route.dev}, but the others are told to send to this host's "
        f"{each.link}, and nothing comes through",
        f"set FLANNELPY_IFACE={route.dev} on this host; if {each.link} is the right one, correct what host {host} "
        "publishes, or the route to it",
    )


def peers_answer(facts: Facts) -> Iterator[Finding]:
    if facts.unprobed:
        yield warning("probes", f"the peers were not probed: {facts.unprobed}", "give flannelpy CAP_NET_RAW")
    told: set[tuple[str, IPAddress]] = set()
    for each in facts.reached:
        where = each.way.remote.host, each.way.address
        if not each.underlay and not each.tunnel and not each.astray and where not in told:
            told.add(where)
            yield error("underlay", *unreached(each))


def unreached(each: Reached) -> tuple[str, str]:
    host, address = each.way.remote.host, each.way.address
    why = f" ({each.underlay.refused})" if each.underlay.refused else ""
    return (
        f"host {host} does not answer at {address}, the address that it has published{why}",
        f"see that {host} is up, that {address} is its own (FLANNELPY_ADDRESS and FLANNELPY_IFACE there), and that "
        "no firewall is between",
    )


def tunnels_answer(facts: Facts) -> Iterator[Finding]:
    for each in facts.reached:
        if each.underlay and not each.tunnel and not each.astray:
            yield error("tunnel", *unheard(each))


def unheard(each: Reached) -> tuple[str, str]:
    way, port = each.way, each.way.network.port
    via = f"UDP port {port}" if BACKENDS[way.network.backend].port else "packets with container addresses"
    refused = f" ({each.tunnel.refused})" if each.tunnel.refused else ""
    return (
        f"host {way.remote.host} answers at {way.address}, but not through the tunnel of network "
        f"{way.network.pools[0]}{refused}",
        f"let {via} pass between the two, in both directions: cloud firewalls, switches, the INPUT rules of "
        f"{way.remote.host}; see `flannelpy doctor` there",
    )


def full_packets_pass(facts: Facts) -> Iterator[Finding]:
    for each in facts.reached:
        if each.tunnel_whole is not None and not each.tunnel_whole:
            yield error("mtu", *too_large(each))


def too_large(each: Reached) -> tuple[str, str]:
    way = each.way
    if each.underlay and not each.underlay_whole:
        return (
            f"the path to host {way.remote.host} ({way.address}) loses packets of {each.underlay_mtu} bytes, which is "
            f"the MTU of this host's interface, so packets of {each.mtu} bytes of network {way.network.pools[0]} "
            "do not pass",
            "give both hosts' interfaces the path's true MTU (flannelpy follows), or make the network with -o mtu=",
        )
    return (
        f"network {way.network.pools[0]} has an MTU of {each.mtu} bytes, and packets of that size do not reach host "
        f"{way.remote.host}, though smaller ones do",
        "see that the interfaces of both hosts have the same MTU, or make the network with a smaller -o mtu=",
    )


def checksums_are_right(facts: Facts) -> Iterator[Finding]:
    if facts.bad_checksums:
        dev = facts.underlay.dev if facts.underlay else "IFACE"
        yield error(
            "checksums",
            f"{facts.bad_checksums} UDP packets with a wrong checksum came in within some seconds",
            "if containers here answer to ping and not to TCP, another host's network card spoils what it tunnels: "
            f"`ethtool -K {dev} tx-checksum-ip-generic off` there, or create the network with -o checksum-offload=off",
        )


def no_strangers_call(facts: Facts) -> Iterator[Finding]:
    count = facts.dropped.get("strangers", 0)
    if count:
        ports = ", ".join(str(port) for port in sorted({n.port for n in facts.networks if n.port}))
        yield warning(
            "strangers",
            f"{count} tunnel packets came from no peer while this looked, and were dropped (port {ports})",
            "another cluster, or a host that was given up, sends here under the same port and network number: give "
            "one of the networks another -o vni= or -o port=",
        )

"""Who may talk to whom, as an nftables table of our own: the text and the elements of its sets, pure functions.

What is told apart never changes, so the rules never do: networks, pools and peers are elements of sets. A packet
costs the same whether there is one network or a thousand, and a peer that comes is one more element.

* prerouting, sources: what comes in may only have a source that this host would send to the same way. For a container
  that is its own addresses, for a tunnel device the blocks of that network that other hosts hold, for the underlay
  those that are reached without a tunnel; the routes that the reconciler keeps say all that, for both families.
* forward, isolation: from or to a pool goes only what is within one network.
* outward: networks with `-o gateway=direct` reach the world, by this host's address, but no Docker bridge; the world
  reaches their published ports, and so do other networks, but for those with `--internal`.
* input, tunnels: a tunnel's port takes packets from peers alone; for VXLAN, from peers of the very network that the
  packet names. What names no network of ours there is for somebody else's tunnel at the same port, and passes unless a
  container of ours sends it. Nobody who is forwarded here may send to a peer's tunnel: masqueraded, he would look like
  this host. Nor may who is behind a bridge here, as Docker's other containers are, claim to be a peer: they may forge
  their source.
* arriving: what is published at 127.0.0.1 is for this host alone. A neighbour on the link can send there, and the
  kernel, which refuses such packets, asks only after the translation.

Accepting here says nothing to the tables of others; what they must let pass is in driver/firewall.py. A MAC says
nothing here: every link is between two parties, and what arrives is judged by its address."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

from driver.backends import BACKENDS
from driver.backends.interface import NETWORKS, REMEMBERED, Guard, Remote
from driver.model import Endpoint, Network
from driver.translations import Entrance, Target, translations
from store.ip import IPAddress

TABLE = "inet flannelpy"
Sets = Mapping[str, frozenset[str]]  # by name; an element as nft reads it

TYPES = {
    "pools4": "type ipv4_addr; flags interval;",
    "pools6": "type ipv6_addr; flags interval;",
    "within4": "type ipv4_addr . ipv4_addr; flags interval;",  # source and target of one network
    "within6": "type ipv6_addr . ipv6_addr; flags interval;",
    "tunnels": "type inet_service;",  # ports that take packets from peers alone
    "vxlans": "type inet_service;",  # those of them where a packet names its network
    "vnis": "typeof udp dport . @th,96,24;",  # the networks of ours that it may name there
    "peers4": "type inet_service . ipv4_addr;",
    "peers6": "type inet_service . ipv6_addr;",
    "members4": "typeof udp dport . @th,96,24 . ip saddr;",  # port, VXLAN network number, peer
    "members6": "typeof udp dport . @th,96,24 . ip6 saddr;",
    "outward4": "type ipv4_addr; flags interval;",  # pools whose containers reach the world
    "outward6": "type ipv6_addr; flags interval;",
    "inward4": "type ipv4_addr; flags interval;",  # pools whose containers reach nothing else
    "inward6": "type ipv6_addr; flags interval;",
    "selves4": "type ipv4_addr . ipv4_addr;",  # twice the address of a container with published ports
    "selves6": "type ipv6_addr . ipv6_addr;",
    "uplinks": "type ifname;",  # what leads to the world even if it is a bridge
}
MAPS = {  # published ports, at an address of the host or at all of them, and where they lead
    "published4": "type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service;",
    "published6": "type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service;",
    "everywhere4": "type inet_proto . inet_service : ipv4_addr . inet_service;",
    "everywhere6": "type inet_proto . inet_service : ipv6_addr . inet_service;",
}
ALL = (*TYPES, *MAPS)
SENDERS = ("peers4", "peers6", "members4", "members6")  # who may send to tunnels
COUNTERS = ("spoofed", "injected", "crossed", "strangers")  # what was dropped, and why

# The network number stands 12 bytes after the start of the UDP header (RFC 7348). Neighbour discovery needs link-local
# sources, which the kernel forwards nowhere; fib takes them, and the unspecified source of a new address, for valid.
CHAINS = """
chain sources {
    type filter hook prerouting priority raw; policy accept;
    iif "lo" accept
    meta iifkind "bridge" udp dport @tunnels jump from_bridge
    iifname "flv*" goto from_container
    iifname "fl.*" goto from_others
    ip saddr @pools4 goto from_others
    ip6 saddr @pools6 goto from_others
}
chain from_bridge {
    udp dport @vxlans udp dport . @th,96,24 != @vnis return
    fib saddr . iif oif missing counter name strangers drop
}
chain from_container {
    fib saddr . iif oif missing counter name spoofed drop
    ip daddr 127.0.0.0/8 counter name spoofed drop
}
chain from_others {
    fib saddr . iif oif missing counter name injected drop
}
chain tunnels {
    type filter hook input priority filter; policy accept;
    udp dport @tunnels jump to_tunnel
    iifname "fl.*" goto within
}
chain to_tunnel {
    iifname != "flv*" udp dport @vxlans udp dport . @th,96,24 != @vnis return
    udp dport . ip saddr != @peers4 counter name strangers drop
    udp dport . ip6 saddr != @peers6 counter name strangers drop
    udp dport @vxlans udp dport . @th,96,24 . ip saddr != @members4 counter name strangers drop
    udp dport @vxlans udp dport . @th,96,24 . ip6 saddr != @members6 counter name strangers drop
}
chain isolation {
    type filter hook forward priority filter; policy accept;
    udp dport @tunnels jump to_peer
    iifname "flv*" goto within
    oifname "flv*" goto within
    iifname "fl.*" goto within
    oifname "fl.*" goto within
    ip saddr @pools4 goto within
    ip daddr @pools4 goto within
    ip6 saddr @pools6 goto within
    ip6 daddr @pools6 goto within
}
chain to_peer {
    iifname != "flv*" udp dport @vxlans udp dport . @th,96,24 != @vnis return
    udp dport . ip daddr @peers4 udp dport . ip saddr != @peers4 counter name strangers drop
    udp dport . ip6 daddr @peers6 udp dport . ip6 saddr != @peers6 counter name strangers drop
}
chain within {
    ip saddr . ip daddr @within4 accept
    ip6 saddr . ip6 daddr @within6 accept
    ip saddr @inward4 counter name crossed drop
    ip6 saddr @inward6 counter name crossed drop
    ip saddr @outward4 goto outward
    ip daddr @outward4 goto outward
    ip6 saddr @outward6 goto outward
    ip6 daddr @outward6 goto outward
    counter name crossed drop
}
chain outward {
    ct status dnat accept
    ct direction reply ct state established,related accept
    iifname != "flv*" counter name crossed drop
    ip daddr @pools4 counter name crossed drop
    ip6 daddr @pools6 counter name crossed drop
    oifname @uplinks accept
    meta oifkind "bridge" counter name crossed drop
}
chain arriving {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 127.0.0.0/8 return
    fib daddr type local goto published
}
chain sending {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    fib daddr type local goto published
}
chain published {
    meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @published4
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @everywhere4
    meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @published6
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @everywhere6
}
chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "flv*" ct status dnat jump hairpin
    oifname != "flv*" ip saddr @outward4 ip daddr != @pools4 masquerade
    oifname != "flv*" ip6 saddr @outward6 ip6 daddr != @pools6 masquerade
}
chain hairpin {
    ip saddr 127.0.0.0/8 masquerade
    ip saddr . ip daddr @selves4 masquerade
    ip6 saddr . ip6 daddr @selves6 masquerade
}
"""


CHAIN_NAMES = frozenset(re.findall(r"^chain (\w+)", CHAINS, re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Member:
    """An address from which a peer of the network sends to the tunnel's port. There are thousands: what follows from
    one is computed once."""

    port: int
    vni: int
    address: IPAddress
    peer: str = field(init=False, compare=False, repr=False)  # as an element of `peers4` or `peers6`
    member: str = field(init=False, compare=False, repr=False)  # of `members4` or `members6`
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "peer", f"{self.port} . {self.address}")
        object.__setattr__(self, "member", f"{self.port} . {self.vni} . {self.address}")
        object.__setattr__(self, "_hash", hash(self.member))

    def __hash__(self) -> int:
        return self._hash


def members(network: Network, remotes: Collection[Remote]) -> frozenset[Member]:
    if BACKENDS[network.backend].guard is Guard.NONE:
        return frozenset()
    return frozenset(chain.from_iterable(map(_sending(network.port, network.vni), remotes)))


@lru_cache(NETWORKS)
def _sending(port: int, vni: int) -> Callable[[Remote], tuple[Member, ...]]:
    @lru_cache(REMEMBERED)
    def found(remote: Remote) -> tuple[Member, ...]:
        return tuple(Member(port, vni, address) for address in (*remote.addresses, *remote.sources))

    return found


def sets(
    networks: Collection[Network],
    senders: Collection[Member],
    endpoints: Collection[Endpoint] = (),
    uplinks: Collection[str] = (),
) -> Sets:
    """The elements of all sets and maps; nothing at all where there is no network, and so no table."""
    if not networks:
        return {}
    found: dict[str, set[str]] = {name: set() for name in ALL}
    for network in networks:
        for pool in network.pools:
            found[f"pools{pool.version}"].add(str(pool))
            mates = (other for other in network.pools if other.version == pool.version)
            if network.leads_out:
                found[f"outward{pool.version}"].add(str(pool))
            if network.internal:
                found[f"inward{pool.version}"].add(str(pool))
            found[f"within{pool.version}"] |= {f"{pool} . {other}" for other in mates}
        guard = BACKENDS[network.backend].guard
        if guard is not Guard.NONE:
            found["tunnels"].add(str(network.port))
        if guard is Guard.VNI:
            found["vxlans"].add(str(network.port))
            found["vnis"].add(f"{network.port} . {network.vni}")
    for entrance, target in translations(endpoints).items():
        name, element = _element_of_map(entrance, target)
        found[name].add(element)
    for endpoint in endpoints:
        for address in endpoint.addresses if endpoint.published else ():
            found[f"selves{address.version}"].add(f"{address} . {address}")
    found["uplinks"] = {f'"{name}"' for name in uplinks}
    return {name: frozenset(elements) for name, elements in found.items()} | _of_senders(frozenset(senders))


@lru_cache(2)
def _of_senders(senders: frozenset[Member]) -> dict[str, frozenset[str]]:
    """They stay the same when one of them has a block more."""
    found: dict[str, set[str]] = {name: set() for name in SENDERS}
    for sender in senders:
        found[f"peers{sender.address.version}"].add(sender.peer)
        found[f"members{sender.address.version}"].add(sender.member)
    return {name: frozenset(elements) for name, elements in found.items()}


def _element_of_map(entrance: Entrance, target: Target) -> tuple[str, str]:
    """The map, and its element."""
    protocol, address, port = entrance
    leads = f"{target.address} . {target.port}"
    if address.is_unspecified:
        return f"everywhere{address.version}", f"{protocol} . {port} : {leads}"
    return f"published{address.version}", f"{protocol} . {address} . {port} : {leads}"


def admitting(old: Sets, new: Sets) -> Sets:
    """`old`, and who may send to tunnels by `new`; all of `new` where there was no table."""
    if not old or not new:
        return old or new
    return {name: old[name] | new[name] if name in SENDERS else old[name] for name in ALL}


def whole(wanted: Sets) -> str:
    """One transaction that leaves exactly this table, whatever was there: for where it is missing or of another shape.

    Where it is not, this loses packets: for some 30 us the kernel has the new rules and not yet the elements of the
    new sets with ranges, in which nobody is within any network."""
    anew = f"table {TABLE}\ndelete table {TABLE}\n"
    return anew + _everything(wanted) if wanted else anew


def again(found: Sets, wanted: Sets) -> str:
    """One transaction that leaves exactly this table where it has the right shape, and these elements in its sets.

    All rules are put there once more, but the sets stay: no packet meets one without an element that was there before
    and is afterwards. The counters go on, too."""
    return f"flush table {TABLE}\n" + _everything({}) + changes(found, wanted) if wanted else whole(wanted)


def _everything(elements: Sets) -> str:
    counters = [f"counter {name} {{ }}" for name in COUNTERS]
    return "\n".join([f"table {TABLE} {{", *counters, *_declared(elements), CHAINS, "}", ""])


def _declared(elements: Sets) -> Iterator[str]:
    for name, kind in (TYPES | MAPS).items():
        with_these = f" elements = {{ {_listed(elements[name])} }};" if elements.get(name) else ""
        yield f"{'map' if name in MAPS else 'set'} {name} {{ {kind}{with_these} }}"


def changes(old: Sets, new: Sets) -> str:
    """One transaction from one table to another: of the sets only what differs."""
    if not old or not new:
        return whole(new) if old != new else ""
    lines = []
    for name in ALL:
        for verb, elements in (("delete", old[name] - new[name]), ("add", new[name] - old[name])):
            if elements:
                lines.append(f"{verb} element {TABLE} {name} {{ {_listed(elements)} }}\n")
    return "".join(lines)


def _listed(elements: Collection[str]) -> str:
    return ", ".join(sorted(elements))

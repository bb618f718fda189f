"""Follows a packet from a container of this host to another: gathers what operations/hops.py judges."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from cluster.dockerd import SHORT_TIMEOUT, EngineUnavailable
from cluster.engine import EngineNetwork
from cluster.garbage import Ours
from driver import nft
from driver.backends import BACKENDS
from driver.backends.interface import Remote, Underlay
from driver.entries import Fdb, Neighbour, Route
from driver.errors import BadRequest, KernelError
from driver.goal import mtu_of, pool_of
from driver.kernel import Kernel
from driver.kernel.look import Look, Way
from driver.model import Endpoint, Network
from driver.probe import Echo, ping_one
from driver.state import Address, Object, VxlanLink
from driver.verdict import FORWARD, PREROUTING, Drop, Packet, drops
from operations import outside
from operations.end import host_link, look_at
from operations.hops import Found, Holder, hops
from operations.lookup import Question, whom_to_ask
from operations.model import OK, WRONG, Hop, TraceAnswer
from operations.observer import Sources, given_by_host
from operations.outside import look_out
from operations.reach import Reached, reach, ways
from operations.visit import Count, Door, Doors, Visit, Visits
from store import records
from store.interface import StoreUnavailable
from store.ip import IPAddress, IPNetwork

SEEN = (Route, Neighbour, Fdb, Address, VxlanLink)  # objects that netlink alone can read


@dataclass(frozen=True, slots=True)
class Local:
    """A container of this host in one of our networks."""

    name: str  # its address, where Docker does not say
    endpoint: Endpoint
    network: Network
    named: bool  # by Docker


@dataclass(frozen=True, slots=True)
class Pair:
    """The two ends of a trace."""

    a: Local
    mine: IPAddress  # of A
    b: IPAddress
    name: str  # of B, as it was asked for
    target: Local | None  # B, if it is on this host


class Tracer:
    def __init__(self, sources: Sources) -> None:
        self._see = sources

    def doors(self, source: str, to: str) -> Doors:
        """BadRequest if there is no such container here."""
        pair = self._pair(self._see.ours(), source, to)
        if self._pool(pair) is None:
            return Doors((self._way_out(pair),), ())
        if pool_of(pair.a.network, pair.b) is None:
            return Doors((), ())
        return Doors(tuple(self._doors(pair)), tuple(Count(*each) for each in _dropped().items()))

    def trace(self, source: str, to: str, visits: Visits) -> TraceAnswer:
        """BadRequest if there is no such container here."""
        ours = self._see.ours()
        pair = self._pair(ours, source, to)
        pool = self._pool(pair)
        if pool is None:
            visit = next(iter(visits.seen), Visit(unseen="nobody looked"))
            found = look_out(pair.a.name, pair.a.network, pair.a.endpoint, pair.b, visit)
            return TraceAnswer(str(pair.mine), str(pair.b), tuple(outside.hops(found)))
        if pool_of(pair.a.network, pair.b) is None:
            return _apart(pair.a, pair.b, pool)
        return TraceAnswer(str(pair.mine), str(pair.b), hops(self._gather(ours, pair, visits)))

    def _pair(self, ours: Ours, source: str, to: str) -> Pair:
        """Two that are in one network, if there are such."""
        known = self._engine()
        locals_ = _locals(ours, known)
        froms = _named(locals_, source)
        if not froms:
            raise BadRequest(f"{source!r} is no container of this host in a network of flannelpy{_why(known, source)}")
        wanted = _addresses(_named(locals_, to), to) or self._elsewhere(to)
        if not wanted:
            raise BadRequest(f"{to!r} is no container that this host knows of, and no address")
        together = [(a, b) for a in froms for b in wanted if pool_of(a.network, b) is not None]
        a, b = together[0] if together else (froms[0], wanted[0])
        mine = _same_family(a.endpoint, source, b) if together else _own(a.endpoint, b)
        return Pair(a, mine, b, to, next((local for local in locals_ if b in local.endpoint.addresses), None))

    def _pool(self, pair: Pair) -> IPNetwork | None:
        """The pool with B, of any network of the cluster; None if it is outside."""
        view = self._see.watch.view()
        known = {pool for space, pool in records.pools_of(view.entries if view else ()) if not space}
        known |= {pool for network in self._see.ours().networks for pool in network.pools}
        return next((pool for pool in known if pair.b in pool), None)

    def _way_out(self, pair: Pair) -> Door:
        pid = self._see.engine.pids_of([pair.a.name] if pair.a.named else []).get(pair.a.name)
        link, mtu = host_link(pair.a.endpoint), self._mtu(pair.a.network)
        return Door(pid, link, pair.mine, pair.b, mtu, (), True, None, outside=True)

    def _doors(self, pair: Pair) -> Iterator[Door]:
        network, mtu = pair.a.network, self._mtu(pair.a.network)
        remote, _ = _holder_of(self._remotes(network), pair.b)
        routers = (*network.pools, *(ip_network(each) for each in (remote.addresses if remote else ())))
        pids = self._see.engine.pids_of([end.name for end in (pair.a, pair.target) if end and end.named])
        pid, question = pids.get(pair.a.name), None
        resolver = whom_to_ask(self._see.resolvers, pair.a.endpoint.addresses)
        if resolver and pid and pair.name != str(pair.b):
            question = Question(pair.a.name, pid, pair.name, pair.b, resolver)
        yield Door(pid, host_link(pair.a.endpoint), pair.mine, pair.b, mtu, routers, True, question)
        if pair.target is not None:
            link = host_link(pair.target.endpoint)
            yield Door(pids.get(pair.target.name), link, pair.b, pair.mine, mtu, (), False, None)

    def _gather(self, ours: Ours, pair: Pair, visits: Visits) -> Found:
        see, a, b, target, underlay = self._see, pair.a, pair.b, pair.target, self._see.reconciler.underlay_seen
        network, given, mtu = a.network, self._given(), self._mtu(a.network)
        remote, block = _holder_of(self._remotes(network), b)
        seen = (*visits.seen, *[Visit(unseen="nobody looked")] * 2)
        reached = self._reached(underlay, network, remote, given)
        from_host = ping_one(Echo(b, within=remote.blocks if remote else ()))
        before, after = {each.reason: each.packets for each in visits.dropped}, _dropped()
        return Found(
            host=see.host,
            source=look_at(a.name, pair.mine, network, a.endpoint, mtu, seen[0]),
            to=b,
            name=pair.name,
            holder=self._holder(ours, network, b, remote, block, given, target),
            target=look_at(target.name, b, target.network, target.endpoint, mtu, seen[1]) if target else None,
            remote=remote if target is None else None,
            drops=tuple(_drops(network, a, pair.mine, b, target)),
            own_drops={reason: count - before.get(reason, count) for reason, count in after.items()},
            way=_way(a, pair.mine, b),
            missing=_missing(network, see.host, underlay, remote),
            refusal=BACKENDS[network.backend].refusal(underlay, remote) if underlay and remote else None,
            reached=reached,
            from_host=from_host,
        )

    def _remotes(self, network: Network) -> Sequence[Remote]:
        view = self._see.watch.view()
        return (view.remotes(network, self._see.host) if view else None) or ()

    def _mtu(self, network: Network) -> int:
        underlay = self._see.reconciler.underlay_seen
        return mtu_of(network, underlay) if underlay else network.mtu or 1280

    def _elsewhere(self, name: str) -> list[IPAddress]:
        """The addresses of a container of that name on any host."""
        return [a for known in self._see.attached().values() if known.name == name for a in known.addresses]

    def _engine(self) -> Sequence[EngineNetwork]:
        """Without it, containers are known by their addresses alone."""
        try:
            return self._see.engine.networks(SHORT_TIMEOUT)
        except EngineUnavailable:
            return ()

    def _given(self) -> dict[str, list[IPAddress]] | None:
        """None while the store is away."""
        try:
            return given_by_host(self._see.store.read(records.LEASES))
        except StoreUnavailable:
            return None

    def _holder(
        self,
        ours: Ours,
        network: Network,
        b: IPAddress,
        remote: Remote | None,
        block: IPNetwork | None,
        given: Mapping[str, Sequence[IPAddress]] | None,
        target: Local | None,
    ) -> Holder:
        here = next((held for blocks in ours.blocks.values() for held in blocks if b in held), None)
        if target is not None or b in network.host_addresses or b in network.gateways:
            return Holder(self._see.host, here, True)
        if remote is not None:
            silent = self._see.reclaimer.silences().get(remote.host, 0.0)
            quiet = silent if silent > 3 * self._see.tenancy.period else None
            has = b in given.get(remote.host, ()) if given is not None else None
            return Holder(remote.host, block, has or block == _alone(b) if has is not None else None, quiet)
        return Holder(self._see.host, here, False) if here is not None else Holder(None, None, False)

    def _reached(
        self,
        underlay: Underlay | None,
        network: Network,
        remote: Remote | None,
        given: Mapping[str, Sequence[IPAddress]] | None,
    ) -> Reached | None:
        if underlay is None or remote is None:
            return None
        with suppress(OSError):
            return next(iter(reach(underlay, ways(underlay, [(network, (remote,))])[0], given or {})), None)
        return None


def _locals(ours: Ours, engine: Sequence[EngineNetwork]) -> list[Local]:
    networks = {network.id: network for network in ours.networks}
    names = {endpoint: attached.container for each in engine for endpoint, attached in each.endpoints.items()}
    return [
        Local(
            names.get(endpoint.id) or str(endpoint.addresses[0]),
            endpoint,
            networks[endpoint.network_id],
            named=bool(names.get(endpoint.id)),
        )
        for endpoint in ours.endpoints
        if endpoint.network_id in networks and endpoint.addresses
    ]


def _named(locals_: Sequence[Local], text: str) -> list[Local]:
    with suppress(ValueError):
        address = ip_address(text)
        return [local for local in locals_ if address in local.endpoint.addresses]
    return [local for local in locals_ if local.name == text]


def _addresses(targets: Sequence[Local], text: str) -> list[IPAddress]:
    with suppress(ValueError):
        return [ip_address(text)]
    return [address for local in targets for address in local.endpoint.addresses]


def _same_family(endpoint: Endpoint, text: str, other: IPAddress) -> IPAddress:
    with suppress(ValueError):
        if (given := ip_address(text)).version == other.version:
            return given
    found = next((address for address in endpoint.addresses if address.version == other.version), None)
    if found is None:
        raise BadRequest(f"{text} has no IPv{other.version} address, and {other} is one")
    return found


def _own(endpoint: Endpoint, other: IPAddress) -> IPAddress:
    """Of the other's family, if it can be."""
    return next((each for each in endpoint.addresses if each.version == other.version), endpoint.addresses[0])


def _why(engine: Sequence[EngineNetwork], text: str) -> str:
    if not engine:
        return "; Docker does not answer, so give an address"
    return f"; trace starts on the host where {text} runs"


def _apart(a: Local, b: IPAddress, pool: IPNetwork) -> TraceAnswer:
    says = f"{a.name} is in network {a.network.pools[0]}, {b} is in network {pool}: networks do not reach each other"
    cure = f"put both in one network: `docker network connect NETWORK {a.name}`"
    source = Hop("container", OK, f"{a.name} has {', '.join(map(str, a.endpoint.addresses))}")
    return TraceAnswer(str(a.endpoint.addresses[0]), str(b), (source, Hop("network", WRONG, says, cure)))


def _holder_of(remotes: Sequence[Remote], b: IPAddress) -> tuple[Remote | None, IPNetwork | None]:
    """The longest prefix counts: a borrowed address is a block of its own."""
    found = [(block.prefixlen, remote, block) for remote in remotes for block in remote.blocks if b in block]
    best = max(found, key=lambda each: each[0], default=None)
    return (best[1], best[2]) if best else (None, None)


def _alone(b: IPAddress) -> IPNetwork:
    return ip_network(b)


def _dropped() -> dict[str, int]:
    try:
        return nft.read_dropped()
    except KernelError:
        return {}


def _drops(network: Network, a: Local, mine: IPAddress, b: IPAddress, target: Local | None) -> list[Drop]:
    try:
        rules = nft.read_ruleset()
    except KernelError:
        return []
    there = target.endpoint.host_link if target else network.device
    packets = [Packet(mine, b, a.endpoint.host_link, there), Packet(b, mine, there, a.endpoint.host_link)]
    found = [drop for packet in packets for hook in (PREROUTING, FORWARD) for drop in drops(rules, hook, packet)]
    return list(dict.fromkeys(found))


def _way(a: Local, mine: IPAddress, b: IPAddress) -> Way | str:
    with Look() as look:
        index = next((link.index for link in look.links() if link.name == a.endpoint.host_link), None)
        return look.way(b, mine, index) if index else "the container's link is gone"


def _missing(network: Network, host: str, underlay: Underlay | None, remote: Remote | None) -> tuple[Object, ...]:
    if underlay is None or remote is None:
        return ()
    wanted = [o for o in BACKENDS[network.backend].objects(network, host, underlay, [remote]) if isinstance(o, SEEN)]
    with Kernel() as kernel:
        actual = kernel.read()
    return tuple(o for o in wanted if actual.get(o.key) != o)

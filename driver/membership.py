"""This host's part in the cluster's networks: agreeing on a network's properties, and being one of its peers."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import count, islice

from driver.backends import BACKENDS
from driver.backends.interface import Remote, Underlay
from driver.errors import NetworkConflict
from driver.model import NetworkRequest
from driver.options import GWBRIDGE, LARGEST_VNI, Options
from store import records
from store.codec import BadRecord, decode, encode
from store.interface import ABSENT, Change, Check, Contended, Delete, Put, Store
from store.ip import IPAddress, IPNetwork, parse_network
from store.shared import Opened, Shared, close_if_empty, create, read_open, remove_member
from store.update import ATTEMPTS


class Membership:
    def __init__(
        self,
        store: Store,
        host: str,
        default_backend: str,
        public_key: Callable[[], str],
        *,
        encryption_required: bool = False,
        announced: Callable[[records.NetworkSpec, records.Peer], bool] = lambda *_: False,
        fence: Callable[[], Sequence[Check]] = tuple,
    ) -> None:
        """`public_key` gives this host's own, for networks whose backend encrypts; `announced` whether the store is
        already known to hold a network and a peer of it just so; `fence` goes into what tells where this host is, and
        that it is a peer no more."""
        self._store, self._host, self._default_backend, self._announced = store, host, default_backend, announced
        self._public_key, self._encryption_required, self._fence = public_key, encryption_required, fence
        self._found: set[IPNetwork] = set()  # networks in which the store was seen to have this host

    def forget(self) -> None:
        """After a lost lease others may have removed what was told, and a store may have lost it; what is known of the
        store may be from before that."""
        self._found.clear()

    def join(
        self,
        request: NetworkRequest,
        options: Options,
        gateways: tuple[IPAddress, ...],
        underlay: Underlay,
        tunnels: Collection[tuple[int, int]] = (),
    ) -> records.NetworkSpec:
        """Be one of the network's peers: the network as the cluster knows it, made known now if this host is the first.

        Where the user said nothing, what the first host said holds; NetworkConflict if the two contradict. Knowing
        the network and being a peer are one transaction, so that it cannot be closed in between, nor be left without
        peers by a crash: a peer without the network is found by upkeep. `tunnels` are the VNI and port of each VXLAN
        device of this host that is not ours: no network is given these."""
        pools = tuple(data.pool for data in request.pools)
        for attempt in range(ATTEMPTS):
            opened = read_open(self._store, _shared(pools[0]))
            spec = opened.record if opened else self._first_spec(request, options, gateways, tunnels, attempt)
            if self._encryption_required and not BACKENDS[spec.backend].encrypts:
                raise NetworkConflict(_plaintext(spec, known=opened is not None))
            contradiction = _contradiction(spec, pools, options, gateways, request.internal)
            if contradiction is None:
                peer = self._peer(pools[0], self._own(underlay, spec.backend))
                if self._store.commit(*self._known(opened, spec), *([peer] if peer else [])):
                    return spec
                self._refuse_taken(options, pools)
            elif not self.leave(pools[0]):  # what a crash of this host left would contradict nobody
                raise NetworkConflict(contradiction)
        raise Contended(f"network {pools[0]}: other hosts kept changing it; try again")

    def _known(self, opened: Opened[records.NetworkSpec] | None, spec: records.NetworkSpec) -> Sequence[Change]:
        shared = _shared(spec.pools[0])
        if opened is not None:
            return [opened.check(shared)]
        return [create(shared, spec), *(Put(key, str(spec.pools[0]).encode(), ABSENT) for key in _claims(spec))]

    def peers(self, spec: records.NetworkSpec) -> list[Remote]:
        """The other hosts of the network, as if each had a part of every pool."""
        entries = self._store.read(records.peers_prefix(spec.pools[0])).entries
        peers = []
        for entry in entries.values():
            with suppress(BadRecord):  # the view logs it
                peers.append(decode(records.Peer, entry.value))
        return [
            Remote(peer.host, peer.addresses, spec.pools, peer.public_key, peer.sources, peer.link)
            for peer in peers
            if peer.addresses and peer.host != self._host
        ]

    def _own(self, underlay: Underlay, backend: str) -> records.Peer:
        public_key = self._public_key() if BACKENDS[backend].encrypts else None
        return records.Peer(self._host, underlay.advertised, public_key, underlay.sources, underlay.link)

    def _peer(self, pool: IPNetwork, peer: records.Peer) -> Put | None:
        """None if it stands there already."""
        key, value = records.peer_key(pool, self._host), encode(peer)
        entry = self._store.get(key)
        if entry is not None and entry.value == value:
            return None
        return Put(key, value, entry.version if entry else ABSENT)

    def _first_spec(
        self,
        request: NetworkRequest,
        options: Options,
        gateways: tuple[IPAddress, ...],
        tunnels: Collection[tuple[int, int]],
        attempt: int,
    ) -> records.NetworkSpec:
        pools = tuple(data.pool for data in request.pools)
        backend = options.backend or self._default_backend
        port = options.port or BACKENDS[backend].port
        return records.NetworkSpec(
            pools=pools,
            gateways=gateways,
            backend=backend,
            vni=options.vni or _free_vni(pools[0], {vni for vni, used in tunnels if used == port}, attempt),
            port=port,
            mtu=options.mtu,
            internal=request.internal,
            gateway=options.gateway or GWBRIDGE,
            direct_routing=options.direct_routing or False,
            checksum_offload=options.checksum_offload or "auto",
            fast_path=options.fast_path or False,
        )

    def _refuse_taken(self, options: Options, pools: Sequence[IPNetwork]) -> None:
        if options.vni is not None:
            entry = self._store.get(records.vni_key(options.vni))
            if entry is not None and entry.value != str(pools[0]).encode():
                owner = entry.value.decode()
                raise NetworkConflict(f"-o vni={options.vni}: network {owner} has this number; choose another")
        for pool in pools:
            entry = self._store.get(records.owner_key(pool))
            if entry is None or entry.value == str(pools[0]).encode():
                continue
            first = parse_network(entry.value.decode())
            opened = read_open(self._store, _shared(first))
            theirs = _subnets(opened.record.pools if opened else (first, pool))
            raise NetworkConflict(
                f"pool {pool} belongs to network {first} in the cluster; type {theirs} for that, or choose another pool"
            )

    def publish(self, spec: records.NetworkSpec, underlay: Underlay) -> None:
        """Tell the other hosts of the network where, and by which key, this one is reached.

        Nothing is written if it already stands so, nor asked if that is known: a host in many networks does this for
        each of them again and again. Of two machines with one identity, one writes nothing (ipam/copies.py): else the
        packets of both would go to either in turn.

        Where the cluster has forgotten the network, as it does when its last host is given up, this host makes it known
        again as it was. NetworkConflict if there is another one in its place."""
        pool, own = spec.pools[0], self._own(underlay, spec.backend)
        if pool in self._found and self._announced(spec, own):
            return
        self._tell(spec, own)
        self._found.add(pool)

    def _tell(self, spec: records.NetworkSpec, own: records.Peer) -> None:
        pool = spec.pools[0]
        for _ in range(ATTEMPTS):
            opened = read_open(self._store, _shared(pool))
            if opened is not None and opened.record != spec:
                raise NetworkConflict(
                    f"the other hosts have made network {pool} anew, and otherwise than it is here; remove it here and "
                    "create it again"
                )
            peer = self._peer(pool, own)
            if opened is not None and peer is None:
                return
            if self._store.commit(*self._fence(), *self._known(opened, spec), *([peer] if peer else [])):
                return
            if opened is None:
                self._refuse_taken(Options(vni=spec.vni), spec.pools)
        key = records.peer_key(pool, self._host)
        raise Contended(f"{key}: somebody else kept writing it; is another host named {self._host}?")

    def leave(self, pool: IPNetwork) -> bool:
        """No longer a peer; not having been one is fine. True when the network's record is gone with the last one.

        Of two machines with one identity, one stays what the other is: a network that is removed on a clone has the
        original for a peer."""
        remove_member(self._store, records.peer_key(pool, self._host), self._fence)
        return close_network(self._store, pool)


def close_network(store: Store, pool: IPNetwork) -> bool:
    """Forget the network, and what it alone has, if no host is its peer any more."""

    def unclaim(spec: records.NetworkSpec) -> Sequence[Change]:
        entries = {key: store.get(key) for key in _claims(spec)}
        return [Delete(key, entry.version) for key, entry in entries.items() if entry]

    return close_if_empty(store, _shared(pool), unclaim)


def _claims(spec: records.NetworkSpec) -> list[str]:
    """The keys that say that something is this network's alone."""
    return [records.vni_key(spec.vni), *map(records.owner_key, spec.pools)]


def derived_vni(pool: IPNetwork, attempt: int) -> int:
    """A network number that two clusters rarely share, from the pool; another one for each attempt."""
    digest = hashlib.sha256(f"{pool}/{attempt}".encode()).digest()
    return 1 + int.from_bytes(digest[:4]) % (LARGEST_VNI - 1)


def _free_vni(pool: IPNetwork, used: Collection[int], attempt: int) -> int:
    free = (vni for number in count() if (vni := derived_vni(pool, number)) not in used)
    return next(islice(free, attempt, None))


def _shared(pool: IPNetwork) -> Shared[records.NetworkSpec]:
    return Shared(records.NetworkSpec, records.network_key(pool), records.peers_prefix(pool))


def _contradiction(
    spec: records.NetworkSpec,
    pools: tuple[IPNetwork, ...],
    options: Options,
    gateways: tuple[IPAddress, ...],
    internal: bool,
) -> str | None:
    """What was typed here and on the host that made the network, where the two cannot both be."""
    both_gateways = zip(gateways, spec.gateways, strict=False)  # another number of pools is told first
    both = [
        (f"with {_subnets(pools)}", f"with {_subnets(spec.pools)}"),
        *((_typed("--gateway", here), _typed("--gateway", there)) for here, there in both_gateways),
        (_flag("--internal", internal), _flag("--internal", spec.internal)),
    ]
    for name in ("backend", "vni", "port", "mtu", "gateway", "direct_routing", "checksum_offload", "fast_path"):
        wanted, option = getattr(options, name), f"-o {name.replace('_', '-')}="
        if wanted is not None:
            both.append((_typed(option, wanted), _typed(option, getattr(spec, name))))
    for here, there in both:
        if here != there:
            return (
                f"network {spec.pools[0]} is made {there} on the other hosts, not {here}; make it alike on every host"
            )
    return None


def _plaintext(spec: records.NetworkSpec, *, known: bool) -> str:
    where, backends = "FLANNELPY_ENCRYPTION is required on this host", [n for n, b in BACKENDS.items() if b.encrypts]
    if known:
        return (
            f"network {spec.pools[0]} is carried by {spec.backend}, which does not encrypt, and {where}; "
            f"make it anew on all hosts with -o backend={backends[0]}"
        )
    return (
        f"backend {spec.backend} does not encrypt, and {where}; type: docker network create -d flannelpy "
        f"--ipam-driver flannelpy {_subnets(spec.pools)} -o backend={backends[0]} NAME"
    )


def _typed(option: str, value: object) -> str:
    separator = "" if option.endswith("=") else " "
    word = "true" if value is True else value
    return f"with {option}{separator}{word}" if value else f"without {option.removesuffix('=')}"


def _flag(name: str, given: bool) -> str:
    return f"with {name}" if given else f"without {name}"


def _subnets(pools: Sequence[IPNetwork]) -> str:
    versions = {pool.version for pool in pools}
    flags = [*["--ipv4=false"] * (4 not in versions), *["--ipv6"] * (6 in versions)]
    return " ".join([*flags, *(f"--subnet {pool}" for pool in pools)])

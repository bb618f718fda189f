"""A host in the cluster's networks: agreeing on them, joining, leaving, and never a trace too many."""

from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from driver.backends.interface import Remote, Underlay
from driver.errors import NetworkConflict
from driver.membership import Membership, derived_vni
from driver.model import NetworkRequest, PoolData
from driver.options import Options
from driver.view import View
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Change, Entry, Put, Store
from store.memory import MemoryStore

POOL, POOL6, OTHER = ip_network("10.240.0.0/18"), ip_network("fd77::/64"), ip_network("10.242.0.0/18")
KEY = "sy9hm5aMXhIgDpcr6y1fMq3qyZJPoROI2OmC4ZPXRFM="


def underlay(address: str) -> Underlay:
    own = (ip_address(address),)
    return Underlay("eth0", 1500, own, own, (ip_network("192.0.2.0/24"),))


HERE, THERE = underlay("192.0.2.1"), underlay("192.0.2.2")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def join(
    store: Store,
    host: str,
    *pools: object,
    internal: bool = False,
    options: Options | None = None,
    tunnels: Collection[tuple[int, int]] = (),
) -> records.NetworkSpec:
    networks = [ip_network(str(pool)) for pool in pools]
    request = NetworkRequest("n", tuple(PoolData(pool, None, "flannelpy") for pool in networks), {}, internal)
    gateways = tuple(pool[1] for pool in networks)
    return Membership(store, host, "vxlan", lambda: KEY).join(request, options or Options(), gateways, HERE, tunnels)


def leave(store: MemoryStore, host: str, pool: object) -> bool:
    return Membership(store, host, "vxlan", lambda: KEY).leave(ip_network(str(pool)))


def keys(store: MemoryStore) -> list[str]:
    return sorted(store.read("").entries)


def test_what_the_first_host_said_holds_for_those_who_say_nothing(store: MemoryStore) -> None:
    first = join(store, "h1", POOL, options=Options(backend="host-gw", mtu=1400))
    assert join(store, "h2", POOL) == first
    assert (first.backend, first.mtu) == ("host-gw", 1400)


def test_the_last_one_out_takes_everything_along(store: MemoryStore) -> None:
    join(store, "h1", POOL, POOL6)
    join(store, "h2", POOL, POOL6)
    assert not leave(store, "h1", POOL)
    assert leave(store, "h2", POOL)
    assert keys(store) == []


@pytest.mark.parametrize(
    ("pools", "options", "internal", "words"),
    [
        (
            (POOL,),
            Options(backend="host-gw"),
            False,
            "with -o backend=vxlan on the other hosts, not with -o backend=ho",
        ),
        ((POOL,), Options(mtu=1300), False, "without -o mtu on the other hosts, not with -o mtu=1300"),
        ((POOL,), Options(vni=7), False, "not with -o vni=7"),
        (
            (POOL,),
            Options(direct_routing=True),
            False,
            "without -o direct-routing on the other hosts, not with -o direct-routing=true",
        ),
        ((POOL,), Options(checksum_offload="off"), False, "with -o checksum-offload=auto on the other hosts, not with"),
        ((POOL,), Options(), True, "without --internal on the other hosts, not with --internal"),
        ((POOL, POOL6), Options(), False, "not with --ipv6 --subnet 10.240.0.0/18 --subnet fd77::/64"),
    ],
)
def test_who_contradicts_is_told_what_the_others_typed_and_leaves_no_trace(
    store: MemoryStore, pools: tuple[object, ...], options: Options, internal: bool, words: str
) -> None:
    join(store, "h1", POOL)
    before = keys(store)
    with pytest.raises(NetworkConflict, match=words):
        join(store, "h2", *pools, internal=internal, options=options)
    assert keys(store) == before


def test_what_a_crash_of_this_host_left_contradicts_nobody(store: MemoryStore) -> None:
    join(store, "h1", POOL)
    assert join(store, "h1", POOL, options=Options(backend="host-gw")).backend == "host-gw"


def test_a_pool_belongs_to_one_network(store: MemoryStore) -> None:
    join(store, "h1", POOL, POOL6)
    for pools in ((OTHER, POOL6), (POOL6,)):
        with pytest.raises(
            NetworkConflict, match=r"fd77::/64 belongs to network 10.240.0.0/18 .* --ipv6 --subnet 10.240"
        ):
            join(store, "h2", *pools)
    leave(store, "h1", POOL)
    join(store, "h2", OTHER, POOL6)


def test_a_vni_belongs_to_one_network(store: MemoryStore) -> None:
    join(store, "h1", POOL, options=Options(vni=7))
    with pytest.raises(NetworkConflict, match=r"-o vni=7: network 10.240.0.0/18 has this number"):
        join(store, "h2", OTHER, options=Options(vni=7))


def test_a_network_that_is_closed_while_a_host_joins_is_made_anew() -> None:
    class LastOneLeaves(MemoryStore):
        """At the moment of h2's commit."""

        def commit(self, *changes: Change) -> bool:
            if any(change.key.endswith("/peers/h2") for change in changes) and leaving:
                leave(self, leaving.pop(), POOL)
            return super().commit(*changes)

    leaving: list[str] = []
    store = LastOneLeaves()
    join(store, "h1", POOL, options=Options(backend="host-gw"))
    leaving.append("h1")
    assert join(store, "h2", POOL).backend == "vxlan"
    assert records.peer_key(POOL, "h2") in keys(store)


def test_telling_the_same_again_writes_nothing(store: MemoryStore) -> None:
    spec = join(store, "h1", POOL)
    before = store.read("").version
    membership = Membership(store, "h1", "vxlan", lambda: KEY)
    membership.publish(spec, HERE)
    assert store.read("").version == before
    membership.publish(spec, THERE)
    assert store.read("").version > before


def test_what_was_found_once_and_the_view_still_shows_is_not_asked_for(store: MemoryStore) -> None:
    spec = join(store, "h1", POOL)
    asked: list[str] = []

    class Listening(MemoryStore):
        def get(self, key: str) -> Entry | None:
            asked.append(key)
            return store.get(key)

    def publish(view: View, where: Underlay) -> bool:
        """Whether the store was asked."""
        listening = Listening()
        listening.commit = store.commit  # type: ignore[method-assign]
        membership = Membership(listening, "h1", "vxlan", lambda: KEY, announced=view.shows)
        membership.publish(spec, HERE)
        asked.clear()
        membership.publish(spec, where)
        return asked != []

    current = View.of(store.read(records.POOLS))
    assert not publish(current, HERE)
    assert publish(View({}), HERE)
    assert publish(current.after({records.peer_key(POOL, "h1"): None}), HERE)
    assert publish(current.after({records.network_key(POOL): encode(replace(spec, mtu=1300))}), HERE)
    assert publish(current.after({records.network_key(POOL): b"no record"}), HERE)
    assert publish(current, THERE)


def test_after_a_lost_lease_a_view_from_before_is_not_believed(store: MemoryStore) -> None:
    """The watch pauses after an outage, so what it shows is older than what the beat found."""
    spec = join(store, "h1", POOL)
    old = View.of(store.read(records.POOLS))
    membership = Membership(store, "h1", "vxlan", lambda: KEY, announced=old.shows)
    membership.publish(spec, HERE)
    leave(store, "h1", POOL)  # as whoever gives this host up does
    membership.forget()
    membership.publish(spec, HERE)
    assert records.peer_key(POOL, "h1") in keys(store)


def test_what_the_cluster_forgot_is_made_known_again_as_it_was(store: MemoryStore) -> None:
    """The only host was given up, or the store was wiped, and the network is still here."""
    spec = join(store, "h1", POOL, POOL6, options=Options(backend="host-gw", mtu=1400))
    before = {key: entry.value for key, entry in store.read("").entries.items()}
    leave(store, "h1", POOL)
    Membership(store, "h1", "vxlan", lambda: KEY).publish(spec, HERE)
    assert {key: entry.value for key, entry in store.read("").entries.items()} == before


def test_another_network_in_its_place_is_not_joined(store: MemoryStore) -> None:
    spec = join(store, "h1", POOL)
    leave(store, "h1", POOL)
    join(store, "h2", POOL, options=Options(mtu=1300))
    before = keys(store)
    with pytest.raises(NetworkConflict, match=r"have made network 10\.240\.0\.0/18 anew"):
        Membership(store, "h1", "vxlan", lambda: KEY).publish(spec, HERE)
    leave(store, "h2", POOL)
    join(store, "h2", OTHER, options=Options(vni=spec.vni))
    with pytest.raises(NetworkConflict, match=f"vni={spec.vni}: network {OTHER} has this number"):
        Membership(store, "h1", "vxlan", lambda: KEY).publish(spec, HERE)
    assert records.peer_key(POOL, "h1") not in before + keys(store)


def test_a_network_takes_no_vni_that_this_host_uses_on_the_same_port(store: MemoryStore) -> None:
    first, second = derived_vni(POOL, 0), derived_vni(POOL, 1)
    assert join(store, "h1", POOL, tunnels={(first, 4789), (second, 8479)}).vni == first
    leave(store, "h1", POOL)
    assert join(store, "h1", POOL, tunnels={(first, 8479)}).vni == second
    leave(store, "h1", POOL)
    store.commit(Put(records.vni_key(second), b"10.99.0.0/18", ABSENT))
    assert join(store, "h1", POOL, tunnels={(first, 8479)}).vni == derived_vni(POOL, 2)


def test_the_other_hosts_are_told_with_their_addresses_and_links(store: MemoryStore) -> None:
    join(store, "h1", POOL)
    spec = join(store, "h2", POOL)
    link = (ip_network("192.0.2.0/24"),)
    assert Membership(store, "h2", "vxlan", lambda: KEY).peers(spec) == [
        Remote("h1", HERE.advertised, (POOL,), link=link)
    ]


def test_a_host_publishes_its_key_where_the_backend_encrypts_and_follows_itself(store: MemoryStore) -> None:
    def peer() -> records.Peer:
        entry = store.get(records.peer_key(POOL, "h1"))
        assert entry is not None
        return decode(records.Peer, entry.value)

    spec = join(store, "h1", POOL, options=Options(backend="wireguard"))
    assert peer() == records.Peer("h1", HERE.advertised, KEY, (), HERE.link)
    Membership(store, "h1", "vxlan", lambda: "another").publish(spec, HERE)
    assert peer() == records.Peer("h1", HERE.advertised, "another", (), HERE.link)
    leave(store, "h1", POOL)
    join(store, "h1", POOL)
    assert peer() == records.Peer("h1", HERE.advertised, None, (), HERE.link)


def test_where_encryption_is_required_plaintext_is_neither_made_nor_joined(store: MemoryStore) -> None:
    careful = Membership(store, "h2", "wireguard", lambda: KEY, encryption_required=True)
    request = NetworkRequest("n", (PoolData(POOL, None, "flannelpy"),), {})
    before = keys(store)
    with pytest.raises(NetworkConflict) as refused:
        careful.join(request, Options(backend="vxlan"), (POOL[1],), HERE)
    assert str(refused.value) == (
        "backend vxlan does not encrypt, and FLANNELPY_ENCRYPTION is required on this host; type: docker network "
        "create -d flannelpy --ipam-driver flannelpy --subnet 10.240.0.0/18 -o backend=wireguard NAME"
    )
    assert keys(store) == before
    assert careful.join(request, Options(), (POOL[1],), HERE).backend == "wireguard"
    careful.leave(POOL)
    join(store, "h1", POOL)
    before = keys(store)
    with pytest.raises(NetworkConflict) as refused:
        careful.join(request, Options(), (POOL[1],), HERE)
    assert str(refused.value) == (
        "network 10.240.0.0/18 is carried by vxlan, which does not encrypt, and FLANNELPY_ENCRYPTION is required on "
        "this host; make it anew on all hosts with -o backend=wireguard"
    )
    assert keys(store) == before

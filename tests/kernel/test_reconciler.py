"""When a pass looks at the kernel, and when it knows: in a namespace, with all but the firewall as it is."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from driver.endpoints import attach
from driver.errors import KernelError
from driver.forwarding import Forwarding
from driver.goal import LocalNetwork, goal
from driver.journal import Journal
from driver.kernel import Kernel, Notices, flows
from driver.listener import COALESCE, Listener
from driver.model import Endpoint, Network
from driver.reconciler import INSISTENT, Reconciler
from driver.state import FastPath, State
from driver.view import View
from store import records
from store.codec import encode
from store.ip import IPNetwork
from store.memory import MemoryStore
from tests.kernel.conftest import NamespaceHost, inside

POOL = ip_network("10.240.0.0/18")
NET = Network("n", (POOL,), (POOL[1],), "vxlan", 7, 8479, None, False, (ip_address("10.240.1.1"),))
BLOCKS = [ip_network(f"10.240.{number}.0/26") for number in range(2, 6)]


class Counted(Kernel):
    reads = 0

    def read(self) -> State:
        Counted.reads += 1
        return super().read()


class Bed:
    def __init__(self, host: NamespaceHost) -> None:
        self.journal = journal = Journal(MemoryStore())
        journal.put_network(NET)
        peer = records.Peer("h2", (ip_address("192.0.2.2"),))
        spec = records.NetworkSpec((POOL,), NET.gateways, "vxlan", 7, 8479, None, False)
        self.view = View({records.network_key(POOL): encode(spec), records.peer_key(POOL, "h2"): encode(peer)})
        self.host, self.reconciler = (
            host,
            Reconciler(journal, "h1", lambda: self.view, None, (), open_kernel=lambda: Counted(host.name)),
        )

    def tell(self, number: int, host: str | None) -> None:
        value = encode(records.Block(host)) if host else None
        self.view = self.view.after({records.block_key(POOL, BLOCKS[number]): value})
        self.reconciler.view_changed()

    def attach(self) -> Endpoint:
        """As Docker's requests do it, beside the reconciler."""
        endpoint = Endpoint("e" * 64, NET.id, (ip_address("10.240.1.5"),), "02:00:00:00:00:05", mtu=1450)
        self.journal.put_endpoint(endpoint)
        inside(self.host.name, lambda: attach(self.host.kernel, NET, endpoint, 1450))
        return endpoint

    def has_route(self, number: int) -> bool:
        return str(BLOCKS[number]) in self.host.ip("route")


@pytest.fixture
def bed(two_hosts: tuple[NamespaceHost, NamespaceHost], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    replace_forwarding(monkeypatch)
    made = Bed(two_hosts[0])
    made.tell(0, "h2")
    made.reconciler.start()
    made.reconciler.settle(["fl.7"])
    yield made
    made.reconciler.stop()


def replace_forwarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the machine's own."""
    monkeypatch.setattr(Forwarding, "admit", lambda *_: None)
    monkeypatch.setattr(Forwarding, "settle", lambda *_, look: [])


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 3
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_what_others_tell_is_carried_out_without_a_look_at_the_kernel(bed: Bed) -> None:
    before = Counted.reads
    bed.tell(1, "h2")
    assert soon(lambda: bed.has_route(1))
    bed.tell(0, None)
    assert soon(lambda: not bed.has_route(0))
    assert Counted.reads == before


@pytest.mark.parametrize("looking", [False, True])
def test_a_peer_is_let_in_before_the_way_to_it_and_kept_until_the_way_is_gone(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, looking: bool
) -> None:
    """So that what is sent there is answered from the first packet to the last."""
    done: list[tuple[str, bool, bool]] = []

    def note(what: str, networks: Sequence[LocalNetwork]) -> list[str]:
        known = any(BLOCKS[1] in remote.blocks for local in networks for remote in local.remotes or ())
        done.append((what, known, bed.has_route(1)))
        return []

    monkeypatch.setattr(Forwarding, "admit", lambda _, underlay, networks: note("admit", networks))
    monkeypatch.setattr(Forwarding, "settle", lambda _, underlay, networks, look: note("settle", networks))
    if looking:
        monkeypatch.setattr(bed.reconciler, "_follow", lambda *_: False)
    for there in (True, False):
        done.clear()
        bed.tell(1, "h2" if there else None)
        assert soon(partial(done.__contains__, ("settle", there, there)))
        assert ("admit", there, not there) in done
        assert ("settle", there, not there) not in done


def test_where_the_kernel_does_not_stand_as_it_was_known_the_pass_looks(bed: Bed) -> None:
    """Somebody has taken the place of a route: it is told, and what else is asked for is done all the same."""
    bed.host.ip("route", "add", str(BLOCKS[1]), "via", "192.0.2.77")
    before = Counted.reads
    bed.tell(1, "h2")
    bed.tell(2, "h2")
    assert soon(lambda: bed.has_route(2))
    assert soon(lambda: any("another route to 10.240.3.0/26" in fault for fault in bed.reconciler.faults()))
    assert Counted.reads > before
    bed.host.ip("route", "del", str(BLOCKS[1]))
    bed.reconciler.poke()
    assert soon(lambda: "10.240.3.0/26 via 10.240.3.0" in bed.host.ip("route"))
    assert soon(lambda: not bed.reconciler.faults())


def test_a_look_comes_in_time_however_often_others_tell_something(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.reconciler.SWEEP", 0.5)
    bed.reconciler.settle(["fl.7"])
    bed.host.ip("route", "del", str(BLOCKS[0]))
    for number in range(30):
        bed.tell(2, "h2" if number % 2 else None)
        time.sleep(0.05)
    assert bed.has_route(0)


def test_a_look_that_finds_what_the_last_one_left_computes_nothing(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0

    def counted(*arguments: Any, **options: Any) -> State:
        nonlocal computed
        computed += 1
        return goal(*arguments, **options)

    monkeypatch.setattr("driver.reconciler.goal", counted)
    bed.reconciler.settle(["fl.7"])
    bed.reconciler.settle(["fl.7"])
    assert computed == 0
    bed.host.ip("route", "del", str(BLOCKS[0]))
    bed.reconciler.settle(["fl.7"])
    assert bed.has_route(0)
    bed.tell(0, None)
    assert soon(lambda: not bed.has_route(0))
    bed.host.ip("route", "add", str(BLOCKS[0]), "dev", "eth0", "proto", "102")
    bed.reconciler.settle(["fl.7"])
    assert not bed.has_route(0)


def test_a_pass_that_breaks_off_is_a_failure_for_whoever_waits(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: Kernel) -> State:
        raise KernelError("reading the kernel's tables: no memory")

    monkeypatch.setattr(Counted, "read", no_memory)
    with pytest.raises(KernelError, match="no memory"):
        bed.reconciler.settle(["fl.7"])
    monkeypatch.undo()
    replace_forwarding(monkeypatch)
    bed.reconciler.settle(["fl.7"])


def test_a_failure_is_of_the_link_that_it_names(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forwarding, "settle", lambda *_, look: ["fl.77, fl.78: no such table"])
    bed.reconciler.settle(["fl.7"])
    with pytest.raises(KernelError, match="no such table"):
        bed.reconciler.settle(["fl.77"])


def test_what_a_pass_has_done_is_no_reason_to_look_and_what_others_do_is(bed: Bed) -> None:
    notices = Notices(bed.host.name, bed.reconciler)
    listener = Listener(bed.reconciler.poke, lambda: notices)
    listener.start()
    bed.host.ip("route", "del", str(BLOCKS[0]))
    assert soon(lambda: bed.has_route(0))
    time.sleep(3 * COALESCE)
    before = Counted.reads
    bed.tell(1, "h2")
    bed.tell(2, "h2")
    assert soon(lambda: bed.has_route(1) and bed.has_route(2))
    time.sleep(3 * COALESCE)
    assert Counted.reads == before
    listener.stop()  # with what it hears next
    bed.host.ip("route", "replace", str(BLOCKS[1]), "via", "192.0.2.77", "proto", "102")
    assert soon(lambda: "192.0.2.77" not in bed.host.ip("route"))


@pytest.fixture
def listening(bed: Bed) -> Iterator[Bed]:
    """To what the kernel tells, as in earnest."""
    notices = Notices(bed.host.name, bed.reconciler)
    listener = Listener(bed.reconciler.poke, lambda: notices)
    listener.start()
    yield bed
    listener.stop()
    bed.host.ip("link", "add", "last", "type", "bridge")  # what it hears next is the last


def test_a_container_that_comes_is_no_reason_to_look(listening: Bed) -> None:
    before = Counted.reads
    listening.attach()
    time.sleep(3 * COALESCE)
    assert Counted.reads == before


def test_a_container_that_goes_is_no_reason_to_look(listening: Bed) -> None:
    endpoint = listening.attach()
    listening.reconciler.settle([endpoint.host_link])
    time.sleep(3 * COALESCE)
    before = Counted.reads
    listening.journal.remove_endpoint(endpoint.id)
    listening.host.kernel.delete_link(endpoint.host_link)
    time.sleep(3 * COALESCE)
    assert Counted.reads == before


@pytest.mark.parametrize(
    "harm",
    [
        "link set {dev} name lost",
        "link set {dev} name vethlost",
        "link set {dev} mtu 1300",
        "link set {dev} down",
        "addr add 10.240.0.9/32 dev {dev}",
        "addr del 10.240.0.1/32 dev {dev}",
        "route del 10.240.1.5",
        "route replace 10.240.1.5 dev fl.7 proto 102",
        "route add 10.240.1.6 dev {dev} proto 102",
        "route add 10.240.1.5 dev fl.7 proto 102 metric 7",
    ],
)
def test_harm_to_a_containers_link_is_healed_before_the_next_sweep(listening: Bed, harm: str) -> None:
    dev = listening.attach().host_link
    listening.reconciler.settle([dev])

    def state() -> set[str]:
        return {str(o) for o in listening.host.kernel.read().values()}

    before = state()
    listening.host.ip(*harm.format(dev=dev).split())
    assert soon(lambda: state() == before), before ^ state()


@pytest.mark.parametrize("looking", [False, True])
def test_the_switches_of_a_containers_link_are_set_back(listening: Bed, looking: bool) -> None:
    """That which keeps it from sending in another's name at once; all with the next look."""
    dev = listening.attach().host_link
    listening.reconciler.settle([dev])
    switches = ["ipv4/conf/{}/rp_filter", *["ipv4/conf/{}/proxy_arp", "ipv6/conf/{}/accept_ra"] * looking]
    paths = " ".join(f"/proc/sys/net/{switch.format(dev)}" for switch in switches)

    def read() -> str:
        return listening.host.run("sh", "-c", f"cat {paths}").stdout

    before = read()
    assert before.split() == ["1", *["0", "0"] * looking]
    listening.host.run("sh", "-c", f"for path in {paths}; do echo 2 > $path; done")
    assert read() != before
    if looking:
        listening.reconciler.settle([dev])
        assert read() == before
    assert soon(lambda: read() == before)


@pytest.mark.parametrize(
    "harm",
    [
        "route replace 10.240.2.0/26 via 192.0.2.77",
        "route change 10.240.2.0/26 via 192.0.2.77 proto static",
        "route replace blackhole 10.240.2.0/26",
        "route replace 10.240.2.0/26 nexthop via 192.0.2.77 nexthop via 192.0.2.78",
        "neigh replace 10.240.2.0 lladdr 02:00:00:00:00:99 dev fl.7 nud reachable",
        "link set fl.7 type vxlan learning",
    ],
)
def test_harm_without_our_mark_is_healed_before_the_next_sweep(listening: Bed, harm: str) -> None:
    def state() -> set[str]:
        return {str(o) for o in listening.host.kernel.read().values()}

    before = state()
    listening.host.ip(*harm.split())
    assert state() != before
    assert soon(lambda: state() == before), before ^ state()


def test_a_route_that_is_replaced_again_and_again_is_told_of_and_taken_back_at_the_sweep(
    listening: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program keeps it, too: the two must not replace each other's for ever."""
    other, ours = ("10.240.2.0/26 via 192.0.2.77", "10.240.2.0/26 via 10.240.2.0")
    listening.host.ip("route", "replace", *other.split())
    assert soon(lambda: ours in listening.host.ip("route"))
    listening.host.ip("route", "replace", *other.split())
    assert soon(lambda: any("another route to 10.240.2.0/26" in fault for fault in listening.reconciler.faults()))
    passes = listening.reconciler.passes
    time.sleep(1.1)
    assert other in listening.host.ip("route")
    assert listening.reconciler.passes == passes
    listening.reconciler.settle(["fl.7"])
    assert ours in listening.host.ip("route")


def test_a_route_that_is_replaced_again_is_taken_back_however_often_is_looked(listening: Bed) -> None:
    """Each look finds it replaced; only what was put back and replaced once more is somebody's insistence."""
    other, ours = ("10.240.2.0/26 via 192.0.2.77", "10.240.2.0/26 via 10.240.2.0")
    for _ in range(2):
        listening.host.ip("route", "replace", *other.split())
        until = time.monotonic() + 3 * INSISTENT
        while ours not in listening.host.ip("route"):
            assert time.monotonic() < until
            listening.reconciler.poke()
            time.sleep(COALESCE)


def test_a_route_that_was_there_before_ours_is_left_and_its_end_is_noticed(listening: Bed) -> None:
    listening.host.ip("route", "add", str(BLOCKS[1]), "via", "192.0.2.77")
    listening.tell(1, "h2")
    assert soon(lambda: any("another route to 10.240.3.0/26" in fault for fault in listening.reconciler.faults()))
    listening.reconciler.poke()
    time.sleep(3 * COALESCE)
    assert "10.240.3.0/26 via 192.0.2.77" in listening.host.ip("route")
    listening.host.ip("route", "del", str(BLOCKS[1]))
    assert soon(lambda: "10.240.3.0/26 via 10.240.3.0" in listening.host.ip("route"))


def test_the_way_to_other_hosts_is_followed_before_the_next_sweep(listening: Bed) -> None:
    """Onto a bridge between hosts, and back, and the MTU of that."""
    ip = listening.host.ip
    for words in ("link add br-lan type bridge", "link set br-lan up", "addr add 198.51.100.1/24 dev br-lan"):
        ip(*words.split())
    ip("route", "replace", "default", "via", "198.51.100.254")
    assert soon(lambda: "local 198.51.100.1" in ip("-d", "link", "show", "fl.7"))
    ip("link", "set", "br-lan", "mtu", "1400")
    assert soon(lambda: "mtu 1350" in ip("link", "show", "fl.7"))
    ip("addr", "add", "198.51.100.2/24", "dev", "br-lan")
    ip("addr", "del", "198.51.100.1/24", "dev", "br-lan")
    ip("addr", "add", "198.51.100.2/24", "dev", "br-lan")
    ip("route", "replace", "default", "via", "198.51.100.254")
    assert soon(lambda: "local 198.51.100.2" in ip("-d", "link", "show", "fl.7"))
    ip("route", "replace", "default", "via", "192.0.2.254")
    assert soon(lambda: "local 192.0.2.1" in ip("-d", "link", "show", "fl.7"))


def test_an_underlay_that_becomes_too_narrow_for_ipv6_is_told_with_the_figures(bed: Bed) -> None:
    pool = ip_network("fd77::/64")
    bed.journal.put_network(replace(NET, pools=(pool,), gateways=(pool[1],), host_addresses=(pool[9],)))
    bed.host.ip("link", "set", "eth0", "mtu", "1300")
    bed.reconciler.poke()
    assert soon(lambda: any("1300, which leaves 1250" in fault for fault in bed.reconciler.faults()))
    bed.host.ip("link", "set", "eth0", "mtu", "1500")
    bed.reconciler.settle(["fl.7"])
    assert bed.reconciler.faults() == []
    assert "fd77::9" in bed.host.ip("-6", "addr", "show", "dev", "fl.7")


def fast_paths(host: NamespaceHost) -> set[str]:
    with Kernel(host.name) as kernel:  # one that remembers nothing
        return {o.dev for o in kernel.read().values() if isinstance(o, FastPath)}


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[Collection[IPNetwork]]:
    """The pools whose flows would be, in the machine's own namespace."""
    seen: list[Collection[IPNetwork]] = []

    def forget_within(pools: Collection[IPNetwork]) -> int:
        seen.append(pools)
        return 0

    monkeypatch.setattr(flows, "forget_within", forget_within)
    return seen


def test_a_network_has_its_fast_path_unless_the_host_has_policies_of_ipsec(
    bed: Bed, forgotten: list[Collection[IPNetwork]]
) -> None:
    bed.journal.put_network(replace(NET, fast_path=True, direct_routing=True))
    bed.reconciler.settle(["fl.7"])
    assert fast_paths(bed.host) == {"fl.7", "eth0"}
    bed.host.ip(
        *["xfrm", "policy", "add", "src", "10.240.0.0/18", "dst", "10.240.0.0/18", "dir", "out", "action", "block"]
    )
    assert forgotten == []
    bed.reconciler.settle(["fl.7"])
    assert fast_paths(bed.host) == set()
    assert forgotten == [[POOL]]
    bed.host.ip("xfrm", "policy", "flush")
    bed.reconciler.settle(["fl.7"])
    assert fast_paths(bed.host) == {"fl.7", "eth0"}


@pytest.mark.usefixtures("forgotten")
def test_a_fast_path_that_one_link_refuses_is_given_up_on_all_and_is_no_fault(bed: Bed) -> None:
    """Somebody shares the classifiers of that link with other links."""
    assert bed.host.run("tc", "qdisc", "add", "dev", "eth0", "ingress_block", "7", "clsact").returncode == 0
    bed.journal.put_network(replace(NET, fast_path=True, direct_routing=True))
    for _ in range(2):  # the second pass takes away what the first one put
        bed.reconciler.settle(["fl.7"])
    assert fast_paths(bed.host) == set()
    assert bed.reconciler.faults() == []

"""Networks spread: three hosts, whatever their users and crashes do, come to agree, and nothing is lost by it."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.dockerd import EngineRefused, EngineUnavailable
from cluster.engine import Event, ListedNetwork
from cluster.participation import Participation
from cluster.removals import REST, read
from cluster.spread import State
from cluster.spreader import RETRY, Spreader
from ipam.tenancy import NameTaken
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Change, Check, Delete, Entry, Put, Snapshot
from store.memory import MemoryStore
from store.records import NETWORKS, DockerNetwork, NetworkShape

POOLS = ("10.240.0.0/18", "10.241.0.0/18")
LEASE = 86400.0
ids = itertools.count(1)


def shape(name: str, pool: str = POOLS[0], label: str = "", driver: str = "flannelpy") -> NetworkShape:
    labels = (("say", label),) if label else ()
    return NetworkShape(name, driver, driver, (ip_network(pool),), (), (), (), (), (), labels, False, False, False)


def plain(wanted: NetworkShape) -> dict[str, Any]:
    return {field: getattr(wanted, field) for field in NetworkShape.__dataclass_fields__}


def refuse(network_id: str) -> None:
    raise EngineRefused(f"network {network_id} has active endpoints")


class Crash(BaseException):
    """The process ends here."""


class Fuse:
    """Blows after so many steps, each of which is something that outlives the process."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left == 0:
            raise Crash
        if self.left is not None:
            self.left -= 1


class Fused:
    """A store whose commits are steps."""

    def __init__(self, inner: MemoryStore, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse
        self.get, self.read, self.wait, self.close = inner.get, inner.read, inner.wait, inner.close

    def commit(self, *changes: Change) -> bool:
        self._fuse.step()
        return self._inner.commit(*changes)


class Docker:
    """The part of an Engine that matters here, with its own ideas of what it refuses."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse
        self.wipe()

    def wipe(self) -> None:
        self.all: dict[str, NetworkShape] = {}
        self.containers: dict[str, str] = {}  # name -> network id
        self.host_network = f"host{next(ids)}"

    def named(self, name: str) -> str | None:
        return next((id_ for id_, known in self.all.items() if known.name == name), None)

    def ours(self) -> set[str]:
        return {id_ for id_, known in self.all.items() if known.driver == "flannelpy"}

    def make(self, wanted: NetworkShape) -> str:
        id_ = f"n{next(ids)}"
        self.all[id_] = wanted
        return id_

    # what the spreader asks

    def listed(self) -> list[ListedNetwork]:
        host = shape("host", driver="host")
        return [ListedNetwork(self.host_network, host), *(ListedNetwork(*known) for known in self.all.items())]

    def has_network(self, network_id: str) -> bool:
        return network_id in self.all

    def users_of(self, network_id: str, name: str = "") -> list[str]:
        return sorted(name for name, used in self.containers.items() if used == network_id)

    def create_network(self, wanted: NetworkShape) -> str:
        self._fuse.step()
        if self.named(wanted.name):
            raise EngineRefused(f"network with name {wanted.name} already exists")
        if any(known.pools == wanted.pools and known.driver == wanted.driver for known in self.all.values()):
            raise EngineRefused(f"pool {wanted.pools[0]} is already used on this host")
        id_ = self.make(NetworkShape(**plain(wanted)))
        self._fuse.step()
        return id_

    def remove_network(self, network_id: str) -> None:
        self._fuse.step()
        assert network_id in self.ours(), "a network of somebody else's was about to be removed"
        assert not self.users_of(network_id), "a network in use was about to be removed"
        del self.all[network_id]
        self._fuse.step()


class Host:
    def __init__(self, name: str, store: MemoryStore) -> None:
        self.name, self._store = name, store
        self.fuse, self.local = Fuse(), MemoryStore()
        self.docker = Docker(self.fuse)
        self.entries: Mapping[str, Entry] | None = None
        self.now = 0.0
        self.fence: Callable[[], Check] = lambda: Check(records.host_key(name), ABSENT)  # as it is: nobody beats here
        self.start()

    def start(self) -> None:
        local, store = Fused(self.local, self.fuse), Fused(self._store, self.fuse)
        self.spreader = Spreader(
            self.docker,
            store,
            Participation(local),
            self.name,
            LEASE,
            lambda: self.entries,
            self.docker.ours,
            lambda: self.fence(),
            token=lambda: f"t{next(ids)}",
            clock=lambda: self.now,
        )

    def hear(self) -> None:
        self.entries = self._store.read(NETWORKS).entries

    def look(self) -> None:
        self.hear()
        self.spreader.look()

    def crash_after(self, steps: int) -> None:
        self.fuse.left = steps
        try:
            self.spreader.look()
        except Crash:
            self.start()
        finally:
            self.fuse.left = None

    def pools_of(self, name: str) -> set[str]:
        return {str(self.docker.all[id_].pools[0]) for id_ in self.docker.ours() if self.docker.all[id_].name == name}

    def had(self, name: str) -> str | None:
        had = Participation(self.local).get(name)
        return had.network_id if had else None

    def state_of(self, name: str) -> State | None:
        outcome = self.spreader.outcomes().get(name)
        return outcome.state if outcome else None


class Cluster:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.hosts = [Host(f"h{number}", self.store) for number in (1, 2, 3)]

    def settle(self, hosts: list[Host] | None = None) -> None:
        """Everybody looks until nobody has anything left to do."""
        for _ in range(12):
            before = self.everything()
            for host in hosts or self.hosts:
                host.look()
            if self.everything() == before:
                return
        raise AssertionError("the hosts never agree")

    def everything(self) -> object:
        return dict(self.store.read("").entries), [dict(host.docker.all) for host in self.hosts]

    def record(self, name: str) -> DockerNetwork | None:
        entry = self.store.get(records.docker_network_key(name))
        return decode(DockerNetwork, entry.value) if entry else None


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_made_on_one_host_it_is_on_all_alike_and_removed_on_another_it_is_gone_everywhere(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    wanted = replace(shape("web", label="hello"), options=(("mtu", "1400"),), internal=True)
    one.docker.make(wanted)
    cluster.settle()
    assert [list(host.docker.all.values()) for host in cluster.hosts] == [[wanted]] * 3
    other.docker.all.clear()
    cluster.settle()
    assert [host.docker.all for host in cluster.hosts] == [{}, {}, {}]
    third.docker.make(shape("web", POOLS[1]))
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[1]}] * 3


def test_a_host_that_was_away_makes_and_removes_what_it_missed(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    one.docker.all.clear()
    one.docker.make(shape("db", POOLS[1]))
    cluster.settle([one, other])
    third.look()
    assert third.pools_of("web") == set()
    assert third.pools_of("db") == {POOLS[1]}
    assert cluster.record("web") == replace(cluster.record("web"), removed=True)  # type: ignore[type-var]


def test_what_is_removed_on_a_machine_that_is_none_of_the_cluster_is_removed_nowhere_else(cluster: Cluster) -> None:
    """A clone, or one that wrong settings led here."""
    one, *others = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()

    def refused() -> Check:
        raise NameTaken("somebody else beats as host h1")

    one.fence = refused
    one.docker.all.clear()
    with pytest.raises(NameTaken):
        one.look()
    cluster.settle(others)
    assert [host.pools_of("web") for host in others] == [{POOLS[0]}] * 2


def test_removed_where_nobody_needs_it_but_used_elsewhere_it_is_made_again_and_says_why(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    other.docker.containers["shop"] = str(other.docker.named("web"))
    kept = other.docker.named("web")
    one.docker.all.clear()
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}] * 3
    assert other.docker.named("web") == kept
    assert one.spreader.outcomes()["web"].why == "container shop on host h2 uses it"
    other.docker.containers.clear()
    one.docker.all.clear()
    cluster.settle()
    assert [host.docker.all for host in cluster.hosts] == [{}, {}, {}]


def test_what_was_kept_for_a_container_says_so_for_as_long_as_that_one_uses_it(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    web = str(other.docker.named("web"))
    other.docker.containers = {"shop": web, "till": web}
    one.docker.all.clear()
    cluster.settle()
    one.docker.containers["mine"] = str(one.docker.named("web"))

    def told() -> set[tuple[State, str]]:
        cluster.settle()
        return {(outcome.state, outcome.why) for host in cluster.hosts for outcome in host.spreader.outcomes().values()}

    assert told() == {(State.KEPT, "container shop on host h2 uses it")}
    token = cluster.record("web").token  # type: ignore[union-attr]
    del other.docker.containers["shop"]
    assert told() == {(State.KEPT, "container till on host h2 uses it")}
    other.docker.containers.clear()
    assert told() == {(State.SPREAD, "")}
    assert cluster.record("web").token == token  # type: ignore[union-attr]
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}] * 3


@pytest.mark.parametrize("event", [("network", "disconnect"), ("container", "destroy")])
def test_the_end_of_the_container_that_a_network_was_kept_for_is_looked_at_at_once(
    cluster: Cluster, event: tuple[str, str]
) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    other.docker.containers["shop"] = str(other.docker.named("web"))
    one.docker.all.clear()
    cluster.settle()
    other.spreader._news.clear()
    other.spreader.event(Event(*event, "x", {"name": "web"}, 0))
    assert other.spreader._news.is_set()


def test_of_two_networks_of_one_name_the_first_wins_and_the_other_stays_while_it_is_used(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    one.docker.make(shape("web", POOLS[0]))
    second = other.docker.make(shape("web", POOLS[1]))
    other.docker.containers["shop"] = second
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}, {POOLS[1]}, {POOLS[0]}]
    assert other.spreader.outcomes()["web"].why == (
        "host h1 made another network of this name, with 10.240.0.0/18; here container shop uses the one with "
        "10.241.0.0/18"
    )
    other.docker.containers.clear()
    cluster.settle()
    assert [host.pools_of("web") for host in (one, other, third)] == [{POOLS[0]}] * 3


def test_made_at_once_with_one_pool_and_other_labels_both_stay_and_it_is_told(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web", label="one"))
    mine = other.docker.make(shape("web", label="other"))
    cluster.settle()
    assert list(other.docker.all) == [mine]
    assert other.spreader.outcomes()["web"].why == "made here with other labels than on h1, and left so"


def test_removed_and_made_anew_before_anybody_looked_it_is_the_new_one_everywhere(cluster: Cluster) -> None:
    one = cluster.hosts[0]
    one.docker.make(shape("web", label="old"))
    cluster.settle()
    one.docker.all.clear()
    one.docker.make(shape("web", POOLS[1], label="new"))
    cluster.settle()
    assert [list(host.docker.all.values()) for host in cluster.hosts] == [[shape("web", POOLS[1], "new")]] * 3


@pytest.mark.parametrize(("used", "left"), [(False, POOLS[0]), (True, POOLS[1])])
def test_where_docker_made_two_of_a_name_the_one_nobody_uses_goes(cluster: Cluster, used: bool, left: str) -> None:
    """The cluster's stays if neither is used."""
    one, other, _ = cluster.hosts
    one.docker.make(shape("web", POOLS[0]))
    cluster.settle()
    second = other.docker.make(shape("web", POOLS[1]))
    other.docker.containers |= {"shop": second} if used else {}
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}, {left}, {POOLS[0]}]
    assert one.pools_of("web") == {POOLS[0]}


def test_a_network_that_stays_after_all_is_still_had(cluster: Cluster) -> None:
    """Else the user's removal of it is taken for one that was never here, and it is made again."""
    one = cluster.hosts[0]
    first = one.docker.make(shape("web"))
    cluster.settle()
    one.docker.containers["user"] = one.docker.make(shape("web", POOLS[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one.docker, "remove_network", refuse)
        one.look()
    assert one.had("web") == first


def test_one_network_that_gets_no_answer_keeps_no_other_waiting(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("a"))
    one.docker.make(shape("b", POOLS[1]))
    cluster.settle([one])
    create = other.docker.create_network

    def hang(wanted: NetworkShape) -> str:
        if wanted.name == "a":
            raise EngineUnavailable("no answer in time")
        return create(wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other.docker, "create_network", hang)
        other.look()
    assert other.state_of("a") is State.FAILED
    assert other.state_of("b") is State.SPREAD
    cluster.settle()
    assert other.state_of("a") is State.SPREAD


def test_docker_tells_nothing_new_of_a_network_that_was_made_for_the_cluster(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle([one])
    other.look()
    created = Event("network", "create", other.docker.named("web") or "", {"name": "web"}, 1)
    other.spreader._news.clear()
    other.spreader.event(created)
    assert not other.spreader._news.is_set()
    other.spreader.event(created)  # this one is the user's
    assert other.spreader._news.is_set()


@pytest.mark.parametrize("action", ["destroy", "resync"])
def test_a_creation_that_docker_never_told_of_hides_no_later_one(cluster: Cluster, action: str) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle([one])
    other.look()
    if action == "resync":
        other.spreader.resync()
    else:
        other.spreader.event(Event("network", action, "n1", {"name": "web"}, 1))
    other.spreader._news.clear()
    other.spreader.event(Event("network", "create", "n2", {"name": "web"}, 1))
    assert other.spreader._news.is_set()


def test_what_failed_is_tried_again_after_the_short_pause_first(cluster: Cluster) -> None:
    spreader, pauses = cluster.hosts[0].spreader, list[float | None]()

    def wait(timeout: float | None = None) -> bool:
        pauses.append(timeout)
        if len(pauses) == 3:
            spreader._stopping.set()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spreader, "_attempt", lambda: False)
        patch.setattr(spreader._news, "wait", wait)
        spreader._run()
    assert pauses == [RETRY, 2 * RETRY, 4 * RETRY]


def test_a_record_that_did_not_change_is_read_once() -> None:
    removed = encode(DockerNetwork(**plain(shape("web")), token="t", host="h1", removed=True))
    assert read(Entry(removed, 1)) is read(Entry(bytes(bytearray(removed)), 2))
    assert read(Entry(b"{}", 1)) is None


def test_a_foreign_network_of_that_name_is_left_alone_and_told(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    other.docker.make(shape("web", driver="bridge"))
    one.docker.make(shape("web"))
    cluster.settle()
    assert list(other.docker.all.values()) == [shape("web", driver="bridge")]
    assert other.state_of("web") is State.FOREIGN
    other.docker.all.clear()
    cluster.settle()
    assert other.pools_of("web") == {POOLS[0]}


def test_a_lost_docker_directory_removes_nothing_elsewhere_and_is_filled_again(cluster: Cluster) -> None:
    one = cluster.hosts[0]
    one.docker.make(shape("web"))
    cluster.settle()
    one.docker.wipe()
    one.start()
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}] * 3


def test_a_docker_that_does_not_list_all_its_networks_yet_removes_none_anywhere(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    before = cluster.everything()
    whole = other.docker.listed
    other.start()  # the host has rebooted
    other.docker.listed = list  # type: ignore[method-assign]
    with pytest.raises(EngineUnavailable):
        other.look()
    other.docker.listed = lambda: whole()[:1]  # type: ignore[method-assign]
    other.look()
    cluster.settle([one])
    assert cluster.everything() == before
    other.docker.listed = whole  # type: ignore[method-assign]
    cluster.settle()
    assert cluster.everything() == before
    assert [host.state_of("web") for host in cluster.hosts] == [State.SPREAD] * 3


def test_a_host_that_reboots_without_the_store_leaves_its_networks_alone(cluster: Cluster) -> None:
    one, other, _ = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    before = cluster.everything()
    other.start()
    other.entries = None
    other.spreader.look()
    assert cluster.everything() == before


def test_a_store_that_was_emptied_removes_nothing(cluster: Cluster) -> None:
    cluster.hosts[0].docker.make(shape("web"))
    cluster.settle()
    empty = MemoryStore()
    for host in cluster.hosts:
        host._store = empty
        host.start()
        host.look()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}] * 3
    assert cluster.hosts[0].state_of("web") is State.UNKNOWN


def test_a_removal_is_forgotten_when_the_last_host_has_left_the_network(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle()
    one.docker.all.clear()
    cluster.settle()
    peer = records.peer_key(ip_network(POOLS[0]), "h9")
    cluster.store.commit(Put(peer, b"{}", ABSENT))
    for now in (REST * 3, REST * 6):
        for host in cluster.hosts:
            host.now = now
            host.look()
        assert cluster.record("web") is not None
    cluster.store.commit(*(Delete(peer, entry.version) for entry in [cluster.store.get(peer)] if entry))
    for host in (other, third, one):
        host.look()
    assert cluster.record("web") is None


def test_removals_of_networks_whose_pool_another_has_cost_one_question_and_are_forgotten_in_the_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pool that is free is taken again and again, and may never be without peers."""
    one, names = cluster.hosts[0], ("web1", "web2", "web3")
    for name in names:
        one.docker.make(shape(name))
        cluster.settle()
        one.docker.all.clear()
        cluster.settle()
    cluster.store.commit(Put(records.peer_key(ip_network(POOLS[0]), "h1"), b"{}", ABSENT))
    asked = list[str]()

    def read(prefix: str) -> Snapshot:
        asked.append(prefix)
        return cluster.store.read(prefix)

    monkeypatch.setattr(one.spreader._removals._store, "read", read)
    one.now = 3 * REST
    one.look()
    assert all(map(cluster.record, names))
    assert asked == [records.peers_prefix(ip_network(POOLS[0]))]
    one.now = LEASE + 3 * REST
    one.look()
    assert not any(map(cluster.record, names))


def test_what_this_host_told_the_others_holds_before_it_hears_of_it_itself(cluster: Cluster) -> None:
    one = cluster.hosts[0]
    one.docker.make(shape("web"))
    cluster.settle()
    one.docker.all.clear()
    for _ in range(3):
        one.spreader.look()
        assert one.docker.all == {}


def test_removing_an_old_network_does_not_remove_the_new_one_of_that_name(cluster: Cluster) -> None:
    one, other, late = cluster.hosts
    one.docker.make(shape("web", label="old"))
    cluster.settle()
    one.docker.all.clear()
    cluster.settle([one, other])
    one.docker.make(shape("web", label="new"))
    cluster.settle([one, other])
    late.docker.all.clear()
    cluster.settle()
    assert [list(host.docker.all.values()) for host in cluster.hosts] == [[shape("web", label="new")]] * 3


def interrupted(steps: int) -> tuple[Cluster, Host]:
    """A cluster with a network, and a host that died after so many steps of making it, some of which took place."""
    cluster = Cluster()
    one, other, late = cluster.hosts
    one.docker.make(shape("web"))
    cluster.settle([one, other])
    late.hear()
    late.crash_after(steps)
    return cluster, late


STEPS = range(7)  # more than there are


@pytest.mark.parametrize("steps", STEPS)
def test_interrupted_while_it_makes_a_network_a_host_makes_it_later(steps: int) -> None:
    cluster, late = interrupted(steps)
    cluster.settle()
    assert late.pools_of("web") == {POOLS[0]}
    assert cluster.record("web").host == "h1"  # type: ignore[union-attr]


@pytest.mark.parametrize("steps", STEPS)
def test_interrupted_while_it_makes_a_network_that_is_then_removed_a_host_does_not_bring_it_back(steps: int) -> None:
    cluster, _ = interrupted(steps)
    cluster.hosts[0].docker.all.clear()
    cluster.settle(cluster.hosts[:2])
    cluster.settle()
    assert [host.docker.all for host in cluster.hosts] == [{}, {}, {}]


@pytest.mark.parametrize("steps", STEPS)
def test_interrupted_while_it_replaces_a_network_a_host_removes_it_nowhere_else(steps: int) -> None:
    cluster = Cluster()
    one, other, late = cluster.hosts
    one.docker.make(shape("web", POOLS[0]))
    late.docker.make(shape("web", POOLS[1]))
    cluster.settle([one, other])
    late.hear()
    late.crash_after(steps)
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}] * 3


@pytest.mark.parametrize("steps", STEPS)
def test_interrupted_while_it_announces_or_withdraws_a_host_does_it_later(steps: int) -> None:
    cluster = Cluster()
    one = cluster.hosts[0]
    one.docker.make(shape("web"))
    one.hear()
    one.crash_after(steps)
    cluster.settle()
    assert [host.pools_of("web") for host in cluster.hosts] == [{POOLS[0]}] * 3
    one.docker.all.clear()
    one.crash_after(steps)
    cluster.settle()
    assert [host.docker.all for host in cluster.hosts] == [{}, {}, {}]


# --- any history

names, pools, hosts = st.sampled_from(("web", "db")), st.sampled_from(POOLS), st.integers(0, 2)


class Histories(RuleBasedStateMachine):
    """Users and crashes in any order; hosts look when it pleases them, at what they last heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.foreign: list[tuple[Docker, str]] = []

    @rule(at=hosts, name=names, pool=pools, label=st.sampled_from(("", "x")))
    def create(self, at: int, name: str, pool: str, label: str) -> None:
        docker = self.cluster.hosts[at].docker
        if docker.named(name) is None and not any(str(known.pools[0]) == pool for known in docker.all.values()):
            docker.make(shape(name, pool, label))

    @rule(at=hosts, name=names, pool=pools)
    def create_twice(self, at: int, name: str, pool: str) -> None:
        """Docker only looks for the name before it begins."""
        docker = self.cluster.hosts[at].docker
        if not any(str(known.pools[0]) == pool for known in docker.all.values()):
            docker.make(shape(name, pool))

    @rule(at=hosts, name=names)
    def create_foreign(self, at: int, name: str) -> None:
        docker = self.cluster.hosts[at].docker
        if docker.named(name) is None:
            self.foreign.append((docker, docker.make(shape(name, "192.168.7.0/24", driver="bridge"))))

    @rule(at=hosts, name=names)
    def remove(self, at: int, name: str) -> None:
        docker = self.cluster.hosts[at].docker
        network = docker.named(name)
        if network and not docker.users_of(network):
            del docker.all[network]
            self.foreign = [one for one in self.foreign if one[1] != network]

    @rule(at=hosts, name=names)
    def run_container(self, at: int, name: str) -> None:
        docker = self.cluster.hosts[at].docker
        if network := docker.named(name):
            docker.containers[f"c{next(ids)}"] = network

    @rule(at=hosts)
    def remove_containers(self, at: int) -> None:
        self.cluster.hosts[at].docker.containers.clear()

    @rule(at=hosts)
    def hear(self, at: int) -> None:
        self.cluster.hosts[at].hear()

    @rule(at=hosts)
    def look(self, at: int) -> None:
        self.cluster.hosts[at].spreader.look()

    @rule(at=hosts, steps=st.integers(0, 6))
    def crash(self, at: int, steps: int) -> None:
        self.cluster.hosts[at].crash_after(steps)

    @rule(at=hosts)
    def lose_docker(self, at: int) -> None:
        docker = self.cluster.hosts[at].docker
        self.foreign = [one for one in self.foreign if one[0] is not docker]
        docker.wipe()

    @invariant()
    def foreign_networks_stay(self) -> None:
        assert all(network in docker.all for docker, network in self.foreign)

    @rule()
    def agree(self) -> None:
        """Left alone, all hosts have what the cluster has, or say why not."""
        self.cluster.settle()
        for name in ("web", "db"):
            record = self.cluster.record(name)
            for host in self.cluster.hosts:
                if host.state_of(name) is State.AMBIGUOUS:
                    assert len(host.pools_of(name)) > 1
                elif record is None or record.removed:
                    assert host.pools_of(name) == set()
                elif host.pools_of(name) != {str(record.pools[0])}:
                    assert host.state_of(name) in (State.CONFLICT, State.FOREIGN, State.FAILED)

    @rule(by=hosts, away=hosts, name=names)
    def removed_is_removed(self, by: int, away: int, name: str) -> None:
        """Also when a host hears of it late."""
        self.cluster.settle()
        record, users = self.cluster.record(name), [host.docker.containers for host in self.cluster.hosts]
        docker = self.cluster.hosts[by].docker
        network = docker.named(name)
        if record is None or record.removed or any(users) or network not in docker.ours() or away == by:
            return
        if any(host.pools_of(name) - {str(record.pools[0])} for host in self.cluster.hosts):
            return
        del docker.all[network]
        self.cluster.settle([host for number, host in enumerate(self.cluster.hosts) if number != away])
        self.cluster.settle()
        assert [host.pools_of(name) for host in self.cluster.hosts] == [set(), set(), set()]

    def teardown(self) -> None:
        self.agree()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
